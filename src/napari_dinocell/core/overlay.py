"""A picture of a result: the outlines of the cells on their image."""

from __future__ import annotations

import colorsys
from pathlib import Path
from typing import Any

import imageio.v3 as iio
import numpy as np
import numpy.typing as npt

from napari_dinocell.core.intensity import intensity_range, normalize
from napari_dinocell.core.writing import whole_file

__all__ = ["edge_pixels", "overlay", "write_overlay"]

_N_COLORS = 64
_LONGEST_SIDE = 4096
_COLORED = 0.15  # saturation from which an image hides lines of its own hue


def overlay(plane: npt.ArrayLike, labels: npt.NDArray[np.integer]) -> npt.NDArray[np.uint8]:
    """Draw the outlines of all cells on the image.

    Parameters
    ----------
    plane : (Y, X) or (Y, X, 3) array
        Any dtype; stretched between its percentiles for the eye.
    labels : (Y, X) int array
        0 is background.

    Returns
    -------
    (Y, X, 3) uint8 array
        Each cell has a color of its own, a function of its id; cells that touch differ. On a stain
        no line has its hue.

    Raises
    ------
    ValueError
        If the plane has other pixels than the labels.
    """
    pixels = np.asarray(plane)
    if pixels.shape[:2] != labels.shape or pixels.shape[2:] not in ((), (3,)):
        raise ValueError(
            f"Plane has shape {pixels.shape}, labels {labels.shape}; give (Y, X) or (Y, X, 3)."
        )
    gray = np.clip(normalize(pixels, intensity_range(pixels)), 0, 1)
    picture = np.round(255 * gray).astype(np.uint8)
    if picture.ndim == 2:
        picture = np.repeat(picture[:, :, np.newaxis], 3, axis=2)
    edge = edge_pixels(labels)
    if edge.any():
        colors = _palette(np.median(picture[edge], axis=0) / 255)
        picture[edge] = colors[labels[edge].astype(np.int64) % _N_COLORS]
    return picture


def edge_pixels(labels: npt.NDArray[np.integer]) -> npt.NDArray[np.bool_]:
    """Where a cell ends: its pixels that have a 4-neighbor of another label.

    Parameters
    ----------
    labels : (Y, X) int array

    Returns
    -------
    (Y, X) bool array
        The border of the image is no edge.
    """
    edge = np.zeros(labels.shape, bool)
    across = labels[:, 1:] != labels[:, :-1]
    down = labels[1:] != labels[:-1]
    edge[:, 1:] |= across
    edge[:, :-1] |= across
    edge[1:] |= down
    edge[:-1] |= down
    edge &= labels > 0
    return edge


def write_overlay(
    path: str | Path, plane: npt.NDArray[Any], labels: npt.NDArray[np.integer]
) -> None:
    """Write `overlay` as PNG, whole or not at all; thinned where a side exceeds 4096 px."""
    step = -(-max(labels.shape) // _LONGEST_SIDE)
    picture = overlay(plane[::step, ::step], labels[::step, ::step])
    with whole_file(path) as temporary:
        iio.imwrite(temporary, picture, extension=".png")


def _palette(below: npt.NDArray[np.floating]) -> npt.NDArray[np.uint8]:
    """Bright colors to be seen on the color below, (3,) in [0, 1].

    Hues are a golden angle apart, so that near ids look different; on a stain they leave out a
    third of the circle around its own hue.
    """
    golden = (5**0.5 - 1) / 2
    hue, saturation, _ = colorsys.rgb_to_hsv(*below)
    gap = 1 / 6 if saturation > _COLORED else 0.0
    hues = [hue + gap + (i * golden % 1) * (1 - 2 * gap) for i in range(_N_COLORS)]
    return np.round(255 * np.array([colorsys.hsv_to_rgb(h, 0.85, 1) for h in hues])).astype(
        np.uint8
    )
