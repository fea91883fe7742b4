"""Annotation projects: one folder that the viewer, `adapt` and `train` read alike.

    my-cells/
      images/a.tif        one plane each, gray or RGB; project.json may point elsewhere instead
      labels/a.tif        cells that are right; 0 is unknown
      background/a.tif    nonzero where there is no cell (optional)
      regions/a.tif       nonzero where every cell is labeled (optional)
      models/             adapted models
      project.json        scale, normalization, references, hashes, models (optional)

A folder made by hand needs `images` and `labels` alone; pairs that are put there later are found,
too. `train` takes a folder for a project only if it holds project.json: `Project.create` adds it.
"""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import tifffile

from napari_dinocell.core.axes import output_axes, output_shape
from napari_dinocell.core.errors import ImageFileError
from napari_dinocell.core.exports import write_json, write_labels
from napari_dinocell.core.images import Image, read_image
from napari_dinocell.core.intensity import IntensityRange
from napari_dinocell.core.marks import KINDS, Marks, read_marks
from napari_dinocell.core.project_file import (
    FILE,
    Content,
    Entry,
    ModelEntry,
    by_stem,
    find_content,
    find_pairs,
    is_project,
    read_content,
)
from napari_dinocell.core.record import file_sha256
from napari_dinocell.core.writing import make_folder, whole_file

__all__ = ["Annotated", "Entry", "ModelEntry", "Project", "is_project"]


@dataclass(frozen=True, eq=False)
class Annotated(Marks):
    """One plane with its annotation, decoded.

    Attributes
    ----------
    entry : Entry
    image : Image
        (Y, X) or (Y, X, S).
    """

    entry: Entry
    image: Image


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
        If project.json is not one of this program, or two files of a folder have one stem.
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)
        if not self.folder.is_dir():
            raise FileNotFoundError(f"There is no folder {folder}; check the path.")
        path = self.folder / FILE
        if not path.is_file():
            self._content = find_content(self.folder)
            return
        self._content = read_content(path)
        listed = {entry.name for entry in self.entries}
        found = (entry for entry in find_pairs(self.folder) if entry.name not in listed)
        self._content = self._content.model_copy(update={"images": (*self.entries, *found)})

    @classmethod
    def create(cls, folder: str | Path) -> Project:
        """Make a project of a folder, with the pairs of images and labels that it holds.

        An existing project is opened.

        Raises
        ------
        ValueError
            As `Project`.
        OutputFileError
            If project.json cannot be written.
        """
        path = Path(folder) / FILE
        if not is_project(folder):
            make_folder(path.parent)
            write_json(path, Content(images=find_pairs(path.parent)).model_dump())
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
        labels: npt.NDArray[np.integer],
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
            Stem of the files; what ends with `.ome` is named without it.
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
            If the image is not one plane, an array has another shape, or two files of a folder
            have one stem.
        FileNotFoundError
            If there is no file at `reference`.
        OutputFileError
            If a file cannot be written.
        """
        if image.axes not in ("YX", "YXS"):
            raise ValueError(f"{name} has the axes {image.axes}; a project holds single planes.")
        name = name.removesuffix(".ome")
        given = dict(zip(KINDS, (labels, background, regions), strict=True))
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
            intensity=intensity,
            verified=verified,
        )
        older = {kind: by_stem(self.folder / kind).get(name) for kind in ("images", *KINDS)}
        if reference is None:
            _write_plane(self.folder / entry.image, image)
            _remove(older["images"], self.folder / entry.image)
        for kind, array in given.items():
            path = self.folder / kind / f"{name}.tif"
            if array is not None:
                make_folder(path.parent)
                stored = array if kind == "labels" else np.asarray(array).astype(bool)
                write_labels(path, stored, output_axes(image.axes), image.pixel_size_um)
            _remove(older[kind], None if array is None else path)
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
        ValueError
            If two files of a folder have one stem.
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
        marks = read_marks(self.folder, entry, output_shape(image))
        return Annotated(
            marks.labels, marks.background, marks.regions, marks.doubtful, entry, image
        )

    def image_path(self, entry: Entry) -> Path:
        """Where the image of an entry is."""
        return self.folder / entry.image

    def owns(self, path: str | Path) -> bool:
        """Whether a path is that of project.json, or lies where images and annotation do."""
        path, folder = Path(path).resolve(), self.folder.resolve()
        parts = (folder / kind for kind in ("images", *KINDS))
        return path == folder / FILE or any(path.is_relative_to(part) for part in parts)

    def _save(self, **changes: tuple[Entry, ...] | tuple[ModelEntry, ...]) -> None:
        self._content = self._content.model_copy(update=changes)
        write_json(self.folder / FILE, self._content.model_dump())


def _write_plane(path: Path, image: Image) -> None:
    make_folder(path.parent)
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


def _remove(older: Path | None, new: Path | None) -> None:
    """Remove what `new` stands for now, where that is another file."""
    if older is None or (new is not None and older.exists() and older.samefile(new)):
        return
    if older.is_dir():
        shutil.rmtree(older)
    else:
        older.unlink(missing_ok=True)


def _sha256(path: Path) -> str:
    sha256 = file_sha256(path)
    if sha256 is None:
        raise FileNotFoundError(f"There is no image {path}; restore it, or correct {FILE}.")
    return sha256
