"""How much of a plane is noise: its strength, and whether there is anything else.

All functions take parts of one plane, (Y, X) float arrays without NaN.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = ["BLOCK", "block_medians", "is_white", "noise_sigma"]

Parts = Sequence[npt.NDArray[Any]]

BLOCK = 8
"""Side of the blocks, px: larger than the grain of noise, smaller than most cells."""

_STRIP = 8 * BLOCK
_ENOUGH_PIXELS = 1 << 19  # places sigma within 0.3 %, and the ratio of `is_white` within 4 %
_LAPLACE_GAIN = 6.0  # root of the sum of squares of the 3 x 3 kernel of `_laplace`
_MAD_TO_SIGMA = 1.4826  # of a normal distribution


def noise_sigma(parts: Parts) -> float:
    """Standard deviation of the noise, from the median response to a Laplacian kernel.

    Structure hardly touches it as long as it fills less than half of the plane at the scale of a
    pixel. 0 where there are fewer than 3 x 3 pixels.

    References
    ----------
    J. Immerkaer, "Fast noise variance estimation", Computer Vision and Image Understanding 64(2),
    300-302, 1996; the median instead of the mean is ours.
    """
    responses = np.concatenate([_laplace(part).ravel() for part in _strips(parts)])
    if responses.size == 0:
        return 0.0
    return _MAD_TO_SIGMA * float(np.median(np.abs(responses))) / _LAPLACE_GAIN


def is_white(parts: Parts, low: float, high: float) -> bool:
    """Whether blocks vary as independent pixels of any distribution would.

    Parameters
    ----------
    parts
        Parts of one plane.
    low, high : float
        Values are cut to this range first, so that a few hot pixels do not outvote the rest.

    Returns
    -------
    bool
        False where there are too few blocks to tell.

    Notes
    -----
    Variance between the means of neighboring blocks, times the pixels per block, over the variance
    between neighboring pixels, both as the mean square after the same Laplacian, which removes
    uneven light. The expectation is 1 for white noise; it was 3.4 or more for 955 real planes.
    """
    pixels, blocks, n_pixels, n_blocks = 0.0, 0.0, 0, 0
    for part in _strips(parts):
        unit = (np.clip(part, low, high) - low) / (high - low)
        fine, coarse = _laplace(unit), _laplace(_blocks(unit, BLOCK).mean(axis=(1, 3)))
        pixels, n_pixels = pixels + float(np.square(fine).sum()), n_pixels + fine.size
        blocks, n_blocks = blocks + float(np.square(coarse).sum()), n_blocks + coarse.size
    if n_blocks < BLOCK or pixels == 0:
        return False
    ratio = BLOCK**2 * (blocks / n_blocks) / (pixels / n_pixels)
    # Four standard errors: neighboring responses overlap, hence 5 / n instead of 2 / n.
    return ratio < 1.0 + 4.0 * float(np.sqrt(5.0 / n_blocks))


def block_medians(parts: Parts, block: int) -> npt.NDArray[Any]:
    """Median of each whole block of `block` x `block` px, in one dimension."""
    blocks = [_blocks(part, block) for part in parts]
    medians = [np.median(some, axis=(1, 3)).ravel() for some in blocks if some.size]
    return np.concatenate(medians) if medians else np.zeros(0)


def _strips(parts: Parts) -> Parts:
    """The parts, or every n-th strip of rows of them where there is more than enough."""
    step = sum(part.size for part in parts) // _ENOUGH_PIXELS
    if step < 2:
        return parts
    strips = [part[top : top + _STRIP] for part in parts for top in range(0, len(part), _STRIP)]
    return strips[::step]


def _laplace(plane: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """(Y-2, X-2) second difference along both axes; blind to ramps along either."""
    if min(plane.shape) < 3:
        return np.zeros((0, 0), plane.dtype)
    rows = plane[:-2] - 2 * plane[1:-1] + plane[2:]
    difference: npt.NDArray[Any] = rows[:, :-2] - 2 * rows[:, 1:-1] + rows[:, 2:]
    return difference


def _blocks(plane: npt.NDArray[Any], block: int) -> npt.NDArray[Any]:
    """(rows, block, columns, block) view of the whole blocks."""
    rows, columns = plane.shape[0] // block, plane.shape[1] // block
    return plane[: rows * block, : columns * block].reshape(rows, block, columns, block)
