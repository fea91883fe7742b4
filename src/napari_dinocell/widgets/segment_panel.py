"""The panel that segments: questions, one button, sliders, figures."""

from __future__ import annotations

from typing import Any

import numpy as np
from qtpy.QtCore import Qt, QTimer
from qtpy.QtWidgets import (
    QHBoxLayout,
    QLabel,
    QProgressBar,
    QPushButton,
    QSizePolicy,
    QVBoxLayout,
    QWidget,
)

from napari_dinocell.widgets.editing import EditTools
from napari_dinocell.widgets.engine import Engine, Ready, Result
from napari_dinocell.widgets.figures import figures_text
from napari_dinocell.widgets.form import SegmentForm
from napari_dinocell.widgets.jobs import Job, Steps, Ticket, time_text
from napari_dinocell.widgets.preview import METADATA_KEY, Preview
from napari_dinocell.widgets.sliders import ThresholdSliders

__all__ = ["SegmentPanel"]


class SegmentPanel(QWidget):
    """Segment the cells of an image layer, then move the thresholds live.

    Parameters
    ----------
    napari_viewer : napari.viewer.Viewer
        The viewer, given by napari.
    """

    def __init__(self, napari_viewer: Any, engine: Engine | None = None) -> None:
        super().__init__()
        self.viewer = napari_viewer
        self.engine = engine or Engine()
        self.ready: Ready | None = None
        self.preview: Preview | None = None
        self.job: Job | None = None
        self.form = SegmentForm(napari_viewer)
        self.button = QPushButton("Segment")
        self.button.clicked.connect(self._clicked)
        self.bar = QProgressBar()
        self.bar.setTextVisible(True)
        self.bar.setAccessibleName("Progress")
        self.status = _line("Status")
        self.sliders = ThresholdSliders()
        self.figures = _line("Figures")
        self.tools = EditTools(napari_viewer)
        self.tools.said.connect(self.say)
        self._build()
        self._loading: Job | None = None
        self.sliders.moved.connect(self._moved)
        self.sliders.reset_asked.connect(self._reset)
        self.form.changed.connect(self._changed)
        layers = napari_viewer.layers.events
        for event in (layers.inserted, layers.removed, layers.reordered):
            event.connect(self._layers_changed)
        napari_viewer.dims.events.point.connect(self._changed)
        napari_viewer.layers.selection.events.active.connect(self._selected)
        for layer in napari_viewer.layers:
            layer.events.name.connect(self._layers_changed)
        self._look = QTimer(self)
        self._look.setSingleShot(True)
        self._look.timeout.connect(self._look_for_models)
        self._look.start(0)
        self._changed()

    # -- models ---------------------------------------------------------------------------------

    def _look_for_models(self) -> None:
        self._loading = Job(self._choices, self)
        self._loading.succeeded.connect(self._offer)
        self._loading.failed.connect(self.say_wrong)
        self._loading.start()

    def _choices(self, ticket: Ticket) -> Steps:
        yield "Looking for models …"
        return self.engine.choices()

    def _offer(self, found: Any) -> None:
        self._loading = None
        models, devices, default = found
        self.form.blockSignals(True)
        self.form.offer_models(models, devices, default)
        self.form.blockSignals(False)
        self._changed()

    def _load(self) -> None:
        """Load the chosen model before it is needed, so that the time of a run can be told."""
        name, device = self.form.model.value, self.form.device.value
        if not name or self.job is not None or self._loading is not None:
            return
        self.ready = None
        self._loading = Job(lambda ticket: self.engine.ready(name, device), self)
        self._loading.step.connect(self.say)
        self._loading.succeeded.connect(self._loaded)
        self._loading.failed.connect(self._not_loaded)
        self._wanted = (name, device)
        self._loading.start()

    def _loaded(self, ready: Ready) -> None:
        self._loading = None
        self.ready, self._known = ready, self._wanted
        self._changed()

    def _not_loaded(self, sentence: str) -> None:
        self._loading = None
        self._known = self._wanted
        self.say_wrong(sentence)
        self.button.setEnabled(False)

    # -- what the user may do now -----------------------------------------------------------------

    def _changed(self, *_: Any) -> None:
        """Say what a click would do, or why it cannot be done."""
        if self.job is not None:
            return
        self.button.setText("Segment")
        try:
            part = self.form.part()
        except ValueError as error:
            self.button.setEnabled(False)
            self.say(str(error))
            return
        if not self.form.model.value:
            self.button.setEnabled(False)
            if self._loading is None:
                self.say_wrong("No model is installed.")
            else:
                self.say("Looking for models …")
            return
        wanted = (self.form.model.value, self.form.device.value)
        if getattr(self, "_known", None) != wanted:
            self.button.setEnabled(False)
            self._load()
            return
        if self.ready is None:
            return
        self.button.setEnabled(True)
        diameter = self.form.chosen_diameter
        seconds = self.ready.seconds(part, diameter if isinstance(diameter, float) else None)
        planes = f"{part.n_planes} planes, " if part.n_planes > 1 else ""
        size = " x ".join(str(n) for n in part.plane_shape)
        where = self.ready.device.upper()
        note = f" {self.ready.note}" if self.ready.note else ""
        self.say(f"{planes}{size} px: about {time_text(seconds)} on {where}.{note}")

    def _layers_changed(self, event: Any = None) -> None:
        if event is not None and getattr(event, "type", "") == "inserted":
            event.value.events.name.connect(self._layers_changed)
        self.form.refresh_layers()
        self._changed()

    def _selected(self, event: Any = None) -> None:
        if self.job is None:
            self.form.choose_layer(self.viewer.layers.selection.active)

    # -- a run ------------------------------------------------------------------------------------

    def _clicked(self) -> None:
        if self.job is not None:
            self.job.cancel()
            self.button.setEnabled(False)
            self.say("Cancelling …")
            return
        try:
            part = self.form.part()
        except ValueError as error:
            self.say_wrong(str(error))
            return
        name, device = self.form.model.value, self.form.device.value
        channel, diameter = self.form.chosen_channel, self.form.chosen_diameter
        self._source = self.form.layer

        def work(ticket: Ticket) -> Steps:
            return self.engine.segment(ticket, part, name, device, channel, diameter)

        job = self.job = Job(work, self)
        job.step.connect(self._step)
        job.progressed.connect(self._progress)
        job.succeeded.connect(self._segmented)
        job.failed.connect(self.say_wrong)
        job.cancelled.connect(lambda: self.say("Cancelled; nothing was changed."))
        job.ended.connect(self._ended)
        self._source.events.data.connect(self._source_changed)
        self.button.setText("Cancel")
        self.form.setEnabled(False)
        self.bar.setRange(0, 0)
        self.bar.setFormat("")
        self.bar.show()
        job.start()

    def _source_changed(self, event: Any = None) -> None:
        if self.job is not None:
            self.viewer.status = "The image was changed while it was being segmented."

    def _step(self, text: str) -> None:
        self.say(text)

    def _progress(self, done: int, total: int) -> None:
        self.bar.setRange(0, total)
        self.bar.setValue(done)
        left = self.job.ticket.seconds_left if self.job is not None else None
        self.bar.setFormat("%p %" if left is None else f"%p % · {time_text(left)} left")

    def _ended(self) -> None:
        text, self.job = self.status.text(), None
        self._source.events.data.disconnect(self._source_changed)
        self.bar.hide()
        self.form.setEnabled(True)
        self.form.refresh_layers()
        self._changed()
        # What the run came to stays on screen until the next question is answered.
        if self.button.isEnabled():
            self.status.setText(text)

    def _segmented(self, outcome: tuple[Result, Ready]) -> None:
        result, self.ready = outcome
        if self.preview is not None:
            self.preview.layer.visible = False
            self.preview.close()
        layer = self.viewer.add_labels(
            result.labels,
            name=f"{self._name_of(result)} cells",
            metadata={METADATA_KEY: result.provenance},
            **result.part.placement.options(),
        )
        preview = self.preview = Preview(self.viewer, layer, result, self)
        preview.shown.connect(self._show_figures)
        preview.failed.connect(self.say_wrong)
        preview.closed.connect(self._detached)
        self.tools.attach(preview)
        self._show_thresholds()
        self.sliders.setEnabled(True)
        notes = " ".join(result.prediction.notes)
        self.say(f"Done in {time_text(result.seconds)} on {self.ready.device.upper()}. {notes}")

    def _name_of(self, result: Result) -> str:
        """Name of the image now: it may have been renamed, or deleted."""
        return self._source.name if self._source in self.viewer.layers else result.part.name

    # -- sliders ----------------------------------------------------------------------------------

    def _show_thresholds(self) -> None:
        assert self.preview is not None
        preview = self.preview
        scale = preview.prediction.scale
        typical = np.pi / 4 * (preview.prediction.model_card.diameter / scale) ** 2
        self.sliders.show_values(preview.peak, preview.fill, preview.min_area, int(typical))

    def _moved(self, peak: float, fill: float, min_area: int) -> None:
        if self.preview is not None:
            self.preview.move(peak, fill, min_area)

    def _reset(self) -> None:
        if self.preview is not None:
            values = self.preview.defaults
            self.preview.move(values.peak, values.fill, values.min_area)
            self._show_thresholds()

    def _show_figures(self, areas: Any) -> None:
        assert self.preview is not None
        part = self.preview.result.part
        self.figures.setText(figures_text(areas, part.plane_shape, part.pixel_size_um))
        self.sliders.histogram.show_areas(areas, self.preview.min_area)

    def _detached(self) -> None:
        self.preview = None
        self.sliders.setEnabled(False)
        self.figures.setText("")

    # -- text -------------------------------------------------------------------------------------

    def say(self, sentence: str) -> None:
        """A line below the button."""
        self.status.setText(sentence)

    def say_wrong(self, sentence: str) -> None:
        """A line that something is wrong; told by a sign, not by color alone."""
        self.status.setText(f"⚠ {sentence}")

    def _build(self) -> None:
        layout = QVBoxLayout(self)
        layout.addWidget(self.form)
        row = QHBoxLayout()
        row.addWidget(self.button, 1)
        layout.addLayout(row)
        layout.addWidget(self.bar)
        layout.addWidget(self.status)
        layout.addWidget(self.sliders)
        layout.addWidget(self.figures)
        layout.addWidget(self.tools)
        layout.addStretch(1)
        self.bar.hide()
        self.button.setMinimumHeight(2 * self.fontMetrics().height())


def _line(name: str) -> QLabel:
    label = QLabel()
    label.setWordWrap(True)
    label.setAccessibleName(name)
    label.setTextInteractionFlags(Qt.TextInteractionFlag.TextSelectableByMouse)
    label.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Minimum)
    return label
