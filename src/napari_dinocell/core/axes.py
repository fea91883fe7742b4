"""Name and check the axes of an image, and walk through its planes.

Axes are letters out of `TZCYXS` (S: samples of a color image), one per dimension. They are never
guessed: what neither the file nor the caller says, and the shape leaves open, is an error that
lists the choices.
"""

from collections.abc import Iterator, Sequence
from itertools import product
from typing import Any, Protocol

import numpy as np

from napari_dinocell.core.errors import ImageFileError

AXES = "TZCYXS"
UNNAMED = "?"
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


def check_axes(axes: str, n_axes: int | None = None) -> str:
    """`axes` in capitals, if they can name the dimensions of an image.

    Parameters
    ----------
    axes : str
        One letter per dimension, out of `TZCYXS`, in any case and order.
    n_axes : int, optional
        Number of dimensions that the letters must name.

    Returns
    -------
    str

    Raises
    ------
    ValueError
        For a letter that is unknown or there twice, for a missing Y or X, and for another number
        of letters than `n_axes`.
    """
    axes = axes.upper()
    unknown = sorted(set(axes) - set(AXES))
    if unknown:
        raise ValueError(
            f"Axes {axes!r} contain {', '.join(unknown)}; use one letter per dimension out of "
            "T (time), Z (depth), C (channel), Y, X, S (color samples)."
        )
    if len(set(axes)) < len(axes):
        raise ValueError(f"Axes {axes!r} name one letter twice; each may occur once.")
    if "Y" not in axes or "X" not in axes:
        raise ValueError(f"Axes {axes!r} lack Y or X; an image needs both.")
    if n_axes is not None and len(axes) != n_axes:
        raise ValueError(f"Axes {axes!r} name {len(axes)} dimensions, the image has {n_axes}.")
    return axes


def resolve_axes(
    shape: Sequence[int], stored: str | None = None, requested: str | None = None
) -> tuple[str, tuple[int, ...]]:
    """Axes of an array, from the caller's word first and the file's second.

    Parameters
    ----------
    shape : sequence of int
    stored : str, optional
        What the file says, one letter per dimension, `?` where it says nothing.
    requested : str, optional
        What the caller says: one letter per dimension, or per dimension longer than 1.

    Returns
    -------
    axes : str
        One letter per dimension that is kept.
    dropped : tuple of int
        Dimensions of length 1 that have no name and are to be dropped.

    Raises
    ------
    ImageFileError
        If the axes stay unknown; the sentence lists the choices.
    ValueError
        If `requested` does not fit.
    """
    shape = tuple(int(n) for n in shape)
    if requested is not None:
        return _requested_axes(shape, requested)
    stored = stored or UNNAMED * len(shape)
    if len(stored) != len(shape):
        raise ValueError(f"Axes {stored!r} do not fit the shape {shape}.")
    if len(shape) == 2 and UNNAMED in stored:
        return "YX", ()
    singles = [i for i, n in enumerate(shape) if n == 1 and stored[i] == UNNAMED]
    dropped = tuple(singles[: max(0, len(shape) - 2)])
    kept = [i for i in range(len(shape)) if i not in dropped]
    letters = "".join(stored[i] for i in kept)
    small = tuple(shape[i] for i in kept)
    if letters == UNNAMED * 2:
        if small[-1] not in (3, 4):
            return "YX", dropped
        # A row of color pixels, (1, X, 3), must not turn into an image of 3 columns.
        small, letters = shape, stored
    if UNNAMED in letters or not {"Y", "X"} <= set(letters):
        options = axes_choices(small, letters)
        if not options:
            raise ImageFileError(
                f"Shape {shape} is not that of an image; expected are Y and X, and beside them "
                "at most T, Z, C and color samples S."
            )
        raise ImageFileError(
            f"Shape {small} does not tell which axis is which; say so with "
            f"{' or '.join(f'--axes {option}' for option in options)}."
        )
    return check_axes(letters), dropped


def _requested_axes(shape: tuple[int, ...], requested: str) -> tuple[str, tuple[int, ...]]:
    axes = check_axes(requested)
    if len(axes) == len(shape):
        return axes, ()
    singles = tuple(i for i, n in enumerate(shape) if n == 1)
    if len(axes) == len(shape) - len(singles):
        return axes, singles
    raise ValueError(
        f"Axes {axes!r} name {len(axes)} dimensions, the image has {len(shape)}: "
        f"shape {shape}; give one letter for each."
    )


def axes_choices(shape: Sequence[int], stored: str | None = None) -> tuple[str, ...]:
    """Axes that an array of this shape may have, the likeliest first.

    Parameters
    ----------
    shape : sequence of int
    stored : str, optional
        What is known, `?` for the rest.

    Returns
    -------
    tuple of str
        At most four; empty if the shape cannot be an image.
    """
    stored = stored or UNNAMED * len(shape)
    if set(stored) != {UNNAMED}:
        options = _completions(shape, stored)
    else:
        n_outer = len(shape) - 2
        options = _completions(shape, UNNAMED * n_outer + "YX")
        if shape[-1] <= 4:
            color = _completions(shape, UNNAMED * (n_outer - 1) + "YX" + UNNAMED)
            first_is_small = shape[0] <= 4
            options = color[:1] + options[:2] + color[1:] if first_is_small else color + options
    return tuple(option for option in options if "Y" in option and "X" in option)[:4]


def _completions(shape: Sequence[int], stored: str) -> list[str]:
    """Fill each `?` with a letter that can stand there."""
    free = [i for i, letter in enumerate(stored) if letter == UNNAMED]
    found = []
    for letters in product(*("SCZT" if shape[i] <= 4 else "CZT" for i in free)):
        filled = list(stored)
        for i, letter in zip(free, letters, strict=True):
            filled[i] = letter
        option = "".join(filled)
        # Samples come last in every format; outer axes in the order of OME (T before Z before C).
        order = [AXES.index(letter) for letter in option if letter in "TZC"]
        if len(set(option)) == len(option) and order == sorted(order) and "S" not in option[:-1]:
            found.append(option)
    return found


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
