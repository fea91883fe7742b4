"""Predicted maps beside the annotation that judges them: any thresholds at the pace of a look-up.

All maps are flooded together, one below the other. Pixels are counted once per fill; a peak changes
nothing but which basins belong together.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from napari_dinocell.core.adapt.loss import basin_peaks
from napari_dinocell.core.adapt.score import Tally
from napari_dinocell.core.instances import LEVELS, ThresholdTree, flood
from napari_dinocell.core.levels import level
from napari_dinocell.core.lookup import group_basins
from napari_dinocell.core.overlaps import compact
from napari_dinocell.core.prediction import Thresholds

LabelArray = npt.NDArray[np.int32]
MapArray = npt.NDArray[np.uint16]
Mask = npt.NDArray[np.bool_]
Counts = npt.NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class View:
    """One predicted map and what is known there.

    Attributes
    ----------
    map : (Y, X) uint16 array
    cells : (Y, X) int32 array
        The cells that count, by id.
    background : (Y, X) bool array
        Where a marker is false.
    """

    map: MapArray
    cells: LabelArray
    background: Mask


@dataclass(frozen=True, eq=False)
class Judged:
    """Views stacked along Y, with a row of 0 between them, so that no basin enters the next one.

    Attributes
    ----------
    tree : ThresholdTree
    cells : (Y, X) int32 array
        Numbered from 1: those of one view after those of the other, by ascending id.
    background : (Y, X) bool array
    """

    tree: ThresholdTree
    cells: LabelArray
    background: Mask
    # Pixels of each basin and of each overlap above a fill.
    _counted: dict[int, tuple[Counts, Counts]] = field(default_factory=dict, repr=False)

    @classmethod
    def of(cls, views: Sequence[View]) -> Judged:
        """Flood the maps of some views."""
        cells, n_cells = [], 0
        for view in views:
            ids, _, ranks = compact(view.cells.ravel())
            cells.append(np.where(ranks > 0, ranks + n_cells, 0).reshape(view.cells.shape))
            n_cells += len(ids)
        return cls(
            flood(_stacked([view.map for view in views], np.uint16)),
            _stacked(cells, np.int32),
            _stacked([view.background for view in views], np.bool_),
        )

    def tally(self, at: Thresholds) -> Tally:
        """Count at some thresholds."""
        basin_areas, overlaps = self._count(level(at.fill))
        levels = level(at.peak), level(at.fill), at.min_prominence * LEVELS
        groups, _ = group_basins(self.tree.heights, *self.tree.edges, *levels)
        areas = np.bincount(groups, basin_areas).astype(np.int64)
        is_kept = areas >= max(at.min_area, 1)
        is_kept[0] = False

        # Overlaps of cells with basins become overlaps with predicted cells.
        cells, basins = self._overlaps[:2]
        predicted = groups[basins]
        counts = is_kept[predicted] & (overlaps > 0)
        codes, which = np.unique(
            cells[counts] * len(areas) + predicted[counts], return_inverse=True
        )
        common = np.bincount(which, overlaps[counts], len(codes))
        cells, predicted = np.divmod(codes, len(areas))
        best = np.zeros(len(self._cell_areas))
        unions = self._cell_areas[cells] + areas[predicted] - common
        np.maximum.at(best, cells, common / unions)

        # A predicted cell is named after its highest basin, in which its marker lies.
        marked, is_false = self._peaks
        ids = np.flatnonzero(is_kept)
        markers = np.bincount(marked[ids], minlength=len(best))
        return Tally(
            ious=tuple(best[1:].tolist()),
            extras=tuple(np.maximum(markers[1:] - 1, 0).tolist()),
            n_false=int(is_false[ids].sum()),
        )

    def _count(self, fill: int) -> tuple[Counts, Counts]:
        """Pixels above a level of each basin, and of each overlap."""
        if fill not in self._counted:
            above = self.tree.basins[self.tree.quantized > fill]
            areas = np.bincount(above, minlength=len(self.tree.heights))
            cells, _, which, values = self._overlaps
            self._counted[fill] = areas, np.bincount(which[values > fill], minlength=len(cells))
        return self._counted[fill]

    @cached_property
    def _cell_areas(self) -> Counts:
        """Pixels of each cell; entry 0 is not looked at."""
        return np.bincount(self.cells.ravel(), minlength=1)

    @cached_property
    def _overlaps(self) -> tuple[Counts, Counts, Counts, MapArray]:
        """Cell and basin of each overlap; overlap and value of each pixel in any of them."""
        inside = (self.cells > 0) & (self.tree.basins > 0)
        n_basins = len(self.tree.heights)
        codes = self.cells[inside].astype(np.int64) * n_basins + self.tree.basins[inside]
        codes, which = np.unique(codes, return_inverse=True)
        cells, basins = np.divmod(codes, n_basins)
        return cells, basins, which, self.tree.quantized[inside]

    @cached_property
    def _peaks(self) -> tuple[LabelArray, Mask]:
        """Cell at the peak of each basin, 0 for none, and whether that is known background."""
        peaks = basin_peaks(self.tree)
        return self.cells.ravel()[peaks], self.background.ravel()[peaks]


def _stacked(arrays: Sequence[npt.NDArray[Any]], dtype: type[np.generic]) -> npt.NDArray[Any]:
    """Arrays (Y, X) one below the other, a row of 0 around each, as wide as the widest."""
    height = 1 + sum(len(array) + 1 for array in arrays)
    whole = np.zeros((height, max((array.shape[1] for array in arrays), default=1)), dtype)
    top = 1
    for array in arrays:
        whole[top : top + len(array), : array.shape[1]] = array
        top += len(array) + 1
    return whole
