"""Figures of the cells in view, as one line of text."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

__all__ = ["figures_text"]


def figures_text(
    areas: npt.NDArray[np.integer],
    shape: tuple[int, int],
    pixel_size_um: tuple[float, float] | None,
) -> str:
    """Number of cells, their mean area and the share of the plane that they cover.

    Parameters
    ----------
    areas : (n,) array
        Pixels.
    shape : (int, int)
        Of the plane, px.
    pixel_size_um : (float, float) or None
        Gives the area in µm² instead of pixels.
    """
    count = len(areas)
    if not count:
        return "No cells at these thresholds."
    noun = "cell" if count == 1 else "cells"
    mean = float(areas.mean())
    if pixel_size_um is None:
        area = f"{mean:,.0f} px"
    else:
        area = f"{mean * pixel_size_um[0] * pixel_size_um[1]:,.3g} µm²"
    share = 100 * float(areas.sum()) / max(shape[0] * shape[1], 1)
    return f"{count:,} {noun} · mean area {area} · confluency {share:.0f} %"
