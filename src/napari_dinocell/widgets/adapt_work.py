"""What the adapt panel does on the worker's thread."""

from __future__ import annotations

from dataclasses import dataclass, replace
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari_dinocell.core.model.own import own_model_path, unused_name
from napari_dinocell.widgets.annotations import AnnotatedLayer, examples, known_plane
from napari_dinocell.widgets.engine import leave_a_core_to_the_window
from napari_dinocell.widgets.jobs import Steps, Ticket

if TYPE_CHECKING:
    from napari_dinocell.core.adapt import Adapted, Limits, Progress
    from napari_dinocell.core.prediction import Prediction

__all__ = ["Live", "Outcome", "adaptation", "keep", "suggestion"]

_PARTS = 1000  # of an adaptation, for the bar


class Live:
    """How far an adaptation is: written by the worker, read by the panel."""

    def __init__(self, ticket: Ticket) -> None:
        self.progress: Progress | None = None
        self._ticket = ticket

    def take(self, progress: Progress) -> None:
        """For core."""
        self.progress = progress
        spent = self._ticket.seconds
        self._ticket.total = _PARTS
        self._ticket.done = int(_PARTS * spent / max(spent + progress.seconds_left, 1e-3))


@dataclass(frozen=True, eq=False)
class Outcome:
    """What an adaptation came to.

    Attributes
    ----------
    adapted : Adapted
    name : str
        Of the new model among the user's own; empty while it is not kept.
    wanted : str
        Name that it shall have, or a similar one.
    base : str
    """

    adapted: Adapted
    name: str
    wanted: str
    base: str

    @property
    def path(self) -> Path:
        """File of the kept model."""
        return own_model_path(self.name)


def adaptation(
    ticket: Ticket,
    live: Live,
    annotated: list[AnnotatedLayer],
    base: str,
    device: str,
    name: str,
    limits: Limits | None = None,
) -> Steps:
    """Steps of an adaptation; give an `Outcome`. What is better is kept at once."""
    yield "Reading the annotation …"
    adapt = import_module("napari_dinocell.core.adapt").adapt
    leave_a_core_to_the_window()
    given = examples(annotated)
    yield f"Adapting {base} …"
    adapted = adapt(
        base, given, limits=limits, device=device, progress=live.take, cancel=ticket.cancel
    )
    if ticket.is_quit():
        raise import_module("napari_dinocell.core.errors").Cancelled("Cancelled.")
    outcome = Outcome(adapted, "", name, base)
    return keep(outcome) if adapted.report.verdict in ("better", "thresholds") else outcome


def keep(outcome: Outcome) -> Outcome:
    """Write an adapted model into the user's own."""
    bundled = import_module("napari_dinocell.core.model.files").bundled_models()
    kept = replace(outcome, name=unused_name(outcome.wanted, bundled))
    kept.path.parent.mkdir(parents=True, exist_ok=True)
    outcome.adapted.save(kept.path, name=kept.name)
    return kept


def suggestion(
    prediction: Prediction, thresholds: dict[str, Any], plane: int, annotated: AnnotatedLayer | None
) -> Steps:
    """Steps that look for the least certain part of a plane; give a `Suggestion` or None.

    Parameters
    ----------
    thresholds : dict
        Arguments of `Prediction.thresholds`.
    plane : int
        Position in `prediction.indices`.
    annotated : AnnotatedLayer or None
        What is annotated there is not asked for again.
    """
    yield "Looking for doubtful cells …"
    suggest = import_module("napari_dinocell.core.adapt").suggest
    known = None
    if annotated is not None:
        known = known_plane(annotated, prediction.indices[plane])
    return suggest(prediction.tree(plane), prediction.thresholds(**thresholds), known=known)
