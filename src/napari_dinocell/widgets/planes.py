"""Planes of a stack of labels: the views on them, and the one that is on screen."""

from __future__ import annotations

import zlib
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from napari_dinocell.core.prediction import Prediction

__all__ = [
    "fingerprint",
    "fingerprints",
    "map_stack",
    "plane_in_view",
    "plane_view",
    "window_in_view",
]

Window = tuple[slice, slice]


def plane_view(
    labels: npt.NDArray[np.integer], prediction: Prediction, plane: int
) -> npt.NDArray[np.integer]:
    """(Y, X) view of one plane in labels with the axes of a prediction."""
    index = prediction.indices[plane]
    view = labels[tuple(index.get(axis, slice(None)) for axis in prediction.axes)]
    return view.T if prediction.axes.index("X") < prediction.axes.index("Y") else view


def plane_in_view(prediction: Prediction, layer: Any, point: Any) -> int:
    """Plane that a viewer shows, as a position in `prediction.indices`.

    Parameters
    ----------
    prediction : Prediction
    layer : napari Labels layer
        With its axes.
    point : sequence of float
        `viewer.dims.point`: world coordinates.
    """
    indices = prediction.indices
    if len(indices) == 1:
        return 0
    at = np.rint(layer.world_to_data(point)).astype(int)
    axes = prediction.axes
    shown = {
        letter: int(np.clip(at[axes.index(letter)], 0, n - 1))
        for letter, n in zip(axes, prediction.shape, strict=True)
        if letter in "TZ"
    }
    return indices.index(shown)


def window_in_view(layer: Any, axes: str, shape: tuple[int, int]) -> Window:
    """Window of a plane that the canvas shows, with some margin."""
    corners = np.asarray(layer.corner_pixels)
    window = []
    for letter, length in zip("YX", shape, strict=True):
        low, high = sorted(int(v) for v in corners[:, axes.index(letter)])
        margin = (high - low) // 8 + 1
        window.append(slice(max(0, low - margin), min(length, high + margin + 1)))
    return window[0], window[1]


def fingerprint(plane: npt.NDArray[np.integer]) -> int | None:
    """A number >= 0 that changes with the labels of a plane; None if it has none."""
    return zlib.crc32(np.ascontiguousarray(plane).data) if plane.any() else None


def fingerprints(labels: npt.NDArray[np.integer], prediction: Prediction) -> dict[int, int]:
    """`fingerprint` of each plane that has any labels."""
    views = (plane_view(labels, prediction, plane) for plane in range(prediction.n_planes))
    numbers = (fingerprint(view) for view in views)
    return {plane: number for plane, number in enumerate(numbers) if number is not None}


def map_stack(prediction: Prediction) -> npt.NDArray[np.uint16]:
    """Distance maps of all planes with the axes of the labels, 65535 for 1."""
    whole = np.zeros(prediction.shape, np.uint16)
    for plane in range(prediction.n_planes):
        plane_view(whole, prediction, plane)[...] = prediction.maps[plane]
    return whole
