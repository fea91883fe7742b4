"""Long work beside the event loop: one job, its progress, its end."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Generator
from dataclasses import dataclass, field
from typing import Any

from napari.qt.threading import create_worker
from qtpy.QtCore import QObject, QTimer, Signal

from napari_dinocell.core.errors import Cancelled

__all__ = ["Job", "Ticket", "expected", "is_device_failure"]

_POLL_MS = 100
_EXPECTED = (ValueError, TypeError, OSError, MemoryError, LookupError)
_DEVICE_WORDS = ("out of memory", "cuda error", "cudnn error", "cublas", "mps backend")

log = logging.getLogger(__name__)

Steps = Generator[Any, None, Any]


def expected(error: Exception) -> str:
    """One sentence about an error, for a line in a panel."""
    text = str(error).strip() or type(error).__name__
    if isinstance(error, _EXPECTED):
        return text
    if is_device_failure(error):
        return f"The device failed: {text.splitlines()[0].split('. ')[0].rstrip('.')}."
    return f"{type(error).__name__}: {text}"


def is_device_failure(error: Exception) -> bool:
    """Whether the same work may succeed on another device: no memory is left, or this one is lost."""
    text = str(error).lower()
    is_theirs = isinstance(error, RuntimeError) and any(word in text for word in _DEVICE_WORDS)
    return isinstance(error, MemoryError) or is_theirs


@dataclass
class Ticket:
    """What the job and its panel know of each other; written by the job, read by the panel."""

    done: int = 0
    total: int = 0
    started: float = field(default_factory=time.monotonic)
    wants_stop: bool = False
    is_quit: Callable[[], bool] = field(default=lambda: False)

    def progress(self, done: int, total: int) -> None:
        """For core: `done` of `total` parts."""
        if done == 0:
            self.started = time.monotonic()
        self.done, self.total = done, total

    def cancel(self) -> bool:
        """For core: whether to stop."""
        return self.wants_stop or self.is_quit()

    @property
    def seconds(self) -> float:
        """Since the work began."""
        return time.monotonic() - self.started

    @property
    def seconds_left(self) -> float | None:
        """By the pace so far; None before there is one."""
        if not self.done:
            return None
        return self.seconds / self.done * (self.total - self.done)


@dataclass
class _Outcome:
    value: Any = None
    error: str = ""
    is_device_failure: bool = False
    was_cancelled: bool = False


def dinocell_job(work: Callable[[Ticket], Steps], ticket: Ticket) -> Generator[Any, None, _Outcome]:
    """Run the steps of a job; whatever happens becomes an outcome.

    Errors are not raised: napari would show a traceback, and the panel nothing. The name of this
    function is what napari shows when it is closed while a job runs.
    """
    try:
        return _Outcome((yield from work(ticket)))
    except Cancelled:
        return _Outcome(was_cancelled=True)
    except Exception as error:
        log.debug("A job failed.", exc_info=True)
        return _Outcome(error=expected(error), is_device_failure=is_device_failure(error))


class Job(QObject):
    """One piece of work on another thread.

    Parameters
    ----------
    work : callable
        Gives the steps.
    keeps_partial : bool
        Whether what the work returns after it was cancelled is a result.

    Signals
    -------
    step(object)
        What the work yields: the name of its next step, or a part of its result.
    progressed(int, int)
        Parts done, of a total; at most ten times a second.
    succeeded(object), failed(str), cancelled()
        One of them, once, on the thread of the window.
    ended()
        After that one.

    Attributes
    ----------
    is_device_failure : bool
        Of a job that failed: whether another device may do it.
    """

    step = Signal(object)
    progressed = Signal(int, int)
    succeeded = Signal(object)
    failed = Signal(str)
    cancelled = Signal()
    ended = Signal()

    def __init__(
        self,
        work: Callable[[Ticket], Steps],
        parent: QObject | None = None,
        *,
        keeps_partial: bool = False,
    ) -> None:
        super().__init__(parent)
        self.ticket = Ticket()
        self._keeps_partial = keeps_partial
        self._worker = create_worker(dinocell_job, work, self.ticket, _start_thread=False)
        self.ticket.is_quit = lambda: bool(self._worker.abort_requested)
        self._worker.yielded.connect(self._stepped)
        self._worker.returned.connect(self._returned)
        self._worker.finished.connect(self._finished)
        self.is_device_failure = False
        self._seen = (-1, -1)
        self._timer = QTimer(self)
        self._timer.setInterval(_POLL_MS)
        self._timer.timeout.connect(self._poll)
        self.is_running = False

    def start(self) -> None:
        """Begin."""
        self.is_running = True
        self._timer.start()
        self._worker.start()

    def cancel(self) -> None:
        """Ask the job to stop; it does so within one batch of tiles."""
        self.ticket.wants_stop = True

    def _stepped(self, part: object) -> None:
        if part is not None:
            self.step.emit(part)

    def _poll(self) -> None:
        state = (self.ticket.done, self.ticket.total)
        if state != self._seen and self.ticket.total:
            self._seen = state
            self.progressed.emit(*state)

    def _returned(self, outcome: _Outcome) -> None:
        self._stop()
        is_dropped = self.ticket.wants_stop and not self._keeps_partial
        if outcome.was_cancelled or is_dropped:
            self.cancelled.emit()
        elif outcome.error:
            self.is_device_failure = outcome.is_device_failure
            self.failed.emit(outcome.error)
        else:
            self.succeeded.emit(outcome.value)
        self.ended.emit()

    def _finished(self) -> None:
        # A worker that napari has quit ends without a result.
        if self.is_running:
            self._stop()
            self.cancelled.emit()
            self.ended.emit()

    def _stop(self) -> None:
        self._timer.stop()
        self.is_running = False
