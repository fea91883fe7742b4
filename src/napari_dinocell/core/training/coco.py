"""Labeled images described by a COCO file, as LIVECell's: polygons and run lengths."""

from __future__ import annotations

import json
import re
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from skimage.draw import polygon

from napari_dinocell.core.errors import ImageFileError
from napari_dinocell.core.training.data import LabeledImage, with_areas
from napari_dinocell.core.training.decode import UNKNOWN, LabelArray
from napari_dinocell.core.training.folders import group_of

# LIVECell: cell line, Phase, well and position name the field; time and crop number follow.
_LIVECELL_FIELD = r"^(.+_Phase_[A-Z]+\d+_\d+)_"


@dataclass(frozen=True)
class Outline:
    """One annotation, in px; y and x are measured from the outer corner of the first pixel.

    Attributes
    ----------
    parts : tuple of (N, 2) float32 arrays
        Polygons of x and y; empty if `runs` is given.
    runs : tuple of int
        Lengths of runs of outside and inside in turn, down the columns.
    is_crowd : bool
        The region holds cells that were not drawn one by one.
    """

    parts: tuple[npt.NDArray[np.float32], ...]
    runs: tuple[int, ...]
    is_crowd: bool

    def mask(self, shape: tuple[int, int]) -> npt.NDArray[np.bool_]:
        """Return the pixels (Y, X) whose centers lie inside."""
        inside = np.zeros(shape, dtype=bool)
        if self.runs:
            values = np.arange(len(self.runs)) % 2 == 1
            return np.repeat(values, self.runs).reshape(shape[::-1]).T
        for part in self.parts:
            x, y = part.T.astype(np.float64) - 0.5
            inside[polygon(y, x, shape)] = True
        return inside


@dataclass(frozen=True, eq=False)
class OutlinedLabels:
    """Labels (Y, X) int32 that are drawn from outlines when called.

    Larger instances are drawn first, so that none is hidden by one that it overlaps; regions of
    crowds are `UNKNOWN` where no instance lies.
    """

    shape: tuple[int, int]
    outlines: tuple[Outline, ...]

    def __call__(self) -> LabelArray:
        """Draw them."""
        labels = np.zeros(self.shape, dtype=np.int32)
        masks = [(outline.is_crowd, outline.mask(self.shape)) for outline in self.outlines]
        for is_crowd, mask in masks:
            if is_crowd:
                labels[mask] = UNKNOWN
        instances = [mask for is_crowd, mask in masks if not is_crowd]
        instances.sort(key=lambda mask: -int(np.count_nonzero(mask)))
        for cell_id, mask in enumerate(instances, 1):
            labels[mask] = cell_id
        return labels


def read_coco(
    path: str | Path, images: str | Path, *, name: str = "livecell", group: str | None = None
) -> list[LabeledImage]:
    """List the images that a COCO file annotates.

    Parameters
    ----------
    path : str or Path
        JSON with `images` and `annotations` (a list, or as in parts of LIVECell a dictionary);
        segmentations are polygons or run lengths, compressed or not. All categories count.
    images : str or Path
        Folder that is searched, subfolders too, for the file names in the JSON.
    name : str
        Name of the set.
    group : str, optional
        Regular expression whose first parenthesis finds the group in a file's stem. By default
        LIVECell's field (line, well and position); names of another kind are groups of their own.

    Returns
    -------
    list of LabeledImage
        Sorted by file name.

    Raises
    ------
    FileNotFoundError
        No such JSON, or an image is missing.
    ImageFileError
        The JSON is damaged, of another kind, or a segmentation does not fit its image.
    """
    path, images = Path(path), Path(images)
    if not path.is_file():
        raise FileNotFoundError(f"There is no file {path}.")
    try:
        content = json.loads(path.read_bytes())
        entries, annotations = content["images"], content["annotations"]
    except (ValueError, KeyError, TypeError) as error:
        raise ImageFileError(
            f"{path} is not a COCO file with images and annotations ({error!r})."
        ) from error
    if isinstance(annotations, dict):
        annotations = list(annotations.values())
    of_image: dict[Any, list[dict[str, Any]]] = defaultdict(list)
    for annotation in annotations:
        of_image[annotation["image_id"]].append(annotation)
    files = {file.name: file for file in sorted(images.rglob("*")) if file.is_file()}
    names = [Path(entry["file_name"]).name for entry in entries]
    missing = [n for n in names if n not in files]
    if missing:
        raise FileNotFoundError(
            f"{len(missing)} of {len(names)} images of {path} are not in {images}, first "
            f"{missing[0]}; give the folder that holds them."
        )
    items = []
    for entry, file_name in zip(entries, names, strict=True):
        shape = (int(entry["height"]), int(entry["width"]))
        found = of_image[entry["id"]]
        outlines = tuple(_outline(a, shape, path) for a in found)
        field = group_of(Path(file_name).stem, group or _livecell_field(file_name))
        item = LabeledImage(name, field, files[file_name], OutlinedLabels(shape, outlines))
        areas = [float(a["area"]) for a in found if not a.get("iscrowd") and "area" in a]
        items.append(with_areas(item, areas))
    return sorted(items, key=lambda item: item.image.name)


def _livecell_field(file_name: str) -> str | None:
    return _LIVECELL_FIELD if re.search(_LIVECELL_FIELD, file_name) else None


def _outline(annotation: dict[str, Any], shape: tuple[int, int], path: Path) -> Outline:
    segmentation = annotation["segmentation"]
    is_crowd = bool(annotation.get("iscrowd", 0))
    if not isinstance(segmentation, dict):
        parts = [np.array(p, dtype=np.float32).reshape(-1, 2) for p in segmentation if len(p) >= 6]
        return Outline(tuple(parts), (), is_crowd)
    counts = segmentation["counts"]
    runs = decode_runs(counts) if isinstance(counts, str) else tuple(int(c) for c in counts)
    if sum(runs) != shape[0] * shape[1] or min(runs) < 0:
        raise ImageFileError(
            f"Annotation {annotation.get('id')} of {path} covers {sum(runs)} px, but its image has "
            f"{shape[0]} x {shape[1]}; the file is damaged or belongs to other images."
        )
    return Outline((), runs, is_crowd)


def decode_runs(text: str) -> tuple[int, ...]:
    """Decode COCO's compressed run lengths.

    Notes
    -----
    Each number is written in groups of five bits, lowest first, as the character 48 + group; bit
    32 says that more groups follow, bit 16 of the last one is the sign. From the fourth number on
    the difference to the number two before is written.
    """
    runs: list[int] = []
    value = shift = 0
    for character in text:
        code = ord(character) - 48
        value |= (code & 31) << shift
        shift += 5
        if not code & 32:
            if code & 16:
                value -= 1 << shift
            runs.append(value + (runs[-2] if len(runs) > 2 else 0))
            value = shift = 0
    return tuple(runs)
