"""From a cut to the cells that are shown: sure enough, and not corrected already."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from napari.utils.colormaps import CyclicLabelColormap

if TYPE_CHECKING:
    from napari_dinocell.core.instances import Cut

__all__ = ["Screened", "confidence_colors", "screen", "verified_areas"]

Plane = npt.NDArray[np.integer]

# Orange, light gray, blue: told apart with any kind of color vision.
_TONES = np.array([(1.0, 0.55, 0.0, 1.0), (0.85, 0.85, 0.85, 1.0), (0.1, 0.4, 1.0, 1.0)])
_MOST_COLORS = 65535  # napari's colormaps hold no more


@dataclass(frozen=True, eq=False)
class Screened:
    """Cells of a preview's plane that are shown.

    Attributes
    ----------
    cut : Cut
        Without the cells that are not sure enough.
    areas : (n,) int64 array
        What is left of each cell of the cut where corrected cells were given way to, px.
    chances : (n,) float64 array or None
        Confidence of each; None where the model tells none.
    """

    cut: Cut
    areas: npt.NDArray[np.int64]
    chances: npt.NDArray[np.float64] | None


def screen(
    labels: Plane,
    cut: Cut,
    corrected: Plane | None,
    coefficients: Mapping[str, float],
    least: float,
) -> Screened:
    """Leave out, in place, cells that are not sure enough and what corrections say better.

    Parameters
    ----------
    labels : (Y, X) int array
        Cells of the cut; a window of the plane does as well.
    cut : Cut
    corrected : (Y, X) int array, optional
        The same pixels of the corrected layer.
    coefficients : mapping
        Of the model's formula for the confidence; empty if it has none.
    least : float
        Confidence that a cell must have.
    """
    chances = None
    if coefficients:
        confidence = import_module("napari_dinocell.core.confidence")
        cut = confidence.drop_uncertain(cut, coefficients, least, labels)
        chances = confidence.confidence(cut, coefficients)
    areas = cut.areas
    if corrected is not None:
        precedence = import_module("napari_dinocell.core.precedence")
        areas = precedence.give_way(labels, corrected, cut.ids, areas)
    return Screened(cut, areas, chances)


def verified_areas(corrected: Plane) -> npt.NDArray[np.int64]:
    """Areas (px) of the cells that a person has corrected or accepted."""
    first = import_module("napari_dinocell.core.corrections").FIRST_VERIFIED
    # Corrections are few pixels of a plane, and counting takes a copy of what it counts.
    areas = np.bincount(corrected[corrected >= first])
    return areas[areas > 0]


def confidence_colors(shown: Screened) -> Any:
    """Colormap from orange for unsure cells over gray to blue for sure ones.

    Raises
    ------
    ValueError
        If the ids are too large for napari's colormaps.
    """
    assert shown.chances is not None
    ids = shown.cut.ids
    highest = int(ids[-1]) if len(ids) else 1
    if highest > _MOST_COLORS:
        raise ValueError(
            f"Cells cannot be colored by confidence: their ids go up to {highest}, and napari "
            f"colors {_MOST_COLORS}. Segment a part of the image, or raise peak."
        )
    colors = np.zeros((highest + 1, 4), np.float32)
    for channel in range(4):
        colors[ids, channel] = np.interp(shown.chances, (0, 0.5, 1), _TONES[:, channel])
    return CyclicLabelColormap(colors=colors)
