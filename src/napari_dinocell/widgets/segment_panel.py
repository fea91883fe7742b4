"""The panel that segments: questions, one button, and below what the last run gave."""

from __future__ import annotations

from typing import Any

from qtpy.QtWidgets import QProgressBar, QPushButton, QVBoxLayout, QWidget

from napari_dinocell.widgets.column import Column
from napari_dinocell.widgets.engine import Engine, Ready, Result
from napari_dinocell.widgets.form import SegmentForm
from napari_dinocell.widgets.jobs import Job, Steps, Ticket
from napari_dinocell.widgets.models import Models
from napari_dinocell.widgets.parts import LayerPart
from napari_dinocell.widgets.preferences import preferences
from napari_dinocell.widgets.preview import METADATA_KEY, Preview
from napari_dinocell.widgets.reading import read_note
from napari_dinocell.widgets.result_panel import ResultPanel
from napari_dinocell.widgets.rows import text_line
from napari_dinocell.widgets.timing import time_text

__all__ = ["SegmentPanel"]

_LARGEST_TEXTURE = 16384  # px of most graphics cards; above it napari skips pixels of labels


class SegmentPanel(QWidget):
    """Segment the cells of an image layer, then move the thresholds live.

    Parameters
    ----------
    napari_viewer : napari.viewer.Viewer
        The viewer, given by napari.
    engine : Engine, optional
        Runs the models; a new one if None.
    """

    def __init__(self, napari_viewer: Any, engine: Engine | None = None) -> None:
        super().__init__()
        self.viewer = napari_viewer
        self.engine = engine or Engine()
        self.models = Models(self.engine, self)
        self.job: Job | None = None
        self._source: Any = None
        self._is_outdated = False
        self._last = ""
        self._wanted_model = ""
        self.form = SegmentForm(napari_viewer)
        self.form.choose_layer(napari_viewer.layers.selection.active)
        self.button = QPushButton("Segment")
        self.button.setMinimumHeight(2 * self.fontMetrics().height())
        self.bar = QProgressBar()
        self.bar.setAccessibleName("Progress")
        self.bar.hide()
        self.status = text_line("Status")
        self.cpu_button = QPushButton("Use the CPU")
        self.cpu_button.setToolTip("Slower, but with the memory of the computer.")
        self.cpu_button.hide()
        self.results = ResultPanel(napari_viewer)
        self.results.hide()
        column = Column(
            self.form, self.button, self.bar, self.status, self.cpu_button, self.results
        )
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(column)
        self._connect()
        self._changed()

    def _connect(self) -> None:
        self.button.clicked.connect(self._clicked)
        self.form.changed.connect(self._asked_anew)
        self.cpu_button.clicked.connect(self._take_cpu)
        self.models.offered.connect(self._offered)
        self.results.further.model_wanted.connect(self.take_model)
        self.results.further.segment_wanted.connect(self._segment_again)
        self.models.changed.connect(self._changed)
        self.results.said.connect(self.say)
        self.results.failed.connect(self.say_wrong)
        layers = self.viewer.layers
        for event in (layers.events.inserted, layers.events.removed, layers.events.reordered):
            event.connect(self._layers_changed)
        for layer in layers:
            layer.events.name.connect(self._layers_changed)
        layers.selection.events.active.connect(self._selected)
        self.viewer.dims.events.point.connect(self._changed)

    @property
    def preview(self) -> Preview | None:
        """What the sliders move, after a run."""
        return self.results.preview

    def take_model(self, name: str) -> None:
        """Choose a model that may be new."""
        self._wanted_model = name
        self.models.look()

    def _offered(self, models: Any, devices: Any, default: str) -> None:
        self.form.offer_models(models, devices, default)
        if self._wanted_model in [model.name for model in models]:
            self.form.model.value, self._wanted_model = self._wanted_model, ""

    # -- what the user may do now -----------------------------------------------------------------

    def _asked_anew(self) -> None:
        if self.job is None:
            self.cpu_button.hide()
        self._changed()

    def _changed(self, *_: Any) -> None:
        """Say what a click would do, or why it cannot be done."""
        if self.job is not None:
            return
        self.button.setText("Segment")
        plan, is_possible = self._plan()
        self.button.setEnabled(is_possible)
        if plan != self._last:
            # What a run came to stays on screen until something else is asked.
            self._last = plan
            self.say(plan)

    def _plan(self) -> tuple[str, bool]:
        """A line about the next run, and whether there can be one."""
        name, device = self.form.model.value, self.form.device.value
        # The model is loaded while the user still answers the other questions.
        is_ready = bool(name) and self.models.want(name, device)
        try:
            part = self.form.part()
        except ValueError as error:
            return str(error), False
        if not name:
            looking = self.models.is_looking
            return ("Looking for models …" if looking else "⚠ No model is installed."), False
        if not is_ready:
            self._offer_cpu(self.models.is_device_failure)
            return (f"⚠ {self.models.error}" if self.models.error else f"Loading {name} …"), False
        ready = self.models.ready
        assert ready is not None
        return plan_text(part, ready, self.form.diameter_of(part)), True

    def _offer_cpu(self, is_device_failure: bool) -> None:
        """After a failure that another device would not have."""
        self.cpu_button.setVisible(is_device_failure and not self.form.is_on_cpu)

    def _take_cpu(self, *_: Any) -> None:
        # The time that it takes there is told before the user begins.
        self.form.device.value = "cpu"

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
        channel, diameter = self.form.chosen_channel, self.form.diameter_of(part)
        maps = preferences().maps_folder

        def work(ticket: Ticket) -> Steps:
            return self.engine.segment(ticket, part, name, device, channel, diameter, maps)

        job = self.job = Job(work, self)
        job.step.connect(self.say)
        job.progressed.connect(self._progress)
        job.succeeded.connect(self._segmented)
        job.failed.connect(self.say_wrong)
        job.failed.connect(lambda _: self._offer_cpu(job.is_device_failure))
        job.cancelled.connect(self._cancelled)
        job.ended.connect(self._ended)
        self.cpu_button.hide()
        self.form.cell_size.put_away()
        self._source = self.form.layer
        self._is_outdated = False
        self._source.events.data.connect(self._source_changed)
        self.button.setText("Cancel")
        self.form.setEnabled(False)
        self.bar.setRange(0, 0)
        self.bar.setFormat("")
        self.bar.show()
        job.start()

    def _segment_again(self) -> None:
        """Come up, and segment if that is possible now; else the user sees why it is not.

        With the size of the cells that were corrected: it was adapted to cells of this size.
        """
        dock = self.parentWidget()
        if dock is not None:
            dock.show()
            dock.raise_()
        if self.job is not None:
            return
        if self.preview is not None and self._source == self.form.layer:
            scaling, factor = self.preview.prediction.scaling, self.preview.result.part.factor
            if scaling.diameter is not None and self.form.cell_size.diameter == "auto":
                self.form.cell_size.give(scaling.diameter * factor)
        if self.button.isEnabled():
            self._clicked()

    def _source_changed(self, event: Any = None) -> None:
        self._is_outdated = True

    def _progress(self, done: int, total: int) -> None:
        self.bar.setRange(0, total)
        self.bar.setValue(done)
        left = self.job.ticket.seconds_left if self.job is not None else None
        self.bar.setFormat("%p %" if left is None else f"%p % · {time_text(left)} left")

    def _cancelled(self) -> None:
        self.say("Cancelled; nothing was changed.")

    def _ended(self) -> None:
        # While there is a job, what the run came to is not replaced by a plan.
        self.form.refresh_layers()
        self.job = None
        self._source.events.data.disconnect(self._source_changed)
        self.bar.hide()
        self.form.setEnabled(True)
        self._last, _ = self._plan()
        self._changed()

    def _segmented(self, outcome: tuple[Result, Ready]) -> None:
        result, ready = outcome
        self.models.ready = ready
        # The image may have been renamed meanwhile, or deleted.
        name = self._source.name if self._source in self.viewer.layers else result.part.name
        layer = self.viewer.add_labels(
            result.labels,
            name=f"{name} cells",
            metadata={METADATA_KEY: result.provenance},
            **result.part.placement.options(),
        )
        self.results.attach(Preview(self.viewer, layer, result, self))
        notes = " ".join(result.prediction.notes)
        scaling = result.prediction.scaling
        if scaling.reason == "estimate":
            notes = f"Cells of about {scaling.diameter:.3g} px (estimated). {notes}"
        if self._is_outdated:
            notes = f"⚠ The image was changed meanwhile: the cells are those before. {notes}"
        self.say(f"Done in {time_text(result.seconds)} on {ready.device.upper()}. {notes}")

    def say(self, sentence: str) -> None:
        """A line below the button."""
        self.status.setText(sentence)

    def say_wrong(self, sentence: str) -> None:
        """A line that something is wrong; told by a sign, not by color alone."""
        self.status.setText(f"⚠ {sentence}")


def plan_text(part: LayerPart, ready: Ready, diameter: float | str | None) -> str:
    """A line about a run before it is started: what, how long, and where."""
    planes = f"{part.n_planes} planes, " if part.n_planes > 1 else ""
    size = " x ".join(str(n) for n in part.plane_shape)
    level = f" of level {part.level}" if part.level else ""
    seconds = ready.seconds(part, diameter)
    duration = time_text(seconds) if seconds < 1 else f"about {time_text(seconds)}"
    if ready.is_estimated(part, diameter):
        duration += ", depending on the cells' size,"
    notes = [ready.note, read_note(part)]
    if max(part.plane_shape) > _LARGEST_TEXTURE:
        notes.append(
            f"⚠ napari draws labels above {_LARGEST_TEXTURE:,} px coarsely; the cells and all "
            "files are exact. A region is drawn exactly, too, and so is an exported OME-Zarr."
        )
    plan = f"{planes}{size} px{level}: {duration} on {ready.device.upper()}."
    return "\n".join([plan, *(note for note in notes if note)])
