"""Name the axes of an image by letters out of `TZCYXS` (S: samples of a color image).

Axes are never guessed: what neither the file nor the caller says, and the shape leaves open, is an
error that lists the choices.
"""

from collections.abc import Sequence
from itertools import product

from napari_dinocell.core.errors import ImageFileError

AXES = "TZCYXS"
UNNAMED = "?"
POSITION_COLUMNS = {"T": "frame", "Z": "z"}
"""Columns of a table that tell in which plane of a stack a cell lies."""


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
        options = axes_choices(small, letters) if len(shape) > 1 else ()
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
