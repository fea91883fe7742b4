"""How far an adaptation is, on a terminal or in a log."""

from __future__ import annotations

import logging
import time

from rich.console import Console
from rich.progress import BarColumn, TextColumn
from rich.progress import Progress as Bar

from napari_dinocell.core.adapt.adaptation import Progress

_log = logging.getLogger("napari_dinocell.adapt")
_LINE_SECONDS = 3.0
_PARTS = {"features": "Features", "training": "Training", "tuning": "Thresholds"}


class Terminal:
    """A bar on stderr; without a terminal a line now and then."""

    def __init__(self) -> None:
        out = Console(stderr=True)
        self._is_live = out.is_terminal
        self._bar = Bar(
            TextColumn("{task.description}"),
            BarColumn(),
            TextColumn("{task.fields[note]}"),
            console=out,
            transient=True,
            disable=not self._is_live,
        )
        self._task = self._bar.add_task("", total=1.0, note="")
        self._written = float("-inf")

    def __enter__(self) -> Terminal:
        self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.stop()

    def show(self, now: Progress) -> None:
        """Part, time left, and where the loss stands."""
        note = f"{now.seconds_left:.0f} s left"
        if now.curve is not None and now.curve.loss:
            losses = now.curve.held_out or now.curve.loss
            note += f", loss {losses[0]:.4f} -> {losses[-1]:.4f} at step {now.curve.steps[-1]}"
        part = _PARTS[now.part]
        self._bar.update(self._task, description=part, completed=now.done, note=note)
        if not self._is_live and time.monotonic() - self._written >= _LINE_SECONDS:
            self._written = time.monotonic()
            _log.info("%s: %s", part, note)
