"""Decode one plane, or the labels of one, from a file."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from napari_dinocell.core.errors import ImageFileError
from napari_dinocell.core.images import read_image

LabelArray = npt.NDArray[np.int32]
LabelSource = Path | Callable[[], LabelArray]
"""A label file, or what draws labels when it is called."""

UNKNOWN = -1
"""Label of pixels that nobody annotated: they carry no weight in training."""


@dataclass(frozen=True)
class NoLabels:
    """Draws the labels of an image that nobody annotated: `UNKNOWN` everywhere."""

    image: Path

    def __call__(self) -> LabelArray:
        """Labels (Y, X) of the size of the image."""
        return np.full(read_plane(self.image).shape[:2], UNKNOWN, np.int32)


def read_plane(path: Path, axes: str | None = None) -> npt.NDArray[Any]:
    """Read one image file as a plane (Y, X) or (Y, X, 3), dtype kept.

    Alpha is dropped, and color whose three channels are equal becomes gray. Two or three channels
    of a stack (C, Y, X) become the colors in their order; a missing third one is 0.

    Parameters
    ----------
    path : Path
        Any file that `read_image` reads.
    axes : str, optional
        Names of the axes where the file doesn't tell them, for example "CYX".

    Raises
    ------
    FileNotFoundError, ImageFileError
        No such file, or it does not hold one gray or RGB plane.
    """
    array, letters = _read(path, axes)
    if letters == "CYX" and array.shape[0] in {2, 3}:
        missing = np.zeros((3 - array.shape[0], *array.shape[1:]), dtype=array.dtype)
        array, letters = np.moveaxis(np.concatenate((array, missing)), 0, 2), "YXS"
    if letters == "YXS" and array.shape[2] in {2, 4}:
        array = array[..., :-1]
    if letters == "YXS" and array.shape[2] == 3 and not _is_gray(array):
        return np.ascontiguousarray(array)
    if letters == "YXS" and _is_gray(array):
        array, letters = array[..., 0], "YX"
    if letters == "YX":
        return np.ascontiguousarray(array)
    raise ImageFileError(
        f"{path} has the axes {letters} of shape {array.shape}; training needs one plane per file, "
        "YX or RGB: save each plane as a file of its own."
    )


def load_labels(source: LabelSource) -> LabelArray:
    """Return labels (Y, X) from a file (see `read_labels`) or by calling what draws them."""
    return read_labels(source) if isinstance(source, Path) else source()


def read_labels(path: Path) -> LabelArray:
    """Read a label file as (Y, X) int32; ids are kept as they are.

    Raises
    ------
    FileNotFoundError, ImageFileError
        No such file, or it is not one plane of integers that fit int32.
    """
    array, letters = _read(path, None)
    if letters == "YXS" and _is_gray(array[..., :3]):
        array, letters = array[..., 0], "YX"
    if letters != "YX" or array.dtype.kind not in "biu":
        raise ImageFileError(
            f"{path} has axes {letters}, shape {array.shape} and dtype {array.dtype}; labels are "
            "one plane of integers, 0 for background."
        )
    low, high = int(array.min()), int(array.max())
    if low < 0 or high > np.iinfo(np.int32).max:
        raise ImageFileError(
            f"{path} has ids from {low} to {high}; ids must be between 0 and 2147483647."
        )
    return array.astype(np.int32)


def _read(path: Path, axes: str | None) -> tuple[npt.NDArray[Any], str]:
    """Return the decoded array and its axes, without time, depth and channel of length 1."""
    image = read_image(path, axes=axes)
    array, letters = np.asarray(image.array[...]), image.axes
    for letter in "TZC":
        if letter in letters and array.shape[letters.index(letter)] == 1:
            array = array.squeeze(letters.index(letter))
            letters = letters.replace(letter, "")
    return array, letters


def _is_gray(array: npt.NDArray[Any]) -> bool:
    return bool((array[..., :1] == array[..., 1:]).all())
