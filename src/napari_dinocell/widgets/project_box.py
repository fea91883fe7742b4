"""Two buttons: save what is annotated as a project, open one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from qtpy.QtWidgets import QFileDialog, QGridLayout, QPushButton, QWidget

from napari_dinocell.widgets.adapt_work import Outcome
from napari_dinocell.widgets.annotations import gather
from napari_dinocell.widgets.project_files import Read, add_layers, read_project, write_project
from napari_dinocell.widgets.runner import Runner

__all__ = ["ProjectBox"]


class ProjectBox(QWidget):
    """Saves annotation and adapted models as one folder, and opens such folders.

    Parameters
    ----------
    viewer : napari viewer
    kept : list of Outcome
        Adapted models of this session; the panel's own list, which grows.
    """

    def __init__(self, viewer: Any, kept: list[Outcome], parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._viewer, self._kept = viewer, kept
        self._known: dict[Path, frozenset[str]] = {}  # planes opened or written here, by folder
        self.save_button = QPushButton("Save project …")
        self.save_button.setToolTip("Images, annotation and adapted models as one folder.")
        self.save_button.clicked.connect(self._ask_save)
        self.open_button = QPushButton("Open project …")
        self.open_button.setToolTip("Go on with the annotation of such a folder.")
        self.open_button.clicked.connect(self._ask_open)
        self.runner = Runner("", None, self._take)
        layout = QGridLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self.save_button, 0, 0)
        layout.addWidget(self.open_button, 0, 1)
        layout.addWidget(self.runner, 1, 0, 1, 2)

    def save(self, folder: Path) -> None:
        """Begin to write what is annotated, and the models that came of it."""
        annotated, kept = gather(self._viewer), list(self._kept)
        known = self._known.get(folder.resolve(), frozenset())
        self.runner.start(lambda ticket: write_project(ticket, folder, annotated, kept, known))

    def open(self, folder: Path) -> None:
        """Begin to read a project, and add its images and annotation."""
        self.runner.start(lambda ticket: read_project(ticket, folder))

    def _take(self, outcome: Any) -> str:
        if not isinstance(outcome, Read):
            self._remember(outcome.folder, outcome.names)
            return str(outcome.sentence)
        planes = outcome.planes
        if not (planes or outcome.models or outcome.problems):
            return f"⚠ {outcome.folder.name} holds no annotated image yet."
        for one in planes:
            add_layers(self._viewer, one)
        self._remember(outcome.folder, frozenset(one.name for one in planes))
        images = "1 image" if len(planes) == 1 else f"{len(planes)} images"
        lines = [f"Opened {images}: segment each to go on with its corrections."]
        if outcome.models:
            lines.append(f"New models: {', '.join(outcome.models)}.")
        return "\n".join([*lines, *(f"⚠ {problem}" for problem in outcome.problems)])

    def _remember(self, folder: Path, names: frozenset[str]) -> None:
        key = folder.resolve()
        self._known[key] = self._known.get(key, frozenset()) | names

    def _ask_save(self, *_: Any) -> None:
        chosen = QFileDialog.getExistingDirectory(self, "Folder of the project")
        if chosen:
            self.save(Path(chosen))

    def _ask_open(self, *_: Any) -> None:
        chosen = QFileDialog.getExistingDirectory(self, "Open a project")
        if chosen:
            self.open(Path(chosen))
