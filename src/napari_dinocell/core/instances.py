"""Distance map to cells, for any pair of thresholds, at the pace of a moving slider.

Cells are what a marker watershed gives: markers are the connected components of map > peak, the
region is map > fill, and the region is flooded from the markers downhill. Flooding takes seconds on
a large plane and has to be done only once: the basins of all local maxima and the saddles between
them hold the answer for every (peak, fill).
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from napari_dinocell.core.confidence import ConfidenceFit, auroc, confidence, fit_confidence
from napari_dinocell.core.flood import Edges, find_basins, find_saddles
from napari_dinocell.core.levels import FLOOR, LEVELS, level, quantize
from napari_dinocell.core.lookup import count_pixels, group_basins, paint, rename

__all__ = [
    "FLOOR",
    "LEVELS",
    "ConfidenceFit",
    "Cut",
    "ThresholdTree",
    "auroc",
    "confidence",
    "fit_confidence",
    "flood",
    "quantize",
    "warm_up",
]

MapArray = npt.NDArray[np.uint16]
IntArray = npt.NDArray[np.int32]
FloatArray = npt.NDArray[np.float64]
Window = tuple[slice, slice]


@dataclass(frozen=True)
class Cut:
    """Cells at one pair of thresholds.

    The table (`ids`, `areas`, `heights`, `prominences`, `means`: one entry per cell, highest cell
    first) is that of the whole plane, also where `labels` is only a window of it.

    Attributes
    ----------
    labels : (Y, X) int32 array, or the array given as `out`
        0 for background, otherwise the id of the cell.
    ids : (n,) int32 array
        Increasing, not consecutive. A cell keeps its id as long as its highest basin is the same.
    areas : (n,) int64 array
        Pixels.
    heights : (n,) float64 array
        Maximum of the map in the cell.
    prominences : (n,) float64 array
        Height minus the highest saddle to another cell, also one below fill; height if there is
        none.
    means : (n,) float64 array
        Mean of the map over the cell.
    """

    labels: npt.NDArray[np.integer]
    ids: IntArray
    areas: npt.NDArray[np.int64]
    heights: FloatArray
    prominences: FloatArray
    means: FloatArray


@dataclass(frozen=True)
class ThresholdTree:
    """Basins of one map and the saddles between them: every segmentation that thresholds can give.

    Invariant: basins are numbered by descending height from 1, so that the representative of any
    group, its smallest number, is its highest basin.

    Attributes
    ----------
    quantized : (Y, X) uint16 array
        The map, 65535 for 1. Thresholds compare with these values.
    basins : (Y, X) int32 array
        Basin of each pixel, 0 at and below `FLOOR`.
    heights : (n + 1,) uint16 array
        Maximum of each basin, 0 for background.
    edges : tuple of (m,) int32, (m,) int32 and (m,) uint16 arrays
        Maximum spanning forest of the touching basins, by descending saddle.
    """

    quantized: MapArray
    basins: IntArray
    heights: MapArray
    edges: Edges = field(repr=False)
    # Pixels and sums per basin at the fill asked for last: a move of peak needs no new count.
    _counts: dict[int, tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]] = field(
        default_factory=dict, repr=False, compare=False
    )

    @property
    def shape(self) -> tuple[int, int]:
        """Height and width of the plane (px)."""
        height, width = self.quantized.shape
        return height, width

    def cut(
        self,
        peak: float,
        fill: float,
        *,
        min_area: int = 0,
        min_prominence: float = 0.0,
        window: Window | None = None,
        out: npt.NDArray[np.integer] | None = None,
    ) -> Cut:
        """Cells at a pair of thresholds.

        Parameters
        ----------
        peak, fill : float
            ``FLOOR <= fill < peak < 1``. A cell holds a pixel above peak and ends where the map
            is at or below fill.
        min_area : int, default 0
            Pixels. A smaller cell becomes background.
        min_prominence : float, default 0
            In [0, 1]. A cell whose height is less than this above its saddle to a neighbor that it
            touches joins that neighbor. 0 joins nothing.
        window : pair of slices (y, x), optional
            Part of the plane to return labels of. Cells and table are those of the whole plane.
        out : (Y, X) int array, optional
            Array of the window's shape to write the labels into, for example the uint16 data of a
            layer. By default a new int32 array.

        Returns
        -------
        Cut

        Raises
        ------
        ValueError
            If a threshold, filter or window is out of range, `out` has another shape, or an id
            doesn't fit into the dtype of `out`.

        Notes
        -----
        With the filters off: the same foreground and one cell per marker as
        ``skimage.segmentation.watershed(-quantized, markers, mask=quantized > fill,
        connectivity=2)`` with 8-connected markers. Single pixels on the border between two cells
        may go to the other one, because a pixel climbs to its highest neighbor here, and goes to
        the neighbor that was flooded first there.
        """
        _check_thresholds(peak, fill, min_area, min_prominence)
        y, x = _checked_window(window, self.shape)
        peak_level, fill_level = level(peak), level(fill)
        groups, saddles = group_basins(
            self.heights, *self.edges, peak_level, fill_level, min_prominence * LEVELS
        )
        pixels, sums = self._count(fill_level)
        areas = np.bincount(groups, pixels, len(groups)).astype(np.int64)
        totals = np.bincount(groups, sums, len(groups))
        keep = areas >= max(min_area, 1)
        keep[0] = False
        ids = np.flatnonzero(keep).astype(np.int32)
        names = np.where(keep[groups], groups, 0).astype(np.int32)
        if out is None:
            out = np.empty((y.stop - y.start, x.stop - x.start), np.int32)
        _check_out(out, (y.stop - y.start, x.stop - x.start), int(ids[-1]) if len(ids) else 0)
        paint(self.quantized[y, x], self.basins[y, x], fill_level, names.astype(out.dtype), out)
        heights = self.heights[ids].astype(np.int64)
        return Cut(
            labels=out,
            ids=ids,
            areas=areas[ids],
            heights=heights / LEVELS,
            prominences=(heights - saddles[ids]) / LEVELS,
            means=totals[ids] / (areas[ids] * LEVELS),
        )

    def _count(self, level: int) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
        """Pixels above a level and the sum of their values, per basin."""
        counts = self._counts.get(level)
        if counts is None:
            counts = count_pixels(self.quantized, self.basins, level, len(self.heights))
            self._counts.clear()
            self._counts[level] = counts
        return counts


def flood(distance: npt.ArrayLike) -> ThresholdTree:
    """Build the tree of a distance map: the slow step, once per plane.

    Parameters
    ----------
    distance : (Y, X) float array in [0, 1], or uint16 array
        Floats are rounded to uint16 once (see `quantize`); a uint16 map is taken as it is and not
        copied, unless it is read-only or not contiguous.

    Returns
    -------
    ThresholdTree

    Raises
    ------
    TypeError, ValueError
        As `quantize`.

    Notes
    -----
    Linear in pixels, plus a sort of the pixel pairs at borders between basins. Memory beyond the
    result: one byte per pixel and at most about 100 MB for the pairs, more only where the number
    of basins demands it.
    """
    quantized = quantize(distance)
    if quantized.size == 0:
        none = np.empty(0, np.int32)
        edges = (none, none, np.empty(0, np.uint16))
        return ThresholdTree(
            quantized, np.zeros(quantized.shape, np.int32), np.zeros(1, np.uint16), edges
        )
    basins, heights = find_basins(quantized, level(FLOOR))
    edges = find_saddles(quantized, basins, len(heights) - 1)
    return ThresholdTree(quantized, basins, heights, edges)


def warm_up() -> None:
    """Compile the kernels, or load them from the cache, so that the first real plane is fast."""
    tree = flood(np.linspace(0, 1, 36, dtype=np.float32).reshape(6, 6))
    for dtype in (np.int32, np.uint16):
        # A window of a wider array has another memory layout, which is compiled for itself.
        tree.cut(0.5, 0.1, out=np.empty((6, 6), dtype))
        tree.cut(0.5, 0.1, window=(slice(1, 3), slice(1, 3)), out=np.empty((2, 2), dtype))
        for part in (np.zeros((6, 6), dtype), np.zeros((6, 6), dtype)[1:3, 1:3]):
            rename(part, np.zeros(1, dtype))


def _check_thresholds(peak: float, fill: float, min_area: int, min_prominence: float) -> None:
    if not FLOOR <= fill < 1:
        raise ValueError(f"Fill is {fill}; it must be between {FLOOR} and 1.")
    if not peak < 1:
        raise ValueError(f"Peak is {peak}; it must be below 1.")
    if not fill < peak:
        raise ValueError(f"Peak {peak} is not above fill {fill}; peak must be larger.")
    if min_area < 0:
        raise ValueError(f"Minimum area is {min_area}; it must be 0 or more pixels.")
    if not 0 <= min_prominence <= 1:
        raise ValueError(f"Minimum prominence is {min_prominence}; it must be in [0, 1].")


def _checked_window(window: Window | None, shape: tuple[int, int]) -> Window:
    if window is None:
        return slice(0, shape[0]), slice(0, shape[1])
    if any(part.step not in (None, 1) for part in window):
        raise ValueError(f"Window {window} has steps; give slices without.")
    bounds = [part.indices(size)[:2] for part, size in zip(window, shape, strict=True)]
    (top, bottom), (left, right) = bounds
    return slice(top, max(top, bottom)), slice(left, max(left, right))


def _check_out(out: npt.NDArray[np.integer], shape: tuple[int, int], highest: int) -> None:
    if out.shape != shape:
        raise ValueError(f"Out has shape {out.shape}; the labels have {shape}.")
    if out.dtype.kind not in "iu":
        raise ValueError(f"Out is {out.dtype}; labels need an integer array.")
    if highest > np.iinfo(out.dtype).max:
        raise ValueError(f"Out is {out.dtype}, too small for id {highest}; give int32.")
