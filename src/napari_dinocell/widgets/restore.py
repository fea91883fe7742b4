"""Corrections that a crash left on disk: looked for and read beside the event loop."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from qtpy.QtCore import Signal
from qtpy.QtWidgets import QPushButton, QWidget

from napari_dinocell.widgets.autosave import find_lost, load
from napari_dinocell.widgets.jobs import Job, Steps, Ticket

__all__ = ["RestoreButton"]


class RestoreButton(QPushButton):
    """A button that is there only when corrections of an image were lost.

    Signals
    -------
    found(object, object)
        Corrections of the image, and the file that they were read from.
    failed(str)
        One sentence.
    """

    found = Signal(object, object)
    failed = Signal(str)

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__("Restore lost corrections", parent)
        self.setToolTip("napari ended before they were exported.")
        self.clicked.connect(self._read)
        self._path: Path | None = None
        self._job: Job | None = None
        self.hide()

    def look(self, image: str, shape: tuple[int, ...]) -> None:
        """Look for corrections of an image by name and shape of its labels."""
        self.hide()

        def work(ticket: Ticket) -> Steps:
            yield None
            return find_lost(image, shape)

        self._start(work, self._offer)

    def _offer(self, path: Path | None) -> None:
        self._path = path
        self.setVisible(path is not None)

    def _read(self) -> None:
        path = self._path
        if path is None:
            return

        def work(ticket: Ticket) -> Steps:
            yield None
            return load(path)

        self.setEnabled(False)
        self._start(work, self._done)

    def _done(self, corrected: npt.NDArray[np.integer]) -> None:
        self.hide()
        self.found.emit(corrected, self._path)

    def _start(self, work: Any, succeeded: Any) -> None:
        if self._job is not None:
            self._job.cancel()
        job = self._job = Job(work, self)
        job.succeeded.connect(lambda value: succeeded(value) if job is self._job else None)
        job.failed.connect(self.failed.emit)
        job.ended.connect(lambda: self.setEnabled(True))
        job.start()
