"""Annotation projects as training data: partial labels, all else unknown."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from napari_dinocell.core.project import Project
from napari_dinocell.core.training.data import (
    UNKNOWN,
    LabelArray,
    LabeledImage,
    instance_areas,
    with_areas,
)


@dataclass(frozen=True)
class ProjectLabels:
    """Reads the labels of one entry of a project when it is called."""

    folder: Path
    name: str

    def __call__(self) -> LabelArray:
        """(Y, X) int32: cells, 0 where it is known that there is none, else `UNKNOWN`."""
        project = Project(self.folder)
        (entry,) = (one for one in project.entries if one.name == self.name)
        return project.read(entry).training_labels(UNKNOWN)


def read_project(folder: str | Path, *, name: str | None = None) -> list[LabeledImage]:
    """List the planes of an annotation project.

    Parameters
    ----------
    folder : path
        See `napari_dinocell.core.project`.
    name : str, optional
        Name of the set, by default that of the folder.

    Raises
    ------
    FileNotFoundError, ValueError, ImageFileError
        As `Project` and its `read`.
    """
    project = Project(folder)
    items = []
    for entry in project.entries:
        labels = ProjectLabels(project.folder, entry.name)
        item = LabeledImage(
            name or project.folder.resolve().name,
            entry.name,
            project.image_path(entry),
            labels,
            axes=entry.axes,
        )
        items.append(with_areas(item, instance_areas(labels())))
    return items
