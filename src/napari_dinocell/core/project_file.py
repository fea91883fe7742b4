"""The file project.json of an annotation project, and what stands in for it where there is none."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from napari_dinocell.core.images import SUFFIXES
from napari_dinocell.core.intensity import IntensityRange

__all__ = [
    "FILE",
    "Content",
    "Entry",
    "ModelEntry",
    "by_stem",
    "find_content",
    "find_pairs",
    "is_project",
    "read_content",
]

FILE = "project.json"
_STRICT = ConfigDict(frozen=True, extra="forbid")


class Entry(BaseModel):
    """One annotated plane."""

    model_config = _STRICT

    name: str = Field(pattern=r"^[^./\\][^/\\]*$")
    """Stem of its files, see `by_stem`."""
    image: str
    """Path, relative to the project unless it is absolute."""
    sha256: str | None = None
    """Of an image outside of the project, to see whether it was changed."""
    axes: Literal["YX", "YXS"] | None = None
    pixel_size_um: tuple[float, float] | None = None
    scale: float | None = Field(default=None, gt=0)
    """Pixels of the network per pixel, as it was when the cells were corrected."""
    diameter: float | None = Field(default=None, gt=0)
    """Median diameter of the cells, px."""
    intensity: IntensityRange | None = None
    """Normalization that the plane was seen with."""
    verified: tuple[int, ...] | None = None
    """Ids that count; all of the label file if None."""


class ModelEntry(BaseModel):
    """A model that was adapted to the project."""

    model_config = _STRICT

    file: str
    base: str
    peak: float
    fill: float
    verdict: str


class Content(BaseModel):
    """All of a project.json."""

    model_config = _STRICT

    format: Literal["napari-dinocell project"] = "napari-dinocell project"
    version: Literal[1] = 1
    images: tuple[Entry, ...] = ()
    models: tuple[ModelEntry, ...] = ()


def is_project(folder: str | Path) -> bool:
    """Whether a folder holds a project.json."""
    return (Path(folder) / FILE).is_file()


def read_content(path: Path) -> Content:
    """Read a project.json.

    Raises
    ------
    ValueError
        If it is not one of this program.
    """
    try:
        return Content.model_validate(json.loads(path.read_text(encoding="utf-8")))
    except (UnicodeDecodeError, json.JSONDecodeError) as error:
        raise ValueError(f"{path} is not JSON ({error}); restore it.") from error
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"]) or "project"
        raise ValueError(
            f"{path}: {place}: {first['msg']}; it is damaged or from another version."
        ) from error


def find_content(folder: Path) -> Content:
    """Content of a folder made by hand: every image that has labels of the same stem.

    Raises
    ------
    FileNotFoundError
        If there is no such pair, or an image has no labels.
    ValueError
        If two images have one stem.
    """
    images, labels = by_stem(folder / "images"), by_stem(folder / "labels")
    if not images or not labels:
        raise FileNotFoundError(
            f"{folder} is no annotation project: it has neither {FILE} nor images and labels."
        )
    alone = sorted(images.keys() - labels.keys())
    if alone:
        raise FileNotFoundError(
            f"{images[alone[0]]} has no labels in {folder / 'labels'}; add them, or take it out."
        )
    return Content(images=find_pairs(folder))


def find_pairs(folder: Path) -> tuple[Entry, ...]:
    """Every image in `images` that has labels of the same stem, by stem.

    Raises
    ------
    ValueError
        If two images, or two label files, have one stem.
    """
    images, labels = by_stem(folder / "images"), by_stem(folder / "labels")
    return tuple(
        Entry(name=stem, image=f"images/{images[stem].name}")
        for stem in sorted(images.keys() & labels.keys())
    )


def by_stem(folder: Path) -> dict[str, Path]:
    """Image files of a folder by their names without `.tif`, `.ome.tif` and the like.

    Hidden files, and those of other kinds, do not count. Empty where there is no folder.

    Raises
    ------
    ValueError
        If two files have one stem.
    """
    found: dict[str, Path] = {}
    for path in sorted(folder.iterdir()) if folder.is_dir() else ():
        if path.suffix.lower() in SUFFIXES and not path.name.startswith("."):
            stem = path.name.removesuffix(path.suffix).removesuffix(".ome")
            if stem in found:
                raise ValueError(f"{found[stem]} and {path} have one stem; rename one of them.")
            found[stem] = path
    return found
