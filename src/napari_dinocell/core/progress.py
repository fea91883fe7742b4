"""Progress of many files on the terminal: a bar with the time left, a line per finished file."""

import logging
import sys
from types import TracebackType
from typing import Protocol, Self

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
)

__all__ = ["FileProgress", "Watch"]

_log = logging.getLogger("napari_dinocell.progress")


class Watch(Protocol):
    """Who wants to know how far the work is."""

    def within_file(self, done: int, total: int) -> None:
        """`done` of `total` parts of the current file."""

    def file_done(self, line: str) -> None:
        """One file more, good or failed, with a line about it."""


class FileProgress:
    """Counts files on stderr; without a terminal there is no bar, only the lines.

    A context manager, so that the bar is taken down whatever ends the run.

    Parameters
    ----------
    total : int
        Files to be done.
    """

    def __init__(self, total: int) -> None:
        self._total = total
        self._done = 0
        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("time left"),
            TimeRemainingColumn(),
            console=Console(stderr=True),
            transient=True,
            disable=total == 0 or not sys.stderr.isatty(),
        )
        self._task: TaskID = self._bar.add_task("files", total=total)

    def __enter__(self) -> Self:
        self._bar.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._bar.stop()

    def within_file(self, done: int, total: int) -> None:
        """`done` of `total` parts of the current file."""
        fraction = done / total if total else 0.0
        self._bar.update(self._task, completed=min(self._done + fraction, self._total))

    def file_done(self, line: str) -> None:
        """One file more, with a line about it."""
        self._done += 1
        self._bar.update(self._task, completed=self._done)
        _log.info("[%d/%d] %s", self._done, self._total, line)
