"""Walk through the planes of an image: (Y, X), or (Y, X, 3) in color, of any T, Z, C stack."""

from collections.abc import Iterator, Sequence
from typing import Any, Protocol

import numpy as np

SAMPLE_NAMES = ("red", "green", "blue")


class ArrayLike(Protocol):
    """Anything with a shape, a dtype and slicing: numpy, zarr, dask, h5py arrays and ours."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Length of each axis."""

    @property
    def dtype(self) -> Any:
        """Type of the pixels."""

    def __getitem__(self, key: Any, /) -> Any: ...


class HasAxes(Protocol):
    """What this module needs to know of an image."""

    @property
    def array(self) -> ArrayLike:
        """Pixels."""

    @property
    def axes(self) -> str:
        """One letter per dimension of the array."""

    @property
    def channel_names(self) -> tuple[str, ...]:
        """One per entry of axis C, or none."""

    @property
    def source(self) -> str | None:
        """Name for messages."""


def output_axes(axes: str) -> str:
    """Axes of the labels of an image: those of the image without C and S."""
    return "".join(letter for letter in axes if letter not in "CS")


def output_shape(image: HasAxes) -> tuple[int, ...]:
    """Shape of the labels of an image, in the order of `output_axes`."""
    return tuple(
        int(n)
        for n, letter in zip(image.array.shape, image.axes, strict=True)
        if letter not in "CS"
    )


def find_channel(image: HasAxes, channel: int | str | None) -> int | None:
    """Index of the channel that a plane is taken from.

    Parameters
    ----------
    image : Image
    channel : int, str or None
        Position from 0, or name. In a color image without a channel axis: `red`, `green`, `blue`.

    Returns
    -------
    int or None
        None for an image with neither C nor S axis, and for a color image that is used whole.

    Raises
    ------
    ValueError
        If the image has several channels and none is named, or the named one is not there.
    """
    letter = "C" if "C" in image.axes else "S" if "S" in image.axes else ""
    given = f"{image.source}: " if image.source else ""
    if not letter:
        if channel in (None, 0, "0") or channel in image.channel_names:
            return None
        raise ValueError(f"{given}channel {channel!r} was asked for, the image has only one.")
    count = int(image.array.shape[image.axes.index(letter)])
    names = image.channel_names if letter == "C" else SAMPLE_NAMES[: 3 if count >= 3 else 1]
    usable = count if letter == "C" else len(names)
    if channel is None:
        if letter == "S" or count == 1:
            return 0 if letter == "C" else None
        choices = ", ".join(f"{i} {name}".rstrip() for i, name in _numbered(names, count))
        raise ValueError(
            f"{given}the image has {count} channels ({choices}); choose one, for example "
            f"--channel {names[0] if names else 0}."
        )
    matches = [i for i, name in enumerate(names) if name == channel]
    if len(matches) == 1:
        return matches[0]
    is_number = isinstance(channel, int) or channel.isdecimal()
    if not matches and is_number and 0 <= int(channel) < usable:
        return int(channel)
    choices = ", ".join(f"{i} {name}".rstrip() for i, name in _numbered(names, usable))
    problem = "names several channels" if matches else "is not one of its channels"
    raise ValueError(f"{given}{channel!r} {problem}: {choices}.")


def _numbered(names: Sequence[str], count: int) -> list[tuple[int, str]]:
    return [(i, names[i] if i < len(names) else "") for i in range(count)]


class Plane:
    """One plane of an image, read when asked: `plane()` whole, `plane[y0:y1, x0:x1]` a window.

    What comes out is (Y, X), or (Y, X, 3) in color; in the image's dtype and native byte order,
    alpha dropped. With an alpha channel it is float32, NaN where a pixel is fully transparent.
    Never a view that may be written to the source: treat it as read-only.

    Attributes
    ----------
    shape : tuple of int
        (Y, X) or (Y, X, 3).
    dtype : numpy dtype
    index : dict of str to int
        Position on the axes that the plane is cut from, for example {"T": 0, "Z": 3}.
    """

    def __init__(
        self, array: ArrayLike, axes: str, index: dict[str, int], channel: int | None = None
    ) -> None:
        self._array = array
        self._axes = axes
        self.index = index
        self._fixed = dict(index)
        n_samples = int(array.shape[axes.index("S")]) if "S" in axes else 0
        if n_samples > 4:
            raise ValueError(
                f"Axis S has {n_samples} entries, a color image has 1 to 4; call it C instead."
            )
        self._has_alpha = n_samples in (2, 4)
        self._sample: int | None = 0 if n_samples in (1, 2) else None
        if channel is not None:
            if "C" in axes:
                self._fixed["C"] = channel
            else:
                self._sample = channel
        height, width = (int(array.shape[axes.index(letter)]) for letter in "YX")
        is_color = n_samples >= 3 and self._sample is None
        self.shape: tuple[int, ...] = (height, width, 3) if is_color else (height, width)
        dtype = np.dtype(array.dtype).newbyteorder("=")
        self.dtype = np.dtype(np.float32) if self._has_alpha else dtype

    def __call__(self) -> np.ndarray[Any, Any]:
        """Return the whole plane."""
        return self[:, :]

    def __getitem__(self, window: tuple[slice, slice]) -> np.ndarray[Any, Any]:
        rows, columns = window
        ranges = {"Y": rows, "X": columns, "S": slice(None)}
        key = tuple(ranges[a] if a in ranges else self._fixed[a] for a in self._axes)
        data = np.asarray(self._array[key])
        left = [letter for letter in self._axes if letter in "YXS"]
        data = data.transpose([left.index(letter) for letter in "YXS" if letter in left])
        if "S" not in left:
            return np.asarray(data, self.dtype)
        color = data[..., :3] if data.shape[2] >= 3 else data[..., :1]
        color = color.astype(self.dtype) if self._has_alpha else np.asarray(color, self.dtype)
        if self._has_alpha:
            color[data[..., -1] == 0] = np.nan
        return color if self._sample is None else color[..., self._sample]


def planes(
    image: HasAxes, channel: int | str | None = None
) -> Iterator[tuple[dict[str, int], Plane]]:
    """All planes of an image, outer axes in the image's own order.

    Parameters
    ----------
    image : Image
    channel : int, str or None
        See `find_channel`.

    Yields
    ------
    index : dict of str to int
        Position on the T and Z axes that the image has; empty for a single plane.
    plane : Plane
        Reads its pixels when called or sliced.

    Raises
    ------
    ValueError
        If the channel is not clear.
    """
    chosen = find_channel(image, channel)
    outer = [letter for letter in image.axes if letter in "TZ"]
    lengths = [int(image.array.shape[image.axes.index(letter)]) for letter in outer]
    for position in np.ndindex(*lengths):
        index = dict(zip(outer, position, strict=True))
        yield index, Plane(image.array, image.axes, index, chosen)
