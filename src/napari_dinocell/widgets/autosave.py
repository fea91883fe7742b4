"""Corrections on disk while they are made, so that a crash costs seconds of work, not hours."""

from __future__ import annotations

import json
import logging
import os
import time
import uuid
import zipfile
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import platformdirs
import psutil
from qtpy.QtCore import QObject, QTimer, Signal

from napari_dinocell.core.writing import whole_file
from napari_dinocell.widgets.jobs import Job, Steps, Ticket

__all__ = ["Autosaver", "Saved", "find_lost", "folder", "load", "read_about", "save"]

_DELAY_MS = 2000
_KEEP_SECONDS = 60 * 86400
_ENDING = ".corrections.npz"

_DAMAGE = (OSError, EOFError, KeyError, TypeError, IndexError, ValueError, zipfile.BadZipFile)

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Saved:
    """What a file of corrections belongs to.

    Attributes
    ----------
    image : str
        Name of the image layer.
    shape : tuple of int
        Of its labels.
    pid : int
        Process that wrote it.
    started, time : float
        When that process began, and when it wrote; seconds since 1970.
    """

    image: str
    shape: tuple[int, ...]
    pid: int
    started: float
    time: float

    @property
    def is_lost(self) -> bool:
        """Whether nobody works on it any more."""
        try:
            process = psutil.Process(self.pid)
            return abs(float(process.create_time()) - self.started) > 1
        except psutil.NoSuchProcess:
            return True


def folder() -> Path:
    """Where corrections are kept."""
    return Path(platformdirs.user_state_path("napari-dinocell")) / "corrections"


def save(path: Path, corrected: npt.NDArray[np.integer], about: Saved) -> None:
    """Write the pixels that are not 0, whole or not at all.

    Raises
    ------
    OutputFileError
        If the file cannot be written.
    """
    flat = corrected.ravel()
    at = np.flatnonzero(flat)
    note = np.frombuffer(json.dumps(asdict(about)).encode(), np.uint8)
    path.parent.mkdir(parents=True, exist_ok=True)
    with whole_file(path) as temporary, temporary.open("wb") as out:
        # Differences of sorted positions are small numbers, which compress well.
        np.savez_compressed(out, steps=np.diff(at, prepend=0), values=flat[at], about=note)


def read_about(path: Path) -> Saved:
    """What a file of corrections belongs to; raises as `load`."""
    try:
        with path.open("rb") as stream, np.load(stream, allow_pickle=False) as file:
            fields = json.loads(file["about"].tobytes())
            return Saved(**{**fields, "shape": tuple(fields["shape"])})
    except _DAMAGE as error:
        raise _foreign(path) from error


def load(path: Path) -> npt.NDArray[np.integer]:
    """Read the corrections that `save` wrote.

    Raises
    ------
    ValueError
        If the file is not one of these.
    """
    about = read_about(path)
    try:
        with path.open("rb") as stream, np.load(stream, allow_pickle=False) as file:
            values: npt.NDArray[np.integer] = file["values"]
            corrected = np.zeros(about.shape, values.dtype)
            corrected.ravel()[np.cumsum(file["steps"])] = values
    except _DAMAGE as error:
        raise _foreign(path) from error
    return corrected


def _foreign(path: Path) -> ValueError:
    return ValueError(f"{path.name} holds no corrections; delete it.")


def find_lost(image: str, shape: tuple[int, ...]) -> Path | None:
    """The newest corrections of an image whose process is gone. Very old files are removed."""
    found: list[tuple[float, Path]] = []
    for path in folder().glob(f"*{_ENDING}"):
        try:
            about = read_about(path)
        except ValueError as error:
            log.warning("%s", error)
            continue
        if time.time() - about.time > _KEEP_SECONDS:
            path.unlink(missing_ok=True)
        elif (about.image, about.shape) == (image, shape) and about.is_lost:
            found.append((about.time, path))
    return max(found)[1] if found else None


class Autosaver(QObject):
    """Saves a layer of corrections a moment after each change, on another thread.

    Parameters
    ----------
    image : str
        Name of the image layer.

    Signals
    -------
    failed(str)
        The file could not be written; the work goes on, and so do the attempts.
    """

    failed = Signal(str)

    def __init__(self, image: str, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self.path = folder() / f"{uuid.uuid4().hex}{_ENDING}"
        self._image = image
        self._layer: Any = None
        self._job: Job | None = None
        self._replaced: list[Path] = []
        self._timer = QTimer(self)
        self._timer.setSingleShot(True)
        self._timer.setInterval(_DELAY_MS)
        self._timer.timeout.connect(self.save_now)

    def changed(self, layer: Any) -> None:
        """Save a layer soon."""
        self._layer = layer
        self._timer.start()

    def save_now(self) -> None:
        """Begin to save, unless that is under way: then again afterwards."""
        if self._layer is None:
            return
        if self._job is not None and self._job.is_running:
            self._timer.start()
            return
        array: npt.NDArray[np.integer] = self._layer.data
        self._job = Job(lambda ticket: self._steps(ticket, array), self)
        self._job.failed.connect(self.failed.emit)
        self._job.start()

    def _steps(self, ticket: Ticket, array: npt.NDArray[np.integer]) -> Steps:
        yield None
        process = psutil.Process(os.getpid())
        shape = tuple(int(n) for n in array.shape)
        about = Saved(self._image, shape, process.pid, process.create_time(), time.time())
        save(self.path, array, about)
        for path in self._replaced:
            path.unlink(missing_ok=True)

    def discard(self, *_: object) -> None:
        """Remove the file: the corrections are safe elsewhere."""
        self._timer.stop()
        self.path.unlink(missing_ok=True)

    def replaces(self, path: Path) -> None:
        """Remove another file once what it holds was saved again."""
        self._replaced.append(path)
        self._timer.start()
