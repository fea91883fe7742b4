"""What is drawn on one plane of an annotation project, and its files."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from napari_dinocell.core.errors import ImageFileError
from napari_dinocell.core.images import read_image
from napari_dinocell.core.project_file import Entry, by_stem

__all__ = ["KINDS", "Labels", "Marks", "Mask", "read_marks"]

KINDS = ("labels", "background", "regions")
"""Folders of a project, one file per plane in each."""

_RIM = 2.0  # px around a labeled cell that are surely not of that cell, nor of an unlabeled one

Labels = npt.NDArray[np.integer]
Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class Marks:
    """Annotation of one plane.

    Attributes
    ----------
    labels : (Y, X) int array
        Cells that count; 0 is unknown.
    background : (Y, X) bool array or None
        Where there is no cell.
    regions : (Y, X) bool array or None
        Where every cell is in `labels`: not on cells that nobody verified.
    doubtful : (Y, X) bool array
        Cells of the label file that do not count, because nobody verified them.
    """

    labels: Labels
    background: Mask | None
    regions: Mask | None
    doubtful: Mask

    def training_labels(self, unknown: int = -1) -> npt.NDArray[np.int32]:
        """Labels with `unknown` wherever nothing was said.

        Known background are marked places, complete regions, and a rim of 2 px around labeled
        cells that does not enter doubtful ones.

        Returns
        -------
        (Y, X) int32 array
        """
        labels = self.labels.astype(np.int32)
        distance = np.asarray(ndimage.distance_transform_edt(labels == 0))
        known = (labels > 0) | ((distance <= _RIM) & ~self.doubtful & bool(labels.any()))
        for mask in (self.background, self.regions):
            if mask is not None:
                known |= mask
        labels[~known] = unknown
        return labels


def read_marks(folder: Path, entry: Entry, shape: tuple[int, ...]) -> Marks:
    """Read the annotation of one plane.

    Parameters
    ----------
    folder : Path
        Of the project.
    entry : Entry
    shape : (int, int)
        Height and width of its image, px.

    Raises
    ------
    FileNotFoundError
        If there are no labels.
    ImageFileError
        If a file is damaged, of another size, or does not hold integers.
    ValueError
        If two files of a folder have one stem.
    """
    labels, background, regions = (_read(folder / kind, entry, shape) for kind in KINDS)
    if labels is None:
        raise FileNotFoundError(f"{entry.name} has no labels in {folder / 'labels'}.")
    doubtful = np.zeros(labels.shape, bool)
    if entry.verified is not None:
        doubtful = (labels != 0) & ~np.isin(labels, entry.verified)
    return Marks(
        np.where(doubtful, 0, labels),
        None if background is None else background != 0,
        None if regions is None else (regions != 0) & ~doubtful,
        doubtful,
    )


def _read(folder: Path, entry: Entry, shape: tuple[int, ...]) -> Labels | None:
    """One kind of annotation; None where there is no file."""
    path = by_stem(folder).get(entry.name)
    if path is None:
        return None
    part = read_image(path, "YX")
    if part.shape != shape:
        raise ImageFileError(
            f"{path} is {part.shape[0]} x {part.shape[1]} px, the image is "
            f"{shape[0]} x {shape[1]}; they must have one size."
        )
    array = np.asarray(part.array[...])
    if array.dtype.kind not in "bui":
        raise ImageFileError(f"{path} holds {array.dtype}; labels must be integers.")
    return array.astype(np.int64)
