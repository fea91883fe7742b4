"""Labeled images in folders: `images` beside `labels`, or pairs of files told by their endings."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

from napari_dinocell.core.errors import ImageFileError
from napari_dinocell.core.images import SUFFIXES
from napari_dinocell.core.training.data import LabeledImage, instance_areas, with_areas
from napari_dinocell.core.training.decode import read_labels

_LABEL_FOLDERS = ("labels", "masks")
# Written by Cellpose (_masks, _cp_masks), by this package (_labels), and by hand.
_LABEL_ENDING = re.compile(r"[_-](cp_masks|masks?|labels?|gt)$", re.IGNORECASE)
_IMAGE_ENDING = re.compile(r"[_-](img|image|raw)$", re.IGNORECASE)
_DERIVED_ENDING = re.compile(r"_(flows|cp_output|cp_outlines|outlines|seg)$", re.IGNORECASE)


def read_folder(
    folder: str | Path,
    *,
    name: str | None = None,
    group: str | None = None,
    axes: str | None = None,
) -> list[LabeledImage]:
    r"""List the labeled images of one folder.

    Two layouts: subfolders `images` and `labels` (or `masks`) with files of the same stem, or one
    folder with pairs such as `a.tif` and `a_masks.tif`, `a_img.png` and `a_masks.png` (Cellpose).
    In both, the endings _labels, _label, _masks, _mask, _cp_masks and _gt mark labels; _img,
    _image and _raw mark images; they do not count when stems are compared.

    Parameters
    ----------
    folder : str or Path
        Holds the files; subfolders other than the above are not searched.
    name : str, optional
        Name of the set, by default that of the folder.
    group : str, optional
        Regular expression that finds the group (field, movie, specimen) in an image's stem: its
        first parenthesis, or the whole match. By default every image is a group of its own. Give
        it when the images are tiles of larger fields, for example ``(.+)_tile\d+``.
    axes : str, optional
        Names of the axes of the images where the files don't tell them.

    Returns
    -------
    list of LabeledImage
        Sorted by stem.

    Raises
    ------
    FileNotFoundError
        No such folder, no images, or an image without labels.
    ValueError
        Two files for one stem, or a `group` that is no regular expression or does not match.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise FileNotFoundError(f"There is no folder {folder}; check data.source.")
    pairs = _pairs(folder)
    items = []
    for image, labels in pairs:
        item = LabeledImage(
            name or folder.name, group_of(image.stem, group), image, labels, axes=axes
        )
        items.append(with_areas(item, instance_areas(read_labels(labels))))
    return items


def _pairs(folder: Path) -> list[tuple[Path, Path]]:
    if (folder / "images").is_dir():
        labels_folder = next((folder / n for n in _LABEL_FOLDERS if (folder / n).is_dir()), None)
        if labels_folder is None:
            raise FileNotFoundError(f"{folder} has a folder images, but none named labels.")
        images, labels = _files(folder / "images"), _files(labels_folder)
    else:
        files = _files(folder)
        labels = [f for f in files if _LABEL_ENDING.search(f.stem)]
        images = [f for f in files if f not in set(labels) and not _DERIVED_ENDING.search(f.stem)]
    if images and not labels and next(folder.rglob("*_seg.npy"), None) is not None:
        raise ImageFileError(
            f"{folder} holds the labels as _seg.npy, which is a pickle and is not read; save them "
            "as PNG or TIFF from the File menu of Cellpose."
        )
    image_of, labels_of = _by_stem(images, _IMAGE_ENDING), _by_stem(labels, _LABEL_ENDING)
    if not image_of:
        raise FileNotFoundError(f"{folder} holds no images; expected {', '.join(SUFFIXES)}.")
    for left, right, kind in ((image_of, labels_of, "labels"), (labels_of, image_of, "image")):
        alone = sorted(set(left) - set(right))
        if alone:
            raise FileNotFoundError(
                f"{len(alone)} of {len(left)} files in {folder} have no {kind}, first "
                f"{left[alone[0]].name}; add what is missing, or take them out."
            )
    return [(image_of[stem], labels_of[stem]) for stem in sorted(image_of)]


def _files(folder: Path) -> list[Path]:
    return sorted(
        f
        for f in folder.iterdir()
        if f.suffix.lower() in SUFFIXES
        and not f.name.startswith(".")
        # A pickle in an .npy file: Cellpose's own project files.
        and not f.name.endswith("_seg.npy")
    )


def _by_stem(files: Iterable[Path], ending: re.Pattern[str]) -> dict[str, Path]:
    found: dict[str, Path] = {}
    for file in files:
        stem = ending.sub("", file.name.removesuffix(file.suffix).removesuffix(".ome"))
        if stem in found:
            raise ValueError(
                f"{found[stem].name} and {file.name} in {file.parent} both belong to {stem}; "
                "keep one of them."
            )
        found[stem] = file
    return found


def group_of(stem: str, pattern: str | None) -> str:
    """Return what the first parenthesis of a regular expression finds in `stem`.

    Without parentheses it is the whole match, without a pattern the stem itself.

    Raises
    ------
    ValueError
        The pattern is no regular expression, or does not match.
    """
    if pattern is None:
        return stem
    try:
        match = re.search(pattern, stem)
    except re.error as error:
        raise ValueError(
            f"Group {pattern!r} is no regular expression ({error}); correct it."
        ) from error
    if match is None:
        raise ValueError(f"Group {pattern!r} does not match {stem}; make it fit all stems.")
    return str(match[1] if match.re.groups else match[0])
