"""The models of a panel: which there are, and the one that is loaded."""

from __future__ import annotations

from typing import Any

from qtpy.QtCore import QObject, Signal

from napari_dinocell.widgets.engine import Engine, Ready
from napari_dinocell.widgets.jobs import Job, Steps, Ticket
from napari_dinocell.widgets.own_watch import OwnModelsWatch

__all__ = ["Models"]


class Models(QObject):
    """Looks for models and loads the wanted one beside the event loop.

    A model is loaded as soon as it is chosen, so that the time of a run can be told before it.
    When the user's own models change, they are looked for again.

    Signals
    -------
    offered(object, object, str)
        Models (`Choice`), names of devices, name of the model to begin with.
    changed()
        `ready`, `error` or `is_looking` is another one.

    Attributes
    ----------
    error : str
        Why the wanted model could not be loaded; empty if it could.
    is_device_failure : bool
        Whether another device may do it.
    """

    offered = Signal(object, object, str)
    changed = Signal()

    def __init__(self, engine: Engine, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self.engine = engine
        self.ready: Ready | None = None
        self.error = ""
        self.is_device_failure = False
        self.is_looking = True
        self._known: tuple[str, str] | None = None
        self._wanted: tuple[str, str] | None = None
        self._job: Job | None = None
        self._watch = OwnModelsWatch(self)
        self._watch.changed.connect(self._look)

    def want(self, name: str, device: str) -> bool:
        """Whether a model is ready; begins to load it if not."""
        key = (name, device)
        if self._known == key:
            return self.ready is not None
        if self._job is None:
            self.ready, self.error, self._wanted = None, "", key
            self.is_device_failure = False
            self._start(lambda ticket: self.engine.ready(name, device), self._loaded)
        return False

    def look(self) -> None:
        """Look for models again."""
        self._watch.ask()

    def _look(self) -> None:
        if self._job is not None:
            self._watch.ask_later()
            return
        self._start(self._choices, self._found)

    def _choices(self, ticket: Ticket) -> Steps:
        yield "Looking for models …"
        return self.engine.choices()

    def _start(self, work: Any, succeeded: Any) -> None:
        self._job = Job(work, self)
        self._job.succeeded.connect(succeeded)
        self._job.failed.connect(self._failed)
        self._job.start()

    def _found(self, found: Any) -> None:
        self._job, self.is_looking = None, False
        self._watch.begin()
        self.offered.emit(*found)
        self.changed.emit()

    def _loaded(self, ready: Ready) -> None:
        self._job, self._known, self.ready = None, self._wanted, ready
        self.changed.emit()

    def _failed(self, sentence: str) -> None:
        assert self._job is not None
        self.is_device_failure = self._job.is_device_failure
        self._job, self._known, self.is_looking = None, self._wanted, False
        self.ready, self.error = None, sentence
        self.changed.emit()
