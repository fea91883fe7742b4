"""Kernels of the cell table: sums over pixels for all cells in one pass."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from napari_dinocell.core.jit import kernel

IntArray = npt.NDArray[np.int32]
LongArray = npt.NDArray[np.int64]
FloatArray = npt.NDArray[np.float64]


def renumber(labels: IntArray) -> tuple[IntArray, IntArray]:
    """Rank of each pixel's label among those in use.

    Parameters
    ----------
    labels : (Y, X) int32 array
        Not negative.

    Returns
    -------
    ids : (n,) int32 array
        The labels in use, increasing, without 0.
    ranks : (Y, X) int32 array
        0 for background, k for ``ids[k - 1]``.
    """
    highest = int(labels.max(initial=0))
    # A table by id is ten times faster than a sort, as long as ids are not wild.
    if highest > 4 * labels.size + 1_000_000:
        used, inverse = np.unique(np.append(labels.ravel(), np.int32(0)), return_inverse=True)
        return used[1:], inverse[:-1].reshape(labels.shape).astype(np.int32)
    present = np.zeros(highest + 1, bool)
    present[labels] = True
    present[0] = False
    table = np.cumsum(present, dtype=np.int32) * present
    return np.flatnonzero(present).astype(np.int32), table[labels]


@kernel
def position_sums(ranks: IntArray, n: int) -> tuple[LongArray, LongArray, LongArray]:
    """Boxes, first pixels and position sums of n cells.

    Parameters
    ----------
    ranks : (Y, X) int32 array
    n : int

    Returns
    -------
    boxes : (n, 4) int64 array
        Top, left, bottom, right; the last two exclusive.
    first : (n, 2) int64 array
        (y, x) of the first pixel of each cell.
    sums : (n, 6) int64 array
        Of 1, y, x, y*y, x*x, y*x over the cell, y and x counted from its first pixel: small
        numbers, so that variances don't suffer from cancellation.
    """
    boxes = np.zeros((n, 4), np.int64)
    first = np.zeros((n, 2), np.int64)
    sums = np.zeros((n, 6), np.int64)
    height, width = ranks.shape
    for y in range(height):
        for x in range(width):
            i = ranks[y, x] - 1
            if i < 0:
                continue
            if sums[i, 0] == 0:
                first[i, 0], first[i, 1] = y, x
                boxes[i, 0], boxes[i, 1] = y, x
            boxes[i, 1] = min(boxes[i, 1], x)
            boxes[i, 2] = y + 1
            boxes[i, 3] = max(boxes[i, 3], x + 1)
            v, u = y - first[i, 0], x - first[i, 1]
            sums[i, 0] += 1
            sums[i, 1] += v
            sums[i, 2] += u
            sums[i, 3] += v * v
            sums[i, 4] += u * u
            sums[i, 5] += v * u
    return boxes, first, sums


def moments(ranks: IntArray, n: int) -> tuple[LongArray, LongArray, FloatArray, FloatArray]:
    """Area, box, centroid and spread of n cells.

    Parameters
    ----------
    ranks : (Y, X) int32 array
        As from `renumber`.
    n : int

    Returns
    -------
    area : (n,) int64 array
    boxes : (n, 4) int64 array
        Top, left, bottom, right; the last two exclusive.
    center : (n, 2) float64 array
        (y, x).
    spread : (n, 3) float64 array
        Variance of y, variance of x, covariance.
    """
    boxes, first, sums = position_sums(ranks, n)
    area = sums[:, 0]
    mean = sums[:, 1:3] / area[:, None]
    second = sums[:, 3:] / area[:, None]
    products = np.column_stack([mean[:, 0] ** 2, mean[:, 1] ** 2, mean[:, 0] * mean[:, 1]])
    return area, boxes, first + mean, second - products


@kernel
def intensities(
    ranks: IntArray, n: int, plane: npt.NDArray[np.generic]
) -> tuple[FloatArray, FloatArray, FloatArray, FloatArray]:
    """Mean, standard deviation (of the population), minimum and maximum of n cells.

    Parameters
    ----------
    ranks : (Y, X) int32 array
    n : int
    plane : (Y, X) array
        Any number kind that numba knows. NaN makes the figures of its cell NaN.

    Returns
    -------
    mean, std, lowest, highest : (n,) float64 arrays
    """
    count = np.zeros(n, np.int64)
    mean, std = np.zeros(n), np.zeros(n)
    lowest, highest = np.full(n, np.inf), np.full(n, -np.inf)
    height, width = ranks.shape
    for y in range(height):
        for x in range(width):
            i = ranks[y, x] - 1
            if i >= 0:
                value = np.float64(plane[y, x])
                count[i] += 1
                mean[i] += value
                lowest[i] = min(lowest[i], value)
                highest[i] = max(highest[i], value)
    for i in range(n):
        mean[i] /= count[i]
    for y in range(height):
        for x in range(width):
            i = ranks[y, x] - 1
            if i >= 0:
                std[i] += (np.float64(plane[y, x]) - mean[i]) ** 2
    for i in range(n):
        std[i] = np.sqrt(std[i] / count[i])
        if np.isnan(mean[i]):
            lowest[i], highest[i] = np.nan, np.nan
    return mean, std, lowest, highest
