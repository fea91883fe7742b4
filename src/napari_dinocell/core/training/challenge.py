"""Labeled frames of the Cell Tracking Challenge: 01, 01_GT/SEG, 01_ST/SEG, 01_GT/TRA."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from scipy import ndimage

from napari_dinocell.core.errors import ImageFileError
from napari_dinocell.core.training.data import LabeledImage, instance_areas, with_areas
from napari_dinocell.core.training.decode import (
    UNKNOWN,
    LabelArray,
    LabelSource,
    load_labels,
    read_labels,
)

Truth = Literal["gold", "silver", "best"]

_FRAME = re.compile(r"^man_seg(\d+)\.tif$")
_SLICE = re.compile(r"^man_seg_\d+_\d+\.tif$")


@dataclass(frozen=True)
class PartialLabels:
    """Labels of a frame in which not every cell was drawn, (Y, X) int32 when called.

    Gold annotation may leave cells out, but each cell has a marker in the tracking annotation. If
    a marker has no drawn cell, only a ring around the drawn ones is known to be background, and
    all else is `UNKNOWN`.
    """

    segmentation: Path
    markers: Path

    def __call__(self) -> LabelArray:
        """Read both files."""
        labels, markers = read_labels(self.segmentation), read_labels(self.markers)
        if labels.shape != markers.shape:
            raise ImageFileError(
                f"{self.segmentation} is {labels.shape} px, but {self.markers} is {markers.shape}."
            )
        drawn = np.unique(markers[labels > 0])
        if np.isin(np.unique(markers), [0, *drawn]).all():
            return labels
        areas = instance_areas(labels)
        width = float(np.clip(np.sqrt(np.median(areas) / np.pi) / 4, 3, 8)) if areas.size else 0.0
        is_far = ndimage.distance_transform_edt(labels == 0) > width if areas.size else True
        labels[(labels == 0) & (is_far | (markers > 0))] = UNKNOWN
        return labels


def read_challenge(
    folder: str | Path, *, name: str | None = None, truth: Truth = "best"
) -> list[LabeledImage]:
    """List the annotated frames of one data set of the Cell Tracking Challenge.

    Parameters
    ----------
    folder : str or Path
        Holds movies (01, 02, ... with t000.tif ...) and their annotation (01_GT, 01_ST).
    name : str, optional
        Name of the set, by default that of the folder.
    truth : {"best", "gold", "silver"}
        Annotation of experts (GT/SEG), of merged algorithms (ST/SEG), or gold where complete
        frames of it exist and silver for the others.

    Returns
    -------
    list of LabeledImage
        Frames of 2-D movies; one movie is one group.

    Raises
    ------
    FileNotFoundError
        No such folder, no annotated frames, or a frame without its image.
    ImageFileError
        The movies are 3-D.
    """
    folder = Path(folder)
    movies = sorted(p for p in folder.glob("[0-9][0-9]") if p.is_dir())
    if not movies:
        raise FileNotFoundError(
            f"{folder} has no movies 01, 02, ...; give a data set of the Cell Tracking Challenge."
        )
    items = []
    for movie in movies:
        frames = _frames(movie, "ST") if truth != "gold" else {}
        if truth != "silver":
            frames |= {
                time: _gold(movie, path, time) for time, path in _frames(movie, "GT").items()
            }
        for time, labels in sorted(frames.items()):
            image = movie / f"t{time}.tif"
            if not image.is_file():
                raise FileNotFoundError(f"Frame {time} of {movie} is annotated, but no {image}.")
            item = LabeledImage(name or folder.name, f"{folder.name}/{movie.name}", image, labels)
            items.append(with_areas(item, instance_areas(load_labels(labels))))
    if not items:
        raise FileNotFoundError(
            f"{folder} has no {truth} annotation: no 01_GT/SEG/man_seg*.tif or 01_ST/SEG."
        )
    return items


def _frames(movie: Path, kind: str) -> dict[str, LabelSource]:
    """Return the annotation files of a movie by frame, as digits."""
    files = sorted((movie.parent / f"{movie.name}_{kind}" / "SEG").glob("man_seg*.tif"))
    if any(_SLICE.match(file.name) for file in files):
        raise ImageFileError(f"{movie} is a 3-D movie (man_seg_TTT_ZZZ.tif); only 2-D is read.")
    return {match[1]: file for file in files if (match := _FRAME.match(file.name))}


def _gold(movie: Path, path: LabelSource, time: str) -> LabelSource:
    markers = movie.parent / f"{movie.name}_GT" / "TRA" / f"man_track{time}.tif"
    return PartialLabels(path, markers) if isinstance(path, Path) and markers.is_file() else path
