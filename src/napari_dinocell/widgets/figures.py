"""Figures of the cells in view, as one line of text."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

__all__ = ["figures_text"]

_JOINT = "\N{NO-BREAK SPACE}"


def figures_text(
    areas: npt.NDArray[np.integer],
    shape: tuple[int, int],
    pixel_size_um: tuple[float, float] | None,
    n_planes: int = 1,
) -> str:
    """Number of cells of a plane, their mean area and the share of the plane that they cover.

    Parameters
    ----------
    areas : (n,) array
        Pixels.
    shape : (int, int)
        Of the plane, px.
    pixel_size_um : (float, float) or None
        Gives the area in µm² instead of pixels.
    n_planes : int
        That the image has: of one among others it is said.
    """
    count = len(areas)
    where = " in this plane" if n_planes > 1 else ""
    if not count:
        return f"No cells{where} at these thresholds."
    noun = ("cell" if count == 1 else "cells") + where
    mean = float(areas.mean())
    if pixel_size_um is None:
        area = f"{mean:,.0f}{_JOINT}px"
    else:
        area = f"{mean * pixel_size_um[0] * pixel_size_um[1]:,.3g}{_JOINT}µm²"
    share = 100 * float(areas.sum()) / max(shape[0] * shape[1], 1)
    return f"{count:,} {noun} · mean area {area} · confluency{_JOINT}{share:.0f}{_JOINT}%"
