"""The panel that segments a folder: the command line's path, with the settings of a run."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import Any

from qtpy.QtCore import QTimer
from qtpy.QtWidgets import QCheckBox, QListWidget, QVBoxLayout, QWidget

from napari_dinocell.core.record import RunRecord
from napari_dinocell.core.request import Request, make_request
from napari_dinocell.widgets.batch_form import BatchForm, BatchSettings
from napari_dinocell.widgets.column import Column
from napari_dinocell.widgets.engine import leave_a_core_to_the_window
from napari_dinocell.widgets.jobs import Job, Steps, Ticket
from napari_dinocell.widgets.preferences import preferences
from napari_dinocell.widgets.runner import Runner, Work
from napari_dinocell.widgets.warm_up import load_libraries

__all__ = ["BatchPanel", "BatchSettings"]

_PARTS = 1000  # of a file, for the progress bar


class BatchPanel(QWidget):
    """Segment all images of a folder as `napari-dinocell segment` does, and say what failed.

    Parameters
    ----------
    napari_viewer : napari.viewer.Viewer
        The viewer, given by napari.
    settings : BatchSettings, optional
        To begin with; those of the last run in the segment panel, for example.
    """

    def __init__(self, napari_viewer: Any, settings: BatchSettings | None = None) -> None:
        super().__init__()
        self.viewer = napari_viewer
        self.form = BatchForm(settings or BatchSettings(device=preferences().device))
        self.overwrite = QCheckBox("Segment finished images again")
        self.runner = Runner("Segment folder", self._plan, self._take)
        self.failures = QListWidget()
        self.failures.setAccessibleName("Images that failed")
        self.failures.setWordWrap(True)
        self.failures.hide()
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        column = Column(self.form, self.overwrite, self.runner, self.failures)
        layout.addWidget(column)
        self._later = QTimer(self)
        self._later.setSingleShot(True)
        self._later.setInterval(0)
        self._later.timeout.connect(lambda: column.ensureWidgetVisible(self.failures))
        self.runner.busy.connect(lambda is_busy: self.form.setEnabled(not is_busy))
        self._models = Job(_choices, self)
        self._models.succeeded.connect(self._offer)
        self._models.failed.connect(self.runner.say_wrong)
        self._models.start()

    def take(self, settings: BatchSettings) -> None:
        """Take other settings, unless a folder is being segmented; the folders stay."""
        if self.runner.job is None:
            self.form.fill_in(settings)

    def _offer(self, found: tuple[list[str], list[str]]) -> None:
        self.form.offer(*found)

    def _plan(self) -> Work:
        inputs, output = self.form.folders()
        options, kinds = self.form.options(), self.form.kinds()
        recursive, overwrite = self.form.recursive.isChecked(), self.overwrite.isChecked()
        self.failures.clear()
        self.failures.hide()

        def work(ticket: Ticket) -> Steps:
            yield "Looking for images …"
            request = make_request([inputs], output, kinds, options, recursive=recursive)
            todo = request.unfinished(overwrite=overwrite)
            if not todo:
                return request.finished_before(), 0, len(request.jobs)
            skipped = len(request.jobs) - len(todo)
            note = f" ({skipped} were finished before)" if skipped else ""
            yield f"Segmenting {_images(len(todo))}{note} …"
            record = _run(request, todo, overwrite, ticket)
            return record, len(todo), skipped

        return work

    def _take(self, outcome: tuple[RunRecord | None, int, int]) -> str:
        record, n_todo, n_skipped = outcome
        if not n_todo:
            return f"Nothing to do: {_images(n_skipped)} were finished before."
        assert record is not None
        failed = record.failed
        for failure in failed:
            name = Path(failure.source).name
            reason = str(failure.error).replace(str(failure.source), name)
            self.failures.addItem(f"⚠ {reason if name in reason else f'{name}: {reason}'}")
        self.failures.setVisible(bool(failed))
        if failed:
            # Once it has a place in the column.
            self._later.start()
        done = f"{n_todo - len(failed)} of {_images(n_todo)} segmented"
        skipped = f", {n_skipped} were finished before" if n_skipped else ""
        wrong = " ⚠ The others failed:" if failed else ""
        return f"{done}{skipped}; results are in {self.form.folders()[1]}.{wrong}"


class _Watch:
    """Tells a job's ticket how far the files are."""

    def __init__(self, ticket: Ticket, n_files: int) -> None:
        self._ticket, self._n_files = ticket, n_files
        self._done = 0
        ticket.progress(0, n_files * _PARTS)

    def within_file(self, done: int, total: int) -> None:
        """`done` of `total` parts of the current file."""
        part = _PARTS * done // total if total else 0
        self._tell(min(part, _PARTS - 1))

    def file_done(self, line: str) -> None:
        """One file more, good or failed."""
        self._done += 1
        self._tell(0)

    def _tell(self, part: int) -> None:
        at = self._done * _PARTS + part
        if at:
            self._ticket.progress(at, self._n_files * _PARTS)


def _run(request: Request, todo: Any, overwrite: bool, ticket: Ticket) -> RunRecord:
    # Brings torch: loaded by the job, not by the window.
    batch = import_module("napari_dinocell.core.batch")
    leave_a_core_to_the_window()
    watch = _Watch(ticket, len(todo))
    record: RunRecord = batch.run_request(
        request, todo, overwrite=overwrite, watch=watch, cancel=ticket.cancel
    )
    return record


def _choices(ticket: Ticket) -> Steps:
    """Names of models and devices."""
    yield None
    load_libraries()
    models = import_module("napari_dinocell.core.model.manage").installed()
    devices = import_module("napari_dinocell.core.device").available_devices()
    return [name for name, _, _ in models], ["auto", *devices]


def _images(count: int) -> str:
    return f"{count:,} image" if count == 1 else f"{count:,} images"
