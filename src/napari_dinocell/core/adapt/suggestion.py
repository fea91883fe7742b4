"""Where to annotate next: the part of a plane in which the model is least sure."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from napari_dinocell.core.adapt.loss import basin_peaks
from napari_dinocell.core.instances import LEVELS, ThresholdTree
from napari_dinocell.core.prediction import Thresholds

FloatArray = npt.NDArray[np.float64]

_WIDTH = 0.1  # of the map: at this distance from a threshold a height is still open to doubt
_LEAST = 0.05  # doubts of all places together that are worth a look


@dataclass(frozen=True)
class Suggestion:
    """A part of a plane, and why.

    Attributes
    ----------
    window : (slice, slice)
        y, x in px.
    doubt : float
        Sum over the markers and saddles in it, each in [0, 1].
    n_markers, n_saddles : int
        Markers of which it is doubtful whether they are cells, and pairs of which it is doubtful
        whether they are two (doubt above one half).
    """

    window: tuple[slice, slice]
    doubt: float
    n_markers: int
    n_saddles: int


def suggest(
    tree: ThresholdTree,
    at: Thresholds,
    *,
    known: npt.NDArray[np.bool_] | None = None,
    side: int = 128,
) -> Suggestion | None:
    """Window of a plane with the most ambiguous structure.

    Parameters
    ----------
    tree : ThresholdTree
        Of the plane's map.
    at : Thresholds
        In use.
    known : (Y, X) bool array, optional
        Where something is annotated already: basins with their maximum there are not in doubt.
    side : int
        Of the window, px; smaller where the plane is.

    Returns
    -------
    Suggestion or None
        None where nothing is in doubt.

    Raises
    ------
    ValueError
        If `known` has another shape, or `side` is not positive.

    Notes
    -----
    A threshold that moves by as much as people move it decides about what lies near it. For a
    basin of height h and the saddle s to a higher one, with ``near(v) = exp(-(v / 0.1)^2)``::

        is it a cell?           near(h - peak)
        one cell or two?        max(near(s - peak), near(h - s - min_prominence)) if h > peak

    times min(1, (h - s) / max(min_prominence, 0.05)), so that ripples do not count.
    Both lie at the maximum of the basin, and the window is the one with the largest sum.
    Basins that no threshold in reach would show (height below fill) are not in doubt.
    """
    if side < 1:
        raise ValueError(f"Side is {side} px; it must be at least 1.")
    if known is not None and known.shape != tree.shape:
        raise ValueError(f"Known places have the shape {known.shape}, the plane has {tree.shape}.")
    markers, saddles = _doubts(tree, at)
    peaks = basin_peaks(tree)
    if known is not None:
        is_known = np.zeros(len(peaks), bool)
        is_known[1:] = known.ravel()[peaks[1:]]
        markers[is_known] = saddles[is_known] = 0
    doubt = np.zeros(tree.quantized.size)
    doubt[peaks[1:]] = np.maximum(markers, saddles)[1:]
    window = _best_window(doubt.reshape(tree.shape), side)
    inside = np.zeros(tree.shape, bool)
    inside[window] = True
    chosen = np.zeros(len(peaks), bool)
    chosen[1:] = inside.ravel()[peaks[1:]]
    total = float(np.maximum(markers, saddles)[chosen].sum())
    if total < _LEAST:
        return None
    return Suggestion(
        window, total, int((markers[chosen] > 0.5).sum()), int((saddles[chosen] > 0.5).sum())
    )


def _doubts(tree: ThresholdTree, at: Thresholds) -> tuple[FloatArray, FloatArray]:
    """For each basin the doubt about its marker, and about its saddle to a higher one."""
    heights = tree.heights / LEVELS
    saddles = _saddles_to_higher(tree) / LEVELS
    prominence = heights - saddles
    # A ripple on the top of a cell is no second cell at any threshold.
    stands_out = np.clip(prominence / max(at.min_prominence, _WIDTH / 2), 0, 1)
    markers = _near(heights - at.peak) * stands_out
    markers[heights <= at.fill] = 0
    pairs = np.maximum(_near(saddles - at.peak), _near(prominence - at.min_prominence)) * stands_out
    pairs[(heights <= at.peak) | (saddles <= at.fill)] = 0
    markers[0] = pairs[0] = 0
    return markers, pairs


def _saddles_to_higher(tree: ThresholdTree) -> FloatArray:
    """For each basin the highest saddle on the way to a higher one, in levels; 0 for none."""
    parents = list(range(len(tree.heights)))

    def root(basin: int) -> int:
        while parents[basin] != basin:
            parents[basin] = parents[parents[basin]]
            basin = parents[basin]
        return basin

    saddles = np.zeros(len(parents))
    for first, second, saddle in zip(*(part.tolist() for part in tree.edges), strict=True):
        # Basins are numbered by descending height: of two groups the smaller number is higher.
        high, low = sorted((root(first), root(second)))
        saddles[low] = saddle
        parents[low] = high
    return saddles


def _near(difference: FloatArray) -> FloatArray:
    return np.asarray(np.exp(-((difference / _WIDTH) ** 2)))


def _best_window(doubt: FloatArray, side: int) -> tuple[slice, slice]:
    """Window with the largest sum; among equals one with the doubt in its middle."""
    sums = np.pad(doubt.cumsum(0).cumsum(1), ((1, 0), (1, 0)))
    height, width = (min(side, length) for length in doubt.shape)
    inside = (
        sums[height:, width:]
        - sums[:-height, width:]
        - sums[height:, :-width]
        + sums[:-height, :-width]
    )
    best = inside >= inside.max() - 1e-9
    labels, _ = ndimage.label(best)
    places = np.argwhere(labels == labels[np.unravel_index(int(np.argmax(best)), best.shape)])
    middle = places[np.argmin(((places - places.mean(axis=0)) ** 2).sum(axis=1))]
    top, left = (int(start) for start in middle)
    return slice(top, top + height), slice(left, left + width)
