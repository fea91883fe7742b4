"""Several gray images as one: each normalized by itself, then averaged, where it is sliced."""

from __future__ import annotations

from collections.abc import Sequence
from threading import Lock
from typing import Any

import numpy as np
import numpy.typing as npt

from napari_dinocell.core.axes import ArrayLike, Plane
from napari_dinocell.core.intensity import IntensityRange, intensity_range, normalize

__all__ = ["Blend"]


class Blend:
    """Mean of the normalized gray values of images that show the same cells.

    Parameters
    ----------
    arrays : sequence of array-like
        Of one shape, not read yet. Planes are read when they are sliced, so on a worker's thread.
    axes : str
        Of each, out of `TZYX`.
    """

    def __init__(self, arrays: Sequence[ArrayLike], axes: str) -> None:
        self._arrays, self._axes = list(arrays), axes
        self.shape = tuple(int(n) for n in self._arrays[0].shape)
        self.dtype = np.dtype(np.float32)
        self._ranges: dict[tuple[int, ...], list[IntensityRange]] = {}
        self._lock = Lock()

    def __getitem__(self, key: Any) -> npt.NDArray[np.float32]:
        keys = list(key) if isinstance(key, tuple) else [key]
        keys += [slice(None)] * (len(self.shape) - len(keys))
        ranges = [
            range(n)[k] if isinstance(k, slice) else range(n)[int(k) : int(k) + 1]
            for k, n in zip(keys, self.shape, strict=True)
        ]
        out = np.empty([len(r) for r in ranges], np.float32)
        y, x = self._axes.index("Y"), self._axes.index("X")
        window = tuple(slice(ranges[i].start, ranges[i].stop, ranges[i].step) for i in (y, x))
        outer = [i for i in range(len(ranges)) if i not in (y, x)]
        for place in np.ndindex(*(len(ranges[i]) for i in outer)):
            position = tuple(ranges[i][n] for i, n in zip(outer, place, strict=True))
            at: list[Any] = [slice(None)] * len(ranges)
            for i, n in zip(outer, place, strict=True):
                at[i] = n
            pixels = self._mean(position, window)
            out[tuple(at)] = pixels if y < x else pixels.T
        collapsed = tuple(slice(None) if isinstance(k, slice) else 0 for k in keys)
        part: npt.NDArray[np.float32] = out[collapsed]
        return part

    def _mean(self, position: tuple[int, ...], window: Any) -> npt.NDArray[np.float32]:
        """(Y, X) mean of a window of one plane."""
        outer = [letter for letter in self._axes if letter not in "YX"]
        index = dict(zip(outer, position, strict=True))
        planes = [Plane(array, self._axes, index) for array in self._arrays]
        with self._lock:
            if position not in self._ranges:
                self._ranges[position] = [intensity_range(plane) for plane in planes]
        ranges = self._ranges[position]
        parts = [normalize(plane[window], one) for plane, one in zip(planes, ranges, strict=True)]
        mean: npt.NDArray[np.float32] = np.mean(parts, axis=0, dtype=np.float32)
        return mean
