"""The part of a layer that goes through the network: lazy where the layer's data are."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from napari_dinocell.core.axes import ArrayLike, output_axes
from napari_dinocell.core.images import Image
from napari_dinocell.core.lazy import ChunkedArray
from napari_dinocell.widgets.blend import Blend
from napari_dinocell.widgets.placement import Placement

__all__ = ["LayerPart", "LazyWindow", "chunks_of"]

Window = tuple[slice, ...]


class LazyWindow:
    """A window of an array that is read only where it is sliced.

    Parameters
    ----------
    array : array-like
    window : tuple of slice
        One per dimension, with start and stop inside the array.

    Attributes
    ----------
    chunks : tuple of int or None
        Blocks in which the array is best read from its beginning, where it has any.
    """

    def __init__(self, array: ArrayLike, window: Window) -> None:
        self._array = array
        self.chunks = chunks_of(array)
        self._ranges = [range(part.start, part.stop) for part in window]
        self.shape = tuple(len(part) for part in self._ranges)
        self.dtype = array.dtype

    def __getitem__(self, key: Any) -> Any:
        keys = list(key) if isinstance(key, tuple) else [key]
        keys += [slice(None)] * (len(self.shape) - len(keys))
        moved: list[Any] = []
        for part, whole in zip(keys, self._ranges, strict=True):
            if isinstance(part, slice):
                inside = whole[part]
                moved.append(slice(inside.start, inside.stop, inside.step))
            else:
                moved.append(whole[int(part)])
        return self._array[tuple(moved)]


@dataclass(frozen=True, eq=False)
class LayerPart:
    """The part of a layer that goes through the network, and where its labels belong.

    Attributes
    ----------
    name : str
        Of the layer.
    array : array-like
        The layer's whole array (of one level), not read yet.
    axes : str
        Of `array`.
    window : tuple of slice
        One per dimension of `array`.
    placement : Placement
        Of the labels: without C and S, beginning at the window.
    factor : float
        Pixels of the layer's full resolution per pixel of `array`.
    level : int
        Of the pyramid that `array` is.
    layer_id : str
        Of the layer; names change.
    others : tuple of array-like
        Of other layers that show the same cells: `image` is the mean of all, see `Blend`.
    other_names : tuple of str
        Of these layers.
    """

    name: str
    array: ArrayLike
    axes: str
    window: Window
    placement: Placement
    factor: float = 1.0
    level: int = 0
    layer_id: str = ""
    others: tuple[ArrayLike, ...] = ()
    other_names: tuple[str, ...] = ()

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the labels."""
        return tuple(
            part.stop - part.start
            for part, letter in zip(self.window, self.axes, strict=True)
            if letter not in "CS"
        )

    @property
    def n_planes(self) -> int:
        """Planes that go through the network."""
        letters = output_axes(self.axes)
        return int(np.prod([n for n, a in zip(self.shape, letters, strict=True) if a in "TZ"]))

    @property
    def plane_shape(self) -> tuple[int, int]:
        """Height and width of each plane, px."""
        sizes = dict(zip(output_axes(self.axes), self.shape, strict=True))
        return sizes["Y"], sizes["X"]

    @property
    def pixel_size_um(self) -> tuple[float, float] | None:
        """Height and width of a pixel, where the layer tells."""
        letters = output_axes(self.axes)
        return self.placement.pixel_size_um(letters.index("Y"), letters.index("X"))

    @property
    def is_region(self) -> bool:
        """Whether its planes are less than whole."""
        return self._whole_planes() != self.window

    def image(self) -> Image:
        """Image for core. Its pixels are read when they are sliced, so not where a user waits."""
        return self._image(self._source, self.window)

    def measured_image(self) -> Image:
        """The layer's own gray values, without those of other layers."""
        return self._image(self._own, self.window)

    def whole_image(self) -> Image:
        """The same planes, each whole: what their gray values are normalized by."""
        return self._image(self._source, self._whole_planes())

    def _whole_planes(self) -> Window:
        return tuple(
            slice(0, int(n)) if letter in "YX" else part
            for n, letter, part in zip(self.array.shape, self.axes, self.window, strict=True)
        )

    def _image(self, source: ArrayLike, window: Window) -> Image:
        whole = all(part == slice(0, n) for part, n in zip(window, source.shape, strict=True))
        array = source if whole else LazyWindow(source, window)
        return Image(array, self.axes, self.pixel_size_um, (), self.name)

    @cached_property
    def _own(self) -> ArrayLike:
        return _cached(self.array, self.name)

    @cached_property
    def _source(self) -> ArrayLike:
        if not self.others:
            return self._own
        pairs = zip(self.others, self.other_names, strict=True)
        return Blend([self._own, *(_cached(array, name) for array, name in pairs)], self.axes)


def _cached(array: ArrayLike, name: str) -> ArrayLike:
    """An array; one that is not in memory decodes each chunk once, though tiles overlap."""
    if isinstance(array, np.ndarray):
        return array
    everything = tuple(slice(0, int(n)) for n in array.shape)
    return ChunkedArray(LazyWindow(array, everything), name)


def chunks_of(array: Any) -> tuple[int, ...] | None:
    """Size of an array's chunks; dask lists the sizes along each axis, of which the first counts."""
    chunks = getattr(array, "chunks", None)
    if not isinstance(chunks, tuple) or not chunks:
        return None
    return tuple(int(n[0] if isinstance(n, tuple) else n) for n in chunks)
