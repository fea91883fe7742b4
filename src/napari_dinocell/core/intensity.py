"""Percentile normalization of whole planes, with a floor under the contrast.

One function for training, inference and adaptation. A plane is never normalized by tiles and
never passes through 8 bits; a plane without structure counts as empty, so that noise is not
stretched until it looks like cells.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from napari_dinocell.core.noise import BLOCK, block_medians, is_white, noise_sigma

__all__ = ["CLIP", "IntensityRange", "PlaneLike", "intensity_range", "luminance", "normalize"]

CLIP = (-0.5, 2.0)
"""Range of normalized values. Wider than [0, 1], because the brightest cells of a sparse plane lie
far above its 99.8th percentile, and cutting them at 1 would make flat plateaus of them."""

_SAMPLE_PIXELS = 1 << 22  # planes above this are sampled: 4 Mpx place P99.8 by 8000 pixels
_BAND = 64  # rows per sampled band, a multiple of the block
_BAND_COLUMNS = 1 << 12
_MIN_BANDS = 16
_LARGEST = 1e300
_STANDS_OUT = 1.5  # noise sigmas; block medians of white noise stay within 1.0 up to 100 Mpx


class PlaneLike(Protocol):
    """(Y, X) or (Y, X, C) data that can be sliced: an array, a Zarr array, a lazy page."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Lengths of the axes."""

    def __getitem__(self, key: Any, /) -> Any:
        """Return the window as something `numpy.asarray` accepts."""


@dataclass(frozen=True)
class IntensityRange:
    """Gray values that become 0 and 1.

    Attributes
    ----------
    low, high : float
        In units of the plane; `high > low` unless the plane is empty.
    is_empty : bool
        No contrast above the noise: the plane is taken to show nothing.
    background : float or None
        What pixels that are not finite are replaced by: the median, None for `low`.
    n_ignored : int
        Pixels with a NaN or an infinity among those looked at.
    """

    low: float
    high: float
    is_empty: bool
    background: float | None = None
    n_ignored: int = 0


def intensity_range(
    plane: npt.NDArray[Any] | PlaneLike,
    percentiles: Sequence[float] = (1.0, 99.8),
    contrast_floor: float = 8.0,
) -> IntensityRange:
    """Gray values of a plane that become 0 and 1, and whether it shows anything.

    Parameters
    ----------
    plane : (Y, X) or (Y, X, C) array or array-like
        Any real or boolean dtype. Channels are pooled: one range for all, which keeps the hue.
        Planes above 4 Mpx are sampled in even bands of 64 rows, so lazy ones are not read whole.
    percentiles : two floats
        In percent, ascending.
    contrast_floor : float
        Least contrast (upper minus lower percentile) in units of the noise.

    Returns
    -------
    IntensityRange
        NaN, infinite pixels and those beyond 1e300 do not count.

    Raises
    ------
    ValueError
        If the plane is not (Y, X) or (Y, X, C), has no pixel, or the percentiles do not ascend.
    TypeError
        If the values are complex, text or objects.

    Notes
    -----
    A plane is empty when

    * its contrast is below the floor, and no 8 x 8 block has a median that differs from the plane's
      by 1.5 sigma of the noise (this saves planes whose few cells lie beyond the upper percentile,
      and dim ones; the range is then widened to the blocks and to the floor), or
    * neighboring blocks differ as little as if all pixels were drawn independently (`is_white`).
    """
    _check(plane.shape)
    lower, upper = percentiles
    if not 0 <= lower < upper <= 100:
        raise ValueError(f"Percentiles are {lower} and {upper}; they must ascend within 0 and 100.")
    bands = [_real(band) for band in _sample(plane)]
    valid = [_is_valid(band) for band in bands]
    n_ignored = sum(int(np.count_nonzero(~_all_channels(mask))) for mask in valid)
    values = np.concatenate([band[mask] for band, mask in zip(bands, valid, strict=True)])
    if values.size == 0:
        return IntensityRange(0.0, 0.0, True, 0.0, n_ignored)
    low, median, high = _percentiles(values, (lower, 50.0, upper))
    grays = [_gray(np.where(mask, band, median)) for band, mask in zip(bands, valid, strict=True)]
    contrast = high - low
    if len(plane.shape) == 3:  # a uniform color has no contrast
        ends = np.percentile(np.concatenate([gray.ravel() for gray in grays]), (lower, upper))
        contrast = float(ends[1] - ends[0])
    empty = IntensityRange(low, high, True, median, n_ignored)
    return _judge(grays, empty, contrast, contrast_floor)


def normalize(plane: npt.NDArray[Any], range_: IntensityRange) -> npt.NDArray[np.float32]:
    """Plane with `range_.low` at 0 and `range_.high` at 1.

    Parameters
    ----------
    plane : (Y, X) or (Y, X, C) array
        A whole plane or a window of one; never modified.
    range_ : IntensityRange
        Of the whole plane.

    Returns
    -------
    float32 array of the same shape
        Clipped to `CLIP`, C-contiguous. NaN and infinite pixels are at the background level.
        All 0 when the plane is empty.
    """
    if range_.is_empty or not range_.high > range_.low:
        return np.zeros(plane.shape, np.float32)
    values = _real(plane)
    if plane.dtype.kind == "f":
        valid = _is_valid(values)
        if not valid.all():
            fill = range_.low if range_.background is None else range_.background
            values = np.where(valid, values, values.dtype.type(fill))
    kind = values.dtype.type
    scaled = (values - kind(range_.low)) * kind(1.0 / (range_.high - range_.low))
    return np.ascontiguousarray(np.clip(scaled, *CLIP), dtype=np.float32)


def luminance(plane: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Gray values of a color plane, for models that were trained on gray.

    Parameters
    ----------
    plane : (Y, X, 3) array
        Red, green, blue, of any real dtype.

    Returns
    -------
    (Y, X) float32 or float64 array
        0.2125 red + 0.7154 green + 0.0721 blue (ITU-R BT.709), in units of the plane.
    """
    weights = np.array((0.2125, 0.7154, 0.0721))
    values = _real(plane)
    gray: npt.NDArray[Any] = values @ weights.astype(values.dtype)
    return gray


def _check(shape: tuple[int, ...]) -> None:
    if len(shape) not in (2, 3):
        raise ValueError(f"Plane has shape {tuple(shape)}; expected (Y, X) or (Y, X, C).")
    if 0 in shape:
        raise ValueError(f"Plane has shape {tuple(shape)}, that is no pixel; nothing to do.")


def _real(values: Any) -> npt.NDArray[Any]:
    """Values as native floats: single for 8 and 16 bits, double where single would round."""
    array = np.asarray(values)
    if array.dtype.kind not in "buif":
        raise TypeError(f"Plane has dtype {array.dtype}; expected real numbers.")
    return array.astype(np.float32 if array.dtype.itemsize <= 2 else np.float64)


def _is_valid(values: npt.NDArray[Any]) -> npt.NDArray[np.bool_]:
    """Where values are finite; doubles whose differences would overflow count as infinite."""
    is_double = values.dtype == np.float64
    valid: npt.NDArray[np.bool_] = np.abs(values) < _LARGEST if is_double else np.isfinite(values)
    return valid


def _all_channels(mask: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
    every: npt.NDArray[np.bool_] = mask if mask.ndim == 2 else np.all(mask, axis=2)
    return every


def _gray(plane: npt.NDArray[Any]) -> npt.NDArray[Any]:
    return plane if plane.ndim == 2 else plane.mean(axis=2)


def _sample(plane: npt.NDArray[Any] | PlaneLike) -> Iterator[Any]:
    """The plane, or even bands of it; a function of the shape alone, so files equal arrays."""
    height, width = plane.shape[:2]
    if height * width <= _SAMPLE_PIXELS:
        yield plane[:, :]
        return
    columns, rows = min(width, _BAND_COLUMNS), min(height, _BAND)
    count = max(_MIN_BANDS, -(-_SAMPLE_PIXELS // (rows * columns)))
    for index in range(count):
        top = round(index * (height - rows) / (count - 1))
        left = round(((index * 0.618034) % 1.0) * (width - columns))
        yield plane[top : top + rows, left : left + columns]


def _percentiles(values: npt.NDArray[Any], percentiles: tuple[float, ...]) -> tuple[float, ...]:
    """Same as `numpy.percentile`, by counting where the values are those of a 16-bit camera."""
    least, largest = float(values.min()), float(values.max())
    if values.dtype != np.float32 or not (largest - least < 1 << 16 and least.is_integer()):
        return tuple(float(value) for value in np.percentile(values, percentiles))
    steps = (values - np.float32(least)).astype(np.uint16)
    if np.any(steps != values - np.float32(least)):
        return tuple(float(value) for value in np.percentile(values, percentiles))
    ranks = np.cumsum(np.bincount(steps))
    found = []
    for percent in percentiles:
        position = percent / 100 * (values.size - 1)
        before, after = np.searchsorted(ranks, (int(position), -(-position // 1)), side="right")
        found.append(least + float(before) + (position % 1) * float(after - before))
    return tuple(found)


def _judge(
    grays: list[npt.NDArray[Any]], empty: IntensityRange, contrast: float, contrast_floor: float
) -> IntensityRange:
    """Compare contrast, noise and blocks (see `intensity_range`)."""
    low, high = empty.low, empty.high
    noise = noise_sigma(grays)
    if contrast > 0 and contrast >= contrast_floor * noise:
        return empty if is_white(grays, low, high) else replace(empty, is_empty=False)
    # Without noise small specks can be trusted.
    medians = block_medians(grays, BLOCK if noise > 0 else BLOCK // 2)
    if medians.size == 0:
        return empty
    lowest, middle, highest = float(medians.min()), float(np.median(medians)), float(medians.max())
    if max(highest - middle, middle - lowest) <= _STANDS_OUT * noise:
        return empty
    low = min(low, lowest)
    high = max(high, highest, low + contrast_floor * noise)
    return replace(empty, low=low, high=high, is_empty=False)
