"""One button that starts a job and then cancels it, its progress, and a line about it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from qtpy.QtCore import Signal
from qtpy.QtWidgets import QProgressBar, QPushButton, QVBoxLayout, QWidget

from napari_dinocell.widgets.jobs import Job, Steps, Ticket
from napari_dinocell.widgets.rows import text_line
from napari_dinocell.widgets.timing import time_text

__all__ = ["Runner", "Work"]

Work = Callable[[Ticket], Steps]


class Runner(QWidget):
    """Runs one job at a time.

    Parameters
    ----------
    verb : str
        On the button; without one there is none, and `start` begins the jobs.
    plan : callable or None
        Gives the work when the button is pressed; raises ValueError with a sentence about what is
        missing.
    take : callable
        Takes what the work returned; gives a sentence about it.
    keeps_partial : bool
        Whether that is taken after a Cancel, too.

    Signals
    -------
    busy(bool)
        A job begins, or has ended.
    """

    busy = Signal(bool)

    def __init__(
        self,
        verb: str,
        plan: Callable[[], Work] | None,
        take: Callable[[Any], str],
        parent: QWidget | None = None,
        *,
        keeps_partial: bool = False,
    ) -> None:
        super().__init__(parent)
        self.job: Job | None = None
        self._verb, self._plan, self._take = verb, plan, take
        self._keeps_partial = keeps_partial
        self.button = QPushButton(verb)
        self.button.setMinimumHeight(2 * self.fontMetrics().height())
        self.button.clicked.connect(self._clicked)
        self.button.setVisible(bool(verb))
        self.bar = QProgressBar()
        self.bar.setAccessibleName("Progress")
        self.bar.hide()
        self.status = text_line("Status")
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        for widget in (self.button, self.bar, self.status):
            layout.addWidget(widget)

    def say(self, sentence: str) -> None:
        """A line below the button."""
        self.status.setText(sentence)

    def say_wrong(self, sentence: str) -> None:
        """A line that something is wrong; told by a sign, not by color alone."""
        self.status.setText(f"⚠ {sentence}")

    def _clicked(self) -> None:
        if self.job is not None:
            self.job.cancel()
            self.button.setEnabled(False)
            self.say("Cancelling …")
            return
        assert self._plan is not None
        try:
            work = self._plan()
        except (ValueError, OSError) as error:
            self.say_wrong(str(error))
            return
        self.start(work)

    def start(self, work: Work) -> None:
        """Begin a job, unless one is running."""
        if self.job is not None:
            return
        job = self.job = Job(work, self, keeps_partial=self._keeps_partial)
        job.step.connect(self.say)
        job.progressed.connect(self._progress)
        job.succeeded.connect(self._succeeded)
        job.failed.connect(self.say_wrong)
        job.cancelled.connect(lambda: self.say("Cancelled."))
        job.ended.connect(self._ended)
        self.button.setText("Cancel")
        self.bar.setRange(0, 0)
        self.bar.setFormat("")
        self.bar.show()
        self.busy.emit(True)
        job.start()

    def _progress(self, done: int, total: int) -> None:
        self.bar.setRange(0, total)
        self.bar.setValue(done)
        self.show_left(self.job.ticket.seconds_left if self.job is not None else None)

    def show_left(self, left: float | None) -> None:
        """Seconds that the job will still take; None while nobody knows."""
        self.bar.setFormat("%p %" if left is None else f"%p % · {time_text(left)} left")

    def _succeeded(self, value: Any) -> None:
        self.say(self._take(value))

    def _ended(self) -> None:
        self.job = None
        self.bar.hide()
        self.button.setText(self._verb)
        self.button.setEnabled(True)
        self.busy.emit(False)
