"""Annotation projects as training data: partial labels, all else unknown."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from napari_dinocell.core.marks import read_marks
from napari_dinocell.core.project import Entry, Project
from napari_dinocell.core.training.data import (
    UNKNOWN,
    LabelArray,
    LabeledImage,
    instance_areas,
    with_areas,
)


@dataclass(frozen=True)
class ProjectLabels:
    """Reads the labels of one plane of a project when it is called.

    Attributes
    ----------
    folder : Path
        Of the project.
    entry : Entry
    shape : (int, int)
        Height and width of the image, px.
    """

    folder: Path
    entry: Entry
    shape: tuple[int, ...]

    def __call__(self) -> LabelArray:
        """(Y, X) int32: cells, 0 where it is known that there is none, else `UNKNOWN`."""
        return read_marks(self.folder, self.entry, self.shape).training_labels(UNKNOWN)


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
        plane = project.read(entry)  # once, to see that the image is the one that was annotated
        item = LabeledImage(
            name or project.folder.resolve().name,
            entry.name,
            project.image_path(entry),
            ProjectLabels(project.folder, entry, plane.labels.shape),
            axes=entry.axes,
        )
        items.append(with_areas(item, instance_areas(plane.training_labels(UNKNOWN))))
    return items
