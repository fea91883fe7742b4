"""The 65536 levels that a distance map is rounded to, once and for everybody who cuts it."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

MapArray = npt.NDArray[np.uint16]

FLOOR = 0.005
"""Lowest fill; pixels of this value and below are background at any threshold."""
LEVELS = 65535
"""Quantized value of a distance of 1."""


def level(threshold: float) -> int:
    """Level of a threshold: ``quantized > level(t)`` is the same as ``quantized / LEVELS > t``."""
    return int(threshold * LEVELS)


def quantize(distance: npt.ArrayLike) -> MapArray:
    """Distance map as uint16, rounded to the nearest of 65536 levels.

    Parameters
    ----------
    distance : (Y, X) float array in [0, 1], or uint16 array
        Values outside of [0, 1] by less than 0.001, as blending leaves them, are clipped.

    Returns
    -------
    (Y, X) uint16 array
        C-contiguous and writable; the array given if it is like that already.

    Raises
    ------
    TypeError
        If the map is neither float nor uint16.
    ValueError
        If it is not 2-D, has more than 2**31 pixels, holds NaN, or leaves [0, 1].
    """
    array = np.asarray(distance)
    if array.ndim != 2:
        raise ValueError(f"Distance map has shape {array.shape}; give one plane (Y, X).")
    if array.size >= 2**31:
        raise ValueError(f"Distance map has {array.size} pixels; 2**31 is the limit, cut it.")
    if array.dtype.kind != "f" and array.dtype != np.uint16:
        raise TypeError(f"Distance map is {array.dtype}; expected floats in [0, 1] or uint16.")
    if array.dtype.kind == "f":
        if array.size:
            _check_range(float(array.min()), float(array.max()))
        # Half floats end at 65504, below the highest level.
        array = array.astype(np.promote_types(array.dtype, np.float32), copy=False)
        array = np.clip(array, 0, 1)
        array *= LEVELS
        array = np.rint(array, out=array).astype(np.uint16)
    array = np.ascontiguousarray(array)
    # Numba compiles anew for read-only arrays, which takes longer than the copy.
    return array if array.flags.writeable else array.copy()


def _check_range(lowest: float, highest: float) -> None:
    if not (np.isfinite(lowest) and np.isfinite(highest)):
        raise ValueError("Distance map holds NaN or infinity; it must lie in [0, 1].")
    if lowest < -1e-3 or highest > 1 + 1e-3:
        raise ValueError(
            f"Distance map runs from {lowest:g} to {highest:g}; it must lie in [0, 1]."
        )
