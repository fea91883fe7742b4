"""What a preview leaves for the moment when the hand rests."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from napari_dinocell.widgets.engine import Result
from napari_dinocell.widgets.jobs import Steps, Ticket
from napari_dinocell.widgets.planes import fingerprint, fingerprints, plane_view
from napari_dinocell.widgets.screening import screen
from napari_dinocell.widgets.table import dense_rows, measure_plane

if TYPE_CHECKING:
    from napari_dinocell.core.instances import Cut

__all__ = ["AT_ONCE", "CatchUp"]

# Pixels of a plane that a hand does not notice waiting for: such a plane is drawn whole at once.
AT_ONCE = 6_000_000


@dataclass(frozen=True, eq=False)
class CatchUp:
    """Work on another thread than the window's: on what was true when it began.

    Attributes
    ----------
    result : Result
    plane : int
        The one in view, as a position in `prediction.indices`.
    stale : set of int
        Planes that were not cut at these thresholds yet.
    gave_way : dict of int to int
        Fingerprint of the corrections that a plane gave way to; without an entry: none.
    corrected : int array or None
        Of the corrected layer, which the user may go on changing.
    thresholds : dict
        Arguments of `Prediction.cut`.
    least : float
        Confidence that a cell must have.
    """

    result: Result
    plane: int
    stale: frozenset[int]
    gave_way: dict[int, int]
    corrected: npt.NDArray[np.integer] | None
    thresholds: dict[str, Any]
    least: float

    def steps(self, ticket: Ticket) -> Steps:
        """Yield names with contents.

        `tree` (tree of the plane in view), `behind` (set of planes to be cut beside those known),
        for each of them `cut` (plane, cut, fingerprint of the corrections that it gave way to or
        None), and for a single plane its `table` or None.
        """
        prediction, plane = self.result.prediction, self.plane
        tree = prediction.tree(plane)
        yield "tree", tree
        # Undo reaches other planes than the one in view, and a layer of corrections may come or go.
        corrected = self.corrected
        now = {} if corrected is None else fingerprints(corrected, prediction)
        behind = {changed for changed, _ in now.items() ^ self.gave_way.items()}
        if tree.quantized.size <= AT_ONCE:
            behind.discard(plane)  # drawn at once whenever it changes
        yield "behind", behind
        for other in sorted(self.stale | behind, key=lambda p: abs(p - plane)):
            if ticket.cancel():
                return
            cut = prediction.cut(other, **self.thresholds)
            over = self._corrected_plane(other)
            if other != plane:
                self._screen(cut, over)
            yield "cut", (other, cut, None if over is None else fingerprint(over))
        if prediction.n_planes == 1 and not ticket.cancel():
            cut = prediction.cut(plane, **self.thresholds)
            cut = self._screen(cut, self._corrected_plane(plane))
            yield "table", dense_rows(measure_plane(self.result, plane, cut.labels, cut))

    def _corrected_plane(self, plane: int) -> npt.NDArray[np.integer] | None:
        """A copy: what a plane gives way to and what is written down of it must be the same."""
        if self.corrected is None:
            return None
        return plane_view(self.corrected, self.result.prediction, plane).copy()

    def _screen(self, cut: Cut, over: npt.NDArray[np.integer] | None) -> Cut:
        coefficients = self.result.prediction.model_card.confidence
        return screen(cut.labels, cut, over, coefficients, self.least).cut
