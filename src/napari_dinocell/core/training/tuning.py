"""Thresholds that score best on validation images, without losing the rim of large cells.

One flood per image, one overlap table per image and fill; every further setting costs only a pass
over the basins, not over the pixels.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from napari_dinocell.core.distance import lift_threshold
from napari_dinocell.core.instances import FLOOR, LEVELS, ThresholdTree
from napari_dinocell.core.lookup import group_basins
from napari_dinocell.core.metrics import ImageScore, pool, score_table
from napari_dinocell.core.overlaps import OverlapTable, overlap_table

LabelArray = npt.NDArray[np.int32]
_PLAIN_FILL = 0.14  # the highest fill that is tried on maps without a lift


@dataclass(frozen=True)
class Thresholds:
    """Settings of a cut; see `ThresholdTree.cut`."""

    peak: float
    fill: float
    min_area: int = 0
    min_prominence: float = 0.0


@dataclass(frozen=True, eq=False)
class Case:
    """One validation image: its flooded map and its reference.

    Attributes
    ----------
    name : str
        Image, for reports.
    set_name : str
        Data set it belongs to.
    tree : ThresholdTree
        Of the predicted map, at the size of the image.
    truth : (Y, X) int32 array
        0 is background, negative where nobody annotated: such pixels count for nothing.
    seconds : float
        Time that the prediction took, NaN if not measured.
    """

    name: str
    set_name: str
    tree: ThresholdTree
    truth: LabelArray
    seconds: float = float("nan")

    def score(self, thresholds: Thresholds) -> ImageScore:
        """Score the cells at these thresholds."""
        return _score_cells(self._table(thresholds.fill), self._cells(thresholds), thresholds)

    def _table(self, fill: float) -> OverlapTable:
        """Overlaps of the reference with the basins above fill."""
        known = self.truth >= 0
        above = known & (self.tree.quantized > int(fill * LEVELS))
        return overlap_table(np.where(known, self.truth, 0), np.where(above, self.tree.basins, 0))

    def _cells(self, at: Thresholds) -> npt.NDArray[np.int32]:
        """Cell of each basin, 0 for none, before small ones are dropped."""
        levels = int(at.peak * LEVELS), int(at.fill * LEVELS), at.min_prominence * LEVELS
        return group_basins(self.tree.heights, *self.tree.edges, *levels)[0]


@dataclass(frozen=True)
class ThresholdGrid:
    """Values that are tried."""

    peak: tuple[float, ...]
    fill: tuple[float, ...]
    min_area: tuple[int, ...] = (0, 5, 10, 15, 20, 25)
    min_prominence: tuple[float, ...] = (0.0, 0.02, 0.04, 0.06, 0.08, 0.12, 0.16)

    @classmethod
    def for_lift(cls, lift: float, *, largest_radius: float = 60.0) -> "ThresholdGrid":
        """Grid for maps with a lifted or plain target.

        Parameters
        ----------
        lift : float
            Value of the target at the rim of a cell, as in `distance_map`; 0 for EDT/max.
        largest_radius : float
            Cells up to this radius (px) keep their rim in a perfect lifted map: it bounds fill.

        Notes
        -----
        A plain target is near 0 at the rim, where a prediction is never exact: a fill that keeps
        every rim takes in the noise around the cells. So there fill may go up to 0.14, past the
        0.09 of SAMCell (VandeLoo et al. 2025), and large cells may lose their rim.
        """
        # A disc of radius r has pixels up to r + 1 away from its edge.
        kept = lift_threshold(1 / (largest_radius + 2), lift)
        lowest, highest = max(FLOOR, 0.3 * kept), kept if lift > 0 else _PLAIN_FILL
        peaks = (lift_threshold(float(t), lift) for t in np.linspace(0.15, 0.8, 14))
        return cls(
            peak=tuple(round(peak, 4) for peak in peaks),
            # Rounded down: above the bound, the rim of the largest cell would be lost.
            fill=tuple(math.floor(fill * 1e4) / 1e4 for fill in np.linspace(lowest, highest, 8)),
        )


@dataclass(frozen=True)
class Tuned:
    """The best thresholds of a grid and their objective, in [0, 1]."""

    thresholds: Thresholds
    objective: float


def tune_thresholds(cases: Sequence[Case], grid: ThresholdGrid, *, rounds: int = 2) -> Tuned:
    """Find the thresholds with the largest `objective` on validation images.

    Parameters
    ----------
    cases : sequence of Case
        At least one with a reference cell.
    grid : ThresholdGrid
        See `ThresholdGrid.for_lift`.
    rounds : int
        Passes over (peak, fill) and then (min_area, min_prominence).

    Returns
    -------
    Tuned

    Raises
    ------
    ValueError
        If no case has a reference cell.

    Notes
    -----
    Pairs of settings are searched exhaustively in turn, starting without filters. Among equally
    good pairs of (peak, fill) the one in the middle is taken, which is the safest; among equally
    good filters the weakest.
    """
    if not any((case.truth > 0).any() for case in cases):
        raise ValueError("No validation image has a reference cell; thresholds can't be tuned.")
    tables: dict[float, list[OverlapTable]] = {}

    def score(at: Thresholds, groups: Sequence[npt.NDArray[np.int32]]) -> float:
        if at.fill not in tables:
            tables[at.fill] = [case._table(at.fill) for case in cases]
        scores = [
            _score_cells(table, cells, at)
            for table, cells in zip(tables[at.fill], groups, strict=True)
        ]
        return objective(cases, scores)

    best = Thresholds(grid.peak[len(grid.peak) // 2], grid.fill[-1])
    value = -1.0
    for _ in range(rounds):
        before = best
        pairs = [(peak, fill) for peak in grid.peak for fill in grid.fill if fill < peak]
        values = []
        for peak, fill in pairs:
            at = Thresholds(peak, fill, best.min_area, best.min_prominence)
            values.append(score(at, [case._cells(at) for case in cases]))
        peak, fill = pairs[_middle_of_best(values, np.array(pairs))]
        filters = []
        values = []
        for prominence in grid.min_prominence:
            at = Thresholds(peak, fill, 0, prominence)
            groups = [case._cells(at) for case in cases]
            for area in grid.min_area:
                filters.append(Thresholds(peak, fill, area, prominence))
                values.append(score(filters[-1], groups))
        value = max(values)
        best = filters[int(np.argmax(np.array(values) >= value - 1e-9))]
        if best == before:
            break
    return Tuned(best, value)


def objective(cases: Sequence[Case], scores: Sequence[ImageScore]) -> float:
    """Mean over the data sets of (OP_CSB + AP50) / 2; sets without reference cells are left out."""
    by_set: dict[str, list[ImageScore]] = {}
    for case, score in zip(cases, scores, strict=True):
        by_set.setdefault(case.set_name, []).append(score)
    pooled = [pool(scores_of_set) for scores_of_set in by_set.values()]
    return float(np.mean([(p.op_csb + p.ap50) / 2 for p in pooled if p.n_true]))


def _score_cells(table: OverlapTable, cells: npt.NDArray[np.int32], at: Thresholds) -> ImageScore:
    """Score cells from the overlaps of the basins that they are made of."""
    cell_of_basin = cells[table.pred_ids]
    areas = np.bincount(cell_of_basin, table.pred_areas, len(cells)).astype(np.int64)
    kept = areas >= max(at.min_area, 1)
    kept[0] = False
    ids = np.flatnonzero(kept)
    ranks = np.zeros(len(cells), np.int64)
    ranks[ids] = np.arange(len(ids))
    cell = cell_of_basin[table.columns]
    inside = kept[cell]
    pairs = table.rows[inside] * len(ids) + ranks[cell[inside]]
    codes, which = np.unique(pairs, return_inverse=True)
    intersections = np.bincount(which, table.intersections[inside], len(codes)).astype(np.int64)
    rows, columns = np.divmod(codes, max(len(ids), 1))
    return score_table(
        OverlapTable(
            table.true_ids, ids, table.true_areas, areas[ids], rows, columns, intersections
        )
    )


def _middle_of_best(values: Sequence[float], points: npt.NDArray[np.float64]) -> int:
    """Index of the best value; among equals of the one nearest to their mean point."""
    best = np.flatnonzero(np.array(values) >= max(values) - 1e-9)
    # Both axes in units of their range, so that neither decides alone.
    scaled = points[best] / np.maximum(np.ptp(points, axis=0), 1e-9)
    return int(best[np.argmin(((scaled - scaled.mean(axis=0)) ** 2).sum(axis=1))])
