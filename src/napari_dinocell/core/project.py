"""Annotation projects: one folder that the viewer, `adapt` and `train` read alike.

    my-cells/
      images/a.tif        one plane each, gray or RGB; project.json may point elsewhere instead
      labels/a.tif        cells that are right; 0 is unknown
      background/a.tif    nonzero where there is no cell (optional)
      regions/a.tif       nonzero where every cell is labeled (optional)
      models/             adapted models
      project.json        scale, normalization, references, hashes, models (optional)

A folder made by hand needs `images` and `labels` alone.
"""

from __future__ import annotations

import glob
import hashlib
import os
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import tifffile
from scipy import ndimage

from napari_dinocell.core.axes import output_axes, output_shape
from napari_dinocell.core.errors import ImageFileError
from napari_dinocell.core.exports import write_json, write_labels
from napari_dinocell.core.images import Image, read_image
from napari_dinocell.core.intensity import IntensityRange
from napari_dinocell.core.project_file import (
    FILE,
    Content,
    Entry,
    ModelEntry,
    find_content,
    is_project,
    read_content,
)
from napari_dinocell.core.writing import whole_file

__all__ = ["Annotated", "Entry", "ModelEntry", "Project", "is_project"]

_RIM = 2.0  # px around a labeled cell that are surely not of that cell, nor of an unlabeled one
_KINDS = ("labels", "background", "regions")

Labels = npt.NDArray[np.integer]
Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class Annotated:
    """One plane with its annotation, decoded.

    Attributes
    ----------
    entry : Entry
    image : Image
        (Y, X) or (Y, X, S).
    labels : (Y, X) int array
    background, regions : (Y, X) bool array or None
    intensity : IntensityRange or None
    """

    entry: Entry
    image: Image
    labels: Labels
    background: Mask | None
    regions: Mask | None
    intensity: IntensityRange | None

    def training_labels(self, unknown: int = -1) -> npt.NDArray[np.int32]:
        """Labels with `unknown` wherever nothing was said.

        Known background are marked places, complete regions, and a rim of 2 px around labeled
        cells.
        """
        labels = self.labels.astype(np.int32)
        distance = np.asarray(ndimage.distance_transform_edt(labels == 0))
        known = (labels > 0) | ((distance <= _RIM) & bool(labels.any()))
        for mask in (self.background, self.regions):
            if mask is not None:
                known |= mask
        labels[~known] = unknown
        return labels


class Project:
    """An annotation project on disk.

    Parameters
    ----------
    folder : path
        With what is described at the top of this module.

    Raises
    ------
    FileNotFoundError
        If there is no such folder, or it has neither project.json nor images and labels.
    ValueError
        If project.json is not one of this program.
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)
        if not self.folder.is_dir():
            raise FileNotFoundError(f"There is no folder {folder}; check the path.")
        path = self.folder / FILE
        self._content = read_content(path) if path.is_file() else find_content(self.folder)

    @classmethod
    def create(cls, folder: str | Path) -> Project:
        """Make an empty project; an existing one is opened."""
        path = Path(folder) / FILE
        if not is_project(folder):
            path.parent.mkdir(parents=True, exist_ok=True)
            write_json(path, Content().model_dump())
        return cls(folder)

    @property
    def entries(self) -> tuple[Entry, ...]:
        """Annotated planes."""
        return self._content.images

    @property
    def models(self) -> tuple[ModelEntry, ...]:
        """Models that were adapted to it, the newest last."""
        return self._content.models

    def add(
        self,
        name: str,
        image: Image,
        labels: Labels,
        background: npt.NDArray[Any] | None = None,
        regions: npt.NDArray[Any] | None = None,
        *,
        reference: str | Path | None = None,
        scale: float | None = None,
        diameter: float | None = None,
        intensity: IntensityRange | None = None,
        verified: tuple[int, ...] | None = None,
    ) -> Entry:
        """Write one plane and its annotation; what had this name before is replaced.

        Parameters
        ----------
        name : str
            Stem of the files.
        image : Image
            With the axes YX or YXS.
        labels, background, regions : (Y, X) arrays
            See the top of this module.
        reference : path, optional
            File of the image: it is not copied, but named together with its hash.
        scale, diameter, intensity, verified
            See `Entry`.

        Raises
        ------
        ValueError
            If the image is not one plane, or an array has another shape.
        OutputFileError
            If a file cannot be written.
        """
        if image.axes not in ("YX", "YXS"):
            raise ValueError(f"{name} has the axes {image.axes}; a project holds single planes.")
        given = dict(zip(_KINDS, (labels, background, regions), strict=True))
        for kind, array in given.items():
            if array is not None and array.shape != output_shape(image):
                raise ValueError(
                    f"The {kind} of {name} have the shape {array.shape}, the image has "
                    f"{output_shape(image)}; give one size."
                )
        axes: Literal["YX", "YXS"] = "YX" if image.axes == "YX" else "YXS"
        entry = Entry(
            name=name,
            image=f"images/{name}.tif" if reference is None else _portable(reference, self.folder),
            sha256=None if reference is None else _sha256(Path(reference)),
            axes=axes,
            pixel_size_um=image.pixel_size_um,
            scale=scale,
            diameter=diameter,
            intensity=None if intensity is None else asdict(intensity),
            verified=verified,
        )
        if reference is None:
            _write_plane(self.folder / entry.image, image)
        for kind, array in given.items():
            path = self.folder / kind / f"{name}.tif"
            if array is None:
                path.unlink(missing_ok=True)
                continue
            path.parent.mkdir(parents=True, exist_ok=True)
            stored = array if kind == "labels" else np.asarray(array).astype(bool)
            write_labels(path, stored, output_axes(image.axes), image.pixel_size_um)
        kept = tuple(one for one in self.entries if one.name != name)
        self._save(images=(*kept, entry))
        return entry

    def add_model(self, model: ModelEntry) -> None:
        """Note a model whose file lies in `models`."""
        kept = tuple(one for one in self.models if one.file != model.file)
        self._save(models=(*kept, model))

    def read(self, entry: Entry) -> Annotated:
        """Decode one plane and its annotation.

        Raises
        ------
        FileNotFoundError, ImageFileError
            If a file is missing, damaged, of another size, or not the image that was annotated.
        """
        path = self.image_path(entry)
        if entry.sha256 is not None and _sha256(path) != entry.sha256:
            raise ImageFileError(
                f"{path} is not the image that was annotated (its hash differs); "
                "restore it, or annotate it anew."
            )
        image = read_image(path, entry.axes, entry.pixel_size_um)
        if image.axes not in ("YX", "YXS"):
            raise ImageFileError(
                f"{path} has the axes {image.axes}; a project holds single planes, "
                "save each as a file of its own."
            )
        labels, background, regions = (self._part(kind, entry, image) for kind in _KINDS)
        if labels is None:
            raise FileNotFoundError(f"{entry.name} has no labels in {self.folder / 'labels'}.")
        if entry.verified is not None:
            labels = np.where(np.isin(labels, entry.verified), labels, 0)
        return Annotated(
            entry,
            image,
            labels,
            None if background is None else background.astype(bool),
            None if regions is None else regions.astype(bool),
            None if entry.intensity is None else IntensityRange(**entry.intensity),
        )

    def image_path(self, entry: Entry) -> Path:
        """Where the image of an entry is."""
        return self.folder / entry.image

    def _part(self, kind: str, entry: Entry, image: Image) -> Labels | None:
        """Labels, background or regions of an entry; None where there is no file."""
        folder = self.folder / kind
        found = sorted(folder.glob(f"{glob.escape(entry.name)}.*")) if folder.is_dir() else []
        if not found:
            return None
        part = read_image(found[0], "YX")
        if part.shape != output_shape(image):
            raise ImageFileError(
                f"{found[0]} is {part.shape[0]} x {part.shape[1]} px, the image is "
                f"{image.shape[0]} x {image.shape[1]}; they must have one size."
            )
        array = np.asarray(part.array[...])
        if array.dtype.kind not in "bui":
            raise ImageFileError(f"{found[0]} holds {array.dtype}; labels must be integers.")
        return array.astype(np.int64)

    def _save(self, **changes: tuple[Entry, ...] | tuple[ModelEntry, ...]) -> None:
        self._content = self._content.model_copy(update=changes)
        write_json(self.folder / FILE, self._content.model_dump())


def _write_plane(path: Path, image: Image) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    photometric = "minisblack" if image.axes == "YX" else "rgb"
    with whole_file(path) as temporary:
        tifffile.imwrite(
            temporary,
            np.asarray(image.array[...]),
            photometric=photometric,
            compression="zlib",
            metadata={"axes": image.axes},
        )


def _portable(path: str | Path, folder: Path) -> str:
    """Path relative to the project where both are on one drive, so that both can be moved."""
    try:
        return Path(os.path.relpath(Path(path).resolve(), folder.resolve())).as_posix()
    except ValueError:
        return str(Path(path).resolve())


def _sha256(path: Path) -> str:
    if not path.is_file():
        raise FileNotFoundError(f"There is no image {path}; restore it, or correct {FILE}.")
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
