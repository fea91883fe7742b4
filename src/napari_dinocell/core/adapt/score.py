"""The score that partial labels can carry, and the thresholds that do best by it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace

import numpy as np
import numpy.typing as npt

from napari_dinocell.core.adapt.loss import basin_peaks
from napari_dinocell.core.instances import ThresholdTree
from napari_dinocell.core.overlaps import overlap_table
from napari_dinocell.core.prediction import Thresholds
from napari_dinocell.core.training.tuning import ThresholdGrid

LabelArray = npt.NDArray[np.int32]
Mask = npt.NDArray[np.bool_]

_EXTRA = 0.25  # penalty of a marker too many inside of a cell: it was split
_FALSE = 0.5  # penalty of a marker where there is surely no cell
_ENOUGH = 0.005  # thresholds that gain less than this over nearer ones are not worth going to
_PEAK_RANGE, _FILL_RANGE = 0.1, 0.03


@dataclass(frozen=True)
class Tally:
    """Sums over some annotated cells and empty places; add them to pool folds.

    Attributes
    ----------
    n_cells : int
    iou : float
        Sum over cells of the best IoU with a predicted cell.
    n_extra : int
        Markers beyond the first inside of cells.
    n_false : int
        Markers on known background.
    """

    n_cells: int = 0
    iou: float = 0.0
    n_extra: int = 0
    n_false: int = 0

    def __add__(self, other: Tally) -> Tally:
        """Sums over both."""
        return Tally(
            self.n_cells + other.n_cells,
            self.iou + other.iou,
            self.n_extra + other.n_extra,
            self.n_false + other.n_false,
        )

    @property
    def score(self) -> float:
        """(sum of IoU - 0.25 extra - 0.5 false markers) / cells; at most 1, negative if bad."""
        penalty = _EXTRA * self.n_extra + _FALSE * self.n_false
        return (self.iou - penalty) / max(self.n_cells, 1)


@dataclass(frozen=True, eq=False)
class Judged:
    """A predicted map and the annotation that judges it.

    Attributes
    ----------
    tree : ThresholdTree
    cells : (Y, X) int32 array
        The cells that count, by id.
    background : (Y, X) bool array
        Where a marker is false.
    peaks : (n + 1,) int array
        See `basin_peaks`.
    """

    tree: ThresholdTree
    cells: LabelArray
    background: Mask
    peaks: npt.NDArray[np.intp]

    @classmethod
    def of(cls, tree: ThresholdTree, cells: LabelArray, background: Mask) -> Judged:
        """Look up the peaks of the tree."""
        return cls(tree, cells, background, basin_peaks(tree))

    def tally(self, at: Thresholds) -> Tally:
        """Count at some thresholds."""
        cut = self.tree.cut(**asdict(at))
        table = overlap_table(self.cells, cut.labels)
        best = np.zeros(len(table.true_ids))
        np.maximum.at(best, table.rows, table.ious)
        at_peak = self.peaks[cut.ids]
        inside = self.cells.ravel()[at_peak]
        markers = np.bincount(inside)[1:]
        return Tally(
            n_cells=len(table.true_ids),
            iou=float(best.sum()),
            n_extra=int(np.maximum(markers - 1, 0).sum()),
            n_false=int(self.background.ravel()[at_peak].sum()),
        )


def tally(judged: Sequence[Judged], at: Thresholds) -> Tally:
    """Sum over maps."""
    return sum((one.tally(at) for one in judged), Tally())


def tune(
    judged: Sequence[Judged], start: Thresholds, *, lift: float, is_complete: bool
) -> tuple[Thresholds, Tally]:
    """Peak and fill with the best score; the nearest to `start` among those that are as good.

    Parameters
    ----------
    judged : sequence of Judged
    start : Thresholds
        The filters are kept.
    lift : float
        Of the target, see `ThresholdGrid`.
    is_complete : bool
        Whether there is a region in which every cell is labeled; only then may peak leave
        `start` by more than 0.1, and fill by more than 0.03.
    """
    grid = ThresholdGrid.for_lift(lift)
    pairs = [
        (start.peak + float(up), start.fill + float(out))
        for up in np.linspace(-_PEAK_RANGE, _PEAK_RANGE, 9)
        for out in np.linspace(-_FILL_RANGE, _FILL_RANGE, 7)
    ]
    if is_complete:
        pairs += [(peak, fill) for peak in grid.peak for fill in grid.fill]
    lowest = min(grid.fill)
    pairs = [(round(p, 4), round(f, 4)) for p, f in pairs if lowest <= f < p < 0.99]
    pairs = [(start.peak, start.fill), *dict.fromkeys(pairs)]
    tallies = [tally(judged, replace(start, peak=peak, fill=fill)) for peak, fill in pairs]
    scores = np.array([one.score for one in tallies])
    away = np.hypot(*((np.array(pairs) - pairs[0]) / (_PEAK_RANGE, _FILL_RANGE)).T)
    away[scores < scores.max() - _ENOUGH] = np.inf
    best = int(np.argmin(away))
    peak, fill = pairs[best]
    return replace(start, peak=peak, fill=fill), tallies[best]
