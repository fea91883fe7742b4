"""The panel that adapts a model to the cells that the user has accepted, corrected or deleted."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from qtpy.QtCore import QTimer, Signal
from qtpy.QtWidgets import (
    QComboBox,
    QFormLayout,
    QGridLayout,
    QPushButton,
    QVBoxLayout,
    QWidget,
)
from superqt.utils import QSignalDebouncer

from napari_dinocell.widgets.adapt_work import Live, Outcome, adaptation
from napari_dinocell.widgets.annotations import Counts, count, gather, region_layer
from napari_dinocell.widgets.column import Column
from napari_dinocell.widgets.corrected import is_correction, origin_of
from napari_dinocell.widgets.engine import Engine
from napari_dinocell.widgets.jobs import Job, Steps, Ticket
from napari_dinocell.widgets.loss_curve import LossCurve
from napari_dinocell.widgets.models import Models
from napari_dinocell.widgets.preferences import preferences
from napari_dinocell.widgets.project_box import ProjectBox
from napari_dinocell.widgets.rows import add_rows, text_line
from napari_dinocell.widgets.runner import Runner, Work
from napari_dinocell.widgets.suggest_button import SuggestButton
from napari_dinocell.widgets.verdict import VerdictBox

if TYPE_CHECKING:
    from napari_dinocell.core.adapt import Limits
    from napari_dinocell.core.adapt.fit import Curve
    from napari_dinocell.widgets.corrector import Corrector

__all__ = ["AdaptPanel"]

_REST_MS = 400  # after a correction, before the annotation is counted
_POLL_MS = 200


class AdaptPanel(QWidget):
    """Adapts a model to a few cells: what there is to learn from, one button, and a verdict.

    Parameters
    ----------
    napari_viewer : napari.viewer.Viewer
        The viewer, given by napari.
    limits : Limits, optional
        Bounds of time and memory; those of `adapt` if None.

    Signals
    -------
    model_wanted(str)
        Name of the model to segment with from now on.
    segment_wanted()
        The user wants to see what it finds.
    """

    model_wanted = Signal(str)
    segment_wanted = Signal()

    def __init__(self, napari_viewer: Any, limits: Limits | None = None) -> None:
        super().__init__()
        self.viewer = napari_viewer
        self.counts = Counts()
        self.kept: list[Outcome] = []
        self.limits = limits
        self._corrector: Corrector | None = None
        self._live: Live | None = None
        self._counting: Job | None = None
        self._heard: set[str] = set()
        self.base = QComboBox()
        self.base.setToolTip("The model that learns; it stays as it is, the result is a new one.")
        self.models = Models(Engine(), self)
        self.models.offered.connect(self._offer)
        # A line of its own: what is said below the button must not be overwritten by counting.
        self.annotation = text_line("What is annotated")
        self.region_button = QPushButton("Draw complete region")
        self.region_button.setToolTip(
            "Draw a rectangle in which every cell on screen is right: all else in there is "
            "background. Parts of the image without one are unknown, not background."
        )
        self.region_button.clicked.connect(self._draw_region)
        self.suggest_button = SuggestButton(napari_viewer)
        self.runner = Runner("Adapt", self._plan, self._take, keeps_partial=True)
        self.curve = LossCurve()
        self.curve.hide()
        self.verdict = VerdictBox()
        self.project = ProjectBox(napari_viewer, self.kept)
        self._lay_out()
        self._rest = QSignalDebouncer(parent=self)
        self._rest.setTimeout(_REST_MS)
        self._rest.triggered.connect(self._count)
        self._poll = QTimer(self)
        self._poll.setInterval(_POLL_MS)
        self._poll.timeout.connect(self._show_progress)
        self._connect()
        self._listen()

    def _lay_out(self) -> None:
        rows = QFormLayout()
        add_rows(rows, ("Base", self.base))
        where = QGridLayout()
        where.setContentsMargins(0, 0, 0, 0)
        where.addWidget(self.suggest_button, 0, 0)
        where.addWidget(self.region_button, 0, 1)
        content = QWidget()
        inner = QVBoxLayout(content)
        inner.setContentsMargins(0, 0, 0, 0)
        inner.addLayout(rows)
        inner.addWidget(self.annotation)
        inner.addLayout(where)
        inner.addWidget(self.runner)
        inner.addWidget(self.curve)
        inner.addWidget(self.verdict)
        inner.addWidget(self.project)
        inner.addStretch(1)  # takes what is free, so that no label grows
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(Column(content))

    def _connect(self) -> None:
        self.runner.busy.connect(self._busy)
        self.suggest_button.said.connect(self.runner.say)
        self.verdict.kept.connect(self._kept)
        self.verdict.undone.connect(self._undone)
        self.verdict.failed.connect(self.runner.say_wrong)
        self.verdict.segment_wanted.connect(self.segment_wanted.emit)
        layers = self.viewer.layers.events
        for event in (layers.inserted, layers.removed):
            event.connect(self._listen)

    # -- the annotation ---------------------------------------------------------------------------

    def follow(self, corrector: Corrector | None) -> None:
        """Take the cells that are corrected now; None while there are none."""
        self._corrector = corrector
        self.suggest_button.follow(None if corrector is None else corrector.preview)

    def _listen(self, event: Any = None) -> None:
        """Count again whenever something is annotated."""
        for layer in self.viewer.layers:
            if str(layer.unique_id) in self._heard:
                continue
            self._heard.add(str(layer.unique_id))
            if is_correction(layer):
                layer.events.paint.connect(self._changed)
                layer.events.set_data.connect(self._changed)
            elif hasattr(layer, "shape_type"):
                layer.events.data.connect(self._changed)
        self._changed()

    def _changed(self, event: Any = None) -> None:
        self._rest.throttle()

    def _count(self) -> None:
        if self.runner.job is not None:
            return
        annotated = gather(self.viewer)

        def work(ticket: Ticket) -> Steps:
            yield None
            return count(annotated)

        if self._counting is not None:
            self._counting.cancel()
        self._counting = Job(work, self)
        self._counting.succeeded.connect(self._counted)
        self._counting.failed.connect(self.runner.say_wrong)
        self._counting.start()

    def _counted(self, counts: Counts) -> None:
        self.counts = counts
        self.annotation.setText(counts.sentence())

    def _draw_region(self, *_: Any) -> None:
        correction = self._correction()
        if correction is None:
            self.runner.say_wrong("Segment an image first, or open a project.")
            return
        shapes = region_layer(self.viewer, correction)
        self.viewer.layers.selection.active = shapes
        shapes.mode = "add_rectangle"
        self.runner.say("Draw a rectangle in which every cell is right.")

    def _correction(self) -> Any:
        """The layer of corrections that the user works on."""
        if self._corrector is not None:
            return self._corrector.ensure_layer()
        found = [layer for layer in self.viewer.layers if origin_of(layer) is not None]
        return found[-1] if found else None

    # -- the models -------------------------------------------------------------------------------

    def _offer(self, models: Any, devices: Any, default: str) -> None:
        before = self.base.currentText()
        names = [model.name for model in models]
        self.base.clear()
        self.base.addItems(names)
        wanted = before if before in names else default
        self.base.setCurrentIndex(self.base.findText(wanted))

    def choose_base(self, name: str) -> None:
        """Take a base, if it is offered."""
        at = self.base.findText(name)
        if at >= 0:
            self.base.setCurrentIndex(at)

    # -- a run ------------------------------------------------------------------------------------

    def _plan(self) -> Work:
        base = self.base.currentText()
        if not base:
            raise ValueError("The models are still being looked for; try again in a moment.")
        annotated = gather(self.viewer)
        if not annotated:
            raise ValueError(Counts().sentence())
        name = f"{annotated[-1].origin.part.name} adapted"
        device, limits = preferences().device, self.limits

        def work(ticket: Ticket) -> Steps:
            self._live = Live(ticket)
            return adaptation(ticket, self._live, annotated, base, device, name, limits)

        self.verdict.clear()
        self.curve.show_curve((), (), ())
        return work

    def _busy(self, is_busy: bool) -> None:
        for widget in (self.base, self.project):
            widget.setEnabled(not is_busy)
        if is_busy:
            self._poll.start()
        else:
            self._poll.stop()
            self._live = None
            self._changed()  # who waits for a training goes on correcting

    def _show_progress(self) -> None:
        now = None if self._live is None else self._live.progress
        if now is None or self.runner.job is None:
            return
        self.runner.show_left(now.seconds_left)
        self._show_curve(now.curve)

    def _show_curve(self, curve: Curve | None) -> None:
        if curve is not None and curve.steps:
            self.curve.setVisible(True)
            self.curve.show_curve(curve.steps, curve.loss, curve.held_out)

    def _take(self, outcome: Outcome) -> str:
        report = outcome.adapted.report
        # That of the training with held-out cells: by it the user sees when it stopped, and why.
        self._show_curve(report.folds[-1] if report.folds else report.final)
        self.verdict.show_outcome(outcome)
        if outcome.name:
            self._kept(outcome)
        return ""

    def _kept(self, outcome: Outcome) -> None:
        self.kept.append(outcome)
        self.model_wanted.emit(outcome.name)

    def _undone(self, outcome: Outcome) -> None:
        self.kept.remove(outcome)
        self.model_wanted.emit(outcome.base)
