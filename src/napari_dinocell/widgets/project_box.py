"""Two buttons: save what is annotated as a project, open one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from qtpy.QtWidgets import QFileDialog, QGridLayout, QPushButton, QWidget

from napari_dinocell.widgets.adapt_work import Outcome
from napari_dinocell.widgets.annotations import gather
from napari_dinocell.widgets.project_files import add_layers, read_project, write_project
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
        self.runner.start(lambda ticket: write_project(ticket, folder, annotated, kept))

    def open(self, folder: Path) -> None:
        """Begin to read a project, and add its images and annotation."""
        self.runner.start(lambda ticket: read_project(ticket, folder))

    def _take(self, outcome: Any) -> str:
        if isinstance(outcome, str):
            return outcome
        opened, models = outcome
        for one in opened:
            add_layers(self._viewer, one)
        new = f" New models: {', '.join(models)}." if models else ""
        images = "1 image" if len(opened) == 1 else f"{len(opened)} images"
        return f"Opened {images}: segment each to go on with its corrections.{new}"

    def _ask_save(self, *_: Any) -> None:
        chosen = QFileDialog.getExistingDirectory(self, "Folder of the project")
        if chosen:
            self.save(Path(chosen))

    def _ask_open(self, *_: Any) -> None:
        chosen = QFileDialog.getExistingDirectory(self, "Open a project")
        if chosen:
            self.open(Path(chosen))
