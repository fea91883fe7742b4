"""Planes at another scale: read through a window, and results brought back row by row.

Nothing here needs the whole plane, so the memory does not depend on its size.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from napari_dinocell.core.intensity import PlaneLike
from napari_dinocell.core.tiles import RowSink

__all__ = ["RowRestorer", "ScaledPlane", "scaled_shape"]


def scaled_shape(height: int, width: int, scale: float) -> tuple[int, int]:
    """Height and width (px, at least 1) of a plane of `height` x `width` after scaling."""
    return max(1, round(height * scale)), max(1, round(width * scale))


class ScaledPlane:
    """A plane as if it had been resized as a whole; a window is computed when it is read.

    Linear interpolation when enlarging. When shrinking, the triangle is as wide as two pixels of
    the result, which averages what would otherwise alias. The image's outer edges coincide.

    Parameters
    ----------
    plane : (Y, X) or (Y, X, C) float array or array-like
    scale : float
        Pixels of the result per pixel of `plane`, above 0.

    Attributes
    ----------
    shape : tuple of int
        Of the scaled plane.
    """

    def __init__(self, plane: npt.NDArray[Any] | PlaneLike, scale: float) -> None:
        self._plane = plane
        self._full = (int(plane.shape[0]), int(plane.shape[1]))
        self.shape = (*scaled_shape(*self._full, scale), *plane.shape[2:])

    def __getitem__(self, window: tuple[slice, slice]) -> npt.NDArray[np.float32]:
        sources, matrices = [], []
        for part, full, scaled in zip(window, self._full, self.shape[:2], strict=True):
            start, stop, _ = part.indices(scaled)
            first, matrix = _interpolation(full, scaled, start, stop)
            sources.append(slice(first, first + matrix.shape[1]))
            matrices.append(matrix)
        pixels = np.asarray(self._plane[sources[0], sources[1]], np.float32)
        if pixels.ndim == 2:
            return _product(matrices[0], pixels, matrices[1])
        channels = np.moveaxis(pixels, -1, 0)  # so that both products are plain matrix products
        return np.moveaxis(_product(matrices[0], channels, matrices[1]), 0, -1)


class RowRestorer:
    """Sink for rows of a scaled map that hands on rows of the original size.

    Values are interpolated linearly between pixel centers and held beyond the outermost ones. Of
    the scaled map only the rows that are still needed are kept.

    Parameters
    ----------
    scaled : (int, int)
        Height and width of the map that comes in, px.
    original : (int, int)
        Height and width of the map that goes out, px.
    sink : callable
        `sink(first_row, rows)`, as in `Blender`.
    """

    def __init__(self, scaled: tuple[int, int], original: tuple[int, int], sink: RowSink) -> None:
        self._scaled_height = scaled[0]
        self._rows = _neighbors(original[0], scaled[0])
        self._columns = _neighbors(original[1], scaled[1])
        self._sink = sink
        self._next = 0
        self._kept = np.zeros((0, scaled[1]), np.float32)
        self._kept_top = 0

    def __call__(self, top: int, rows: npt.NDArray[Any]) -> None:
        """Take the next rows of the scaled map, from the top down."""
        self._kept = np.concatenate([self._kept, rows]) if len(self._kept) else rows
        bottom = top + len(rows)
        lower, upper, part = self._rows
        stop = len(lower) if bottom == self._scaled_height else int(np.searchsorted(upper, bottom))
        # In steps, because a strongly enlarged map would make one huge block out of a few rows.
        for start in range(self._next, stop, 256):
            chosen = slice(start, min(start + 256, stop))
            above = self._kept[lower[chosen] - self._kept_top]
            below = self._kept[upper[chosen] - self._kept_top]
            mixed = above + part[chosen, None] * (below - above)
            left, right, share = self._columns
            from_left = mixed[:, left]
            self._sink(start, from_left + share * (mixed[:, right] - from_left))
        self._next = stop
        if stop < len(lower):
            surplus = min(int(lower[stop]) - self._kept_top, len(self._kept))
            self._kept = self._kept[surplus:]
            self._kept_top += surplus


def _product(
    rows: npt.NDArray[np.float32], pixels: npt.NDArray[np.float32], columns: npt.NDArray[np.float32]
) -> npt.NDArray[np.float32]:
    scaled = rows @ pixels @ columns.T
    return np.asarray(scaled, np.float32)


def _interpolation(
    full: int, scaled: int, start: int, stop: int
) -> tuple[int, npt.NDArray[np.float32]]:
    """First source pixel, and the (stop - start, n) weights of n source pixels from there."""
    ratio = full / scaled
    centers = (np.arange(start, stop) + 0.5) * ratio - 0.5
    reach = max(1.0, ratio)
    first = max(0, int(np.ceil(centers[0] - reach)))
    last = min(full - 1, int(np.floor(centers[-1] + reach)))
    distance = np.abs(np.arange(first, last + 1)[None, :] - centers[:, None])
    weights = np.maximum(1.0 - distance / reach, 0.0)
    weights /= weights.sum(axis=1, keepdims=True)
    return first, weights.astype(np.float32)


def _neighbors(
    n_out: int, n_in: int
) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.intp], npt.NDArray[np.float32]]:
    """For each output pixel the input pixels below and above, and the share of the second."""
    centers = np.clip((np.arange(n_out) + 0.5) * n_in / n_out - 0.5, 0, n_in - 1)
    lower = np.floor(centers).astype(np.intp)
    upper = np.minimum(lower + 1, n_in - 1)
    return lower, upper, (centers - lower).astype(np.float32)
