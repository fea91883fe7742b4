"""Overlapping tiles of a plane, and their results blended back row by row.

A plane of any size goes through the same grid: one that is smaller than a tile is one small tile.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from napari_dinocell.core.intensity import PlaneLike

__all__ = ["MULTIPLE", "Blender", "TileGrid", "Window", "reflected"]

MULTIPLE = 8
"""Sides of a tile are multiples of this many pixels: the patch of the transformer."""

_LEAST = (
    1e-6  # weight of a tile's margin where another tile is there: below a uint16 step of the map
)

RowSink = Callable[[int, npt.NDArray[Any]], None]


def reflected(array: npt.NDArray[Any], shape: tuple[int, int]) -> npt.NDArray[Any]:
    """Extend an array at its bottom and right by what lies beyond a mirror on its last pixels.

    Parameters
    ----------
    array : (Y, X) or (Y, X, C) array
    shape : (int, int)
        Height and width of the result, px, not below the array's. An axis of one pixel is repeated.

    Returns
    -------
    array of `shape` (and C)
        The array itself where nothing lacks.
    """
    lacking = [(0, full - got) for full, got in zip(shape, array.shape, strict=False)]
    if not any(after for _, after in lacking):
        return array
    return np.pad(array, [*lacking, *[(0, 0)] * (array.ndim - 2)], mode="reflect")


@dataclass(frozen=True)
class Window:
    """Rows [top, bottom) and columns [left, right) of a plane, in px."""

    top: int
    left: int
    bottom: int
    right: int

    @property
    def shape(self) -> tuple[int, int]:
        """Height and width in px."""
        return self.bottom - self.top, self.right - self.left


@dataclass(frozen=True)
class TileGrid:
    """Where the tiles of a plane lie and how much each counts.

    Invariant: at every pixel the weights of all tiles are positive and sum to 1.

    Parameters
    ----------
    height, width : int
        Of the plane, px, at least 1.
    tile : int
        Side of a tile in px, a multiple of 8. Along an axis shorter than this the tile is the axis,
        padded to the next multiple of 8.
    overlap : int
        Least number of px that neighboring tiles share, below `tile`.

    Attributes
    ----------
    tile_shape : (int, int)
        Height and width of every tile, px.
    windows : tuple of Window
        In row-major order; inside the plane except for padding at its lower and right edge.

    Notes
    -----
    Tiles are spread evenly, so the overlap is the same everywhere and no tile hangs over the edge.
    The weight is a product over the axes. Along one axis, the outer quarter of `overlap` hardly
    counts (the network lacks context there); then it rises as sin² over half of `overlap`.
    """

    height: int
    width: int
    tile: int = 256
    overlap: int = 64
    tile_shape: tuple[int, int] = field(init=False)
    windows: tuple[Window, ...] = field(init=False, repr=False)
    _weights: tuple[tuple[npt.NDArray[np.float64], ...], ...] = field(init=False, repr=False)
    _starts: tuple[tuple[int, ...], tuple[int, ...]] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        if self.height < 1 or self.width < 1:
            raise ValueError(f"Plane of {self.height} x {self.width} px has no pixel to tile.")
        if self.tile < MULTIPLE or self.tile % MULTIPLE:
            raise ValueError(
                f"Tile is {self.tile} px; it must be a positive multiple of {MULTIPLE}."
            )
        if not 0 <= self.overlap < self.tile:
            raise ValueError(
                f"Overlap is {self.overlap} px; it must be at least 0 and below the tile of "
                f"{self.tile} px."
            )
        rows, columns = (self._axis(length) for length in (self.height, self.width))
        shape = (rows[1], columns[1])
        windows = tuple(
            Window(top, left, top + shape[0], left + shape[1])
            for top in rows[0]
            for left in columns[0]
        )
        for name, value in (
            ("tile_shape", shape),
            ("windows", windows),
            ("_starts", (rows[0], columns[0])),
            (
                "_weights",
                (_axis_weights(*rows, self.overlap), _axis_weights(*columns, self.overlap)),
            ),
        ):
            object.__setattr__(self, name, value)

    def __len__(self) -> int:
        """Return the number of tiles."""
        return len(self.windows)

    @property
    def redundancy(self) -> float:
        """Pixels that go through the network per pixel of the plane."""
        height, width = self.tile_shape
        return len(self) * height * width / (self.height * self.width)

    @property
    def rows(self) -> tuple[int, ...]:
        """First row of each row of tiles, ascending, in px."""
        return self._starts[0]

    def read(self, plane: npt.NDArray[Any] | PlaneLike, index: int) -> npt.NDArray[Any]:
        """Copy one tile out of a plane.

        Parameters
        ----------
        plane : (Y, X) or (Y, X, C) array or array-like
            Of the grid's height and width. Only the window is read.
        index : int
            Which of `windows`.

        Returns
        -------
        array of `tile_shape` (and C)
            Beyond the edge the plane is reflected; an axis of one pixel is repeated.
        """
        window = self.windows[index]
        inside = np.asarray(plane[window.top : window.bottom, window.left : window.right])
        return reflected(inside, self.tile_shape)

    def weights(self, index: int) -> npt.NDArray[np.float64]:
        """Weights of one tile, of `tile_shape`, in (0, 1]; 0 in the padding."""
        row, column = divmod(index, len(self._starts[1]))
        return np.multiply.outer(self._weights[0][row], self._weights[1][column])

    def _axis(self, length: int) -> tuple[tuple[int, ...], int, int]:
        """Starts of the tiles along an axis, their side, and the axis' length."""
        if length <= self.tile:
            return (0,), -(-length // MULTIPLE) * MULTIPLE, length
        count = -(-(length - self.overlap) // (self.tile - self.overlap))
        span = length - self.tile
        return tuple(round(i * span / (count - 1)) for i in range(count)), self.tile, length


class Blender:
    """Weighted sum of tiles, handed on row by row as soon as no later tile can change it.

    Holds as many rows as a tile is high, so the size of a plane is no matter.

    Parameters
    ----------
    grid : TileGrid
        Tiles must be added in its order.
    sink : callable
        `sink(first_row, rows)` gets each (rows, X) block once, from the top down. The block is the
        sink's to keep.
    dtype : dtype
        Of the sum.
    """

    def __init__(self, grid: TileGrid, sink: RowSink, dtype: npt.DTypeLike = np.float32) -> None:
        self.grid = grid
        self.n_added = 0
        self._sink = sink
        self._top = 0
        self._sum = np.zeros((grid.tile_shape[0], grid.width), dtype)

    @property
    def is_done(self) -> bool:
        """Whether all tiles were added and all rows handed on."""
        return self.n_added == len(self.grid)

    def add(self, values: npt.NDArray[Any]) -> None:
        """Add the next tile: an array of the grid's `tile_shape`."""
        window, weights = self.grid.windows[self.n_added], self.grid.weights(self.n_added)
        if values.shape != self.grid.tile_shape:
            raise ValueError(f"Tile has shape {values.shape}; expected {self.grid.tile_shape}.")
        if window.top > self._top:
            self._hand_on(window.top)
        width = min(window.right, self.grid.width) - window.left
        part = self._sum[:, window.left : window.left + width]
        part += weights[:, :width].astype(self._sum.dtype) * values[:, :width]
        self.n_added += 1
        if self.is_done:
            self._hand_on(self.grid.height)

    def _hand_on(self, row: int) -> None:
        """Give the sink everything above `row`; nothing later touches it."""
        count = row - self._top
        rest = np.zeros_like(self._sum)
        rest[: len(rest) - count] = self._sum[count:]
        done, self._sum = self._sum[:count], rest
        self._sink(self._top, done)
        self._top = row


def _axis_weights(
    starts: tuple[int, ...], side: int, length: int, overlap: int
) -> tuple[npt.NDArray[np.float64], ...]:
    """Weights of each tile along one axis; at every pixel they sum to 1."""
    # Distance of pixel centers to the nearer end, from where the margin ends, over the ramp.
    depth = np.minimum(np.arange(side), np.arange(side)[::-1]) + 0.5
    ramp = np.clip((depth - overlap / 4) / max(overlap / 2, 1), 0, 1)
    window = np.maximum(np.sin(np.pi / 2 * ramp) ** 2, _LEAST)
    total = np.zeros(starts[-1] + side)
    for start in starts:
        total[start : start + side] += window
    inside = np.arange(side)
    return tuple(
        np.where(inside + start < length, window / total[start : start + side], 0.0)
        for start in starts
    )
