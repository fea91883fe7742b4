"""The score that partial labels can carry, and when one is better than another."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

_EXTRA = 0.25  # penalty of a marker too many inside of a cell: it was split
_FALSE = 0.5  # penalty of a marker where there is surely no cell
_ENOUGH = 0.005  # a smaller rise of the score is not worth a change


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
