"""Tells when the user's own models change, whoever changes them."""

from __future__ import annotations

from qtpy.QtCore import QFileSystemWatcher, QObject, QTimer, Signal

from napari_dinocell.core.model.own import own_folder

__all__ = ["OwnModelsWatch"]

_SETTLE_MS = 300  # files are written in several steps


class OwnModelsWatch(QObject):
    """Watches the folder of the user's own models.

    Signals
    -------
    changed()
        It is time to look: at first, when asked to, and a moment after files have changed.
    """

    changed = Signal()

    def __init__(self, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self._later = QTimer(self)
        self._later.setSingleShot(True)
        self._later.timeout.connect(self.changed.emit)
        self._watcher = QFileSystemWatcher(self)
        self._watcher.directoryChanged.connect(self.ask_later)
        # The window is shown first.
        self.ask()

    def ask(self) -> None:
        """Let `changed` be told when the event loop comes to it."""
        self._later.start(0)

    def ask_later(self, *_: object) -> None:
        """Let `changed` be told in a moment."""
        self._later.start(_SETTLE_MS)

    def begin(self) -> None:
        """Watch from now on; the folder is made if it is not there."""
        own_folder().mkdir(parents=True, exist_ok=True)
        self._watcher.addPath(str(own_folder()))
