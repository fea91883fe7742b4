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
_ENOUGH = 0.005  # a smaller rise of the score is not worth a change
_PEAK_RANGE, _FILL_RANGE = 0.1, 0.03


@dataclass(frozen=True)
class Tally:
    """Counts on some annotated cells and empty places; add them to pool folds.

    Attributes
    ----------
    ious : tuple of float
        By cell: best IoU with a predicted cell.
    extras : tuple of int
        By cell: markers beyond the first inside of it.
    n_false : int
        Markers on known background.
    """

    ious: tuple[float, ...] = ()
    extras: tuple[int, ...] = ()
    n_false: int = 0

    def __add__(self, other: Tally) -> Tally:
        """Both together."""
        return Tally(
            self.ious + other.ious, self.extras + other.extras, self.n_false + other.n_false
        )

    @property
    def n_cells(self) -> int:
        """Cells that count."""
        return len(self.ious)

    @property
    def by_cell(self) -> npt.NDArray[np.float64]:
        """(n_cells,) IoU - 0.25 extra markers."""
        return np.array(self.ious) - _EXTRA * np.array(self.extras)

    @property
    def score(self) -> float:
        """(sum of IoU - 0.25 extra - 0.5 false markers) / cells; at most 1, negative if bad."""
        return (float(self.by_cell.sum()) - _FALSE * self.n_false) / max(self.n_cells, 1)


def standard_error(one: Tally, other: Tally) -> float:
    """Of the mean difference between two tallies of the same cells; 0 with fewer than two cells."""
    if one.n_cells < 2:
        return 0.0
    differences = one.by_cell - other.by_cell
    return float(differences.std(ddof=1)) / float(np.sqrt(one.n_cells))


def is_higher(one: Tally, other: Tally) -> bool:
    """Whether a score is higher than another by enough to be worth a change: by 0.005."""
    return one.score - other.score > _ENOUGH


def is_better(one: Tally, other: Tally) -> bool:
    """Whether a score is higher than another of the same cells by more than chance explains.

    By more than 0.005, and by more than the standard error over cells: so few cells decide that a
    rise which comes from one of them, which is just its standard error, says nothing about those
    that nobody annotated.
    """
    by_chance = standard_error(one, other) * (1 + 1e-9)  # the equality above survives rounding
    return is_higher(one, other) and one.score - other.score > by_chance


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
        markers = np.bincount(inside)
        extras = np.zeros(int(table.true_ids.max(initial=0)) + 1, int)
        extras[: len(markers)] = np.maximum(markers - 1, 0)
        return Tally(
            ious=tuple(best.tolist()),
            extras=tuple(extras[table.true_ids].tolist()),
            n_false=int(self.background.ravel()[at_peak].sum()),
        )


def tally(judged: Sequence[Judged], at: Thresholds) -> Tally:
    """Sum over maps."""
    return sum((one.tally(at) for one in judged), Tally())


def tune(
    judged: Sequence[Judged], start: Thresholds, *, lift: float, is_complete: bool
) -> tuple[Thresholds, Tally]:
    """Peak and fill with the best score; the nearest to `start` among those that are as good.

    As good is what the best is not better than by more than chance explains, see `is_better`: the
    one-standard-error rule of Breiman et al., Classification and Regression Trees (1984).

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
    top = max(tallies, key=lambda one: one.score)
    away = np.hypot(*((np.array(pairs) - pairs[0]) / (_PEAK_RANGE, _FILL_RANGE)).T)
    away[[is_better(top, one) for one in tallies]] = np.inf
    best = int(np.argmin(away))
    peak, fill = pairs[best]
    return replace(start, peak=peak, fill=fill), tallies[best]
