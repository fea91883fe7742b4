"""A napari layer as input of core: its axes, and the part of it that is to be segmented."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from napari_dinocell.core.axes import ArrayLike, output_axes
from napari_dinocell.core.axis_names import UNNAMED, axes_choices, check_axes
from napari_dinocell.core.images import Image
from napari_dinocell.widgets.placement import Placement

__all__ = [
    "LayerPart",
    "axes_of",
    "axes_options",
    "layer_part",
    "pixels_of",
    "plane_index",
    "visible_region",
]

_NAMES = {
    "t": "T",
    "time": "T",
    "z": "Z",
    "depth": "Z",
    "c": "C",
    "ch": "C",
    "channel": "C",
    "channels": "C",
    "y": "Y",
    "x": "X",
}


def pixels_of(layer: Any, level: int = 0) -> Any:
    """Array of a layer, or one level of its pyramid; nothing is read."""
    return layer.data[level] if layer.multiscale else layer.data


def axes_of(layer: Any) -> str:
    """Axes of a layer's array, `?` where the layer does not tell them.

    Names come from the layer's axis labels; a 2-D layer is (Y, X), and color samples are last.
    """
    letters = [_NAMES.get(str(label).strip().lower(), UNNAMED) for label in layer.axis_labels]
    named = [letter for letter in letters if letter != UNNAMED]
    if len(set(named)) < len(named):
        letters = [UNNAMED] * len(letters)
    if len(letters) == 2 and UNNAMED in letters:
        letters = ["Y", "X"]
    return "".join(letters) + ("S" if layer.rgb else "")


def axes_options(layer: Any) -> tuple[str, ...]:
    """Axes that a layer may have, the likeliest first; one where it tells them itself."""
    stored = axes_of(layer)
    if UNNAMED not in stored:
        return (stored,)
    return axes_choices(pixels_of(layer).shape, stored)


def plane_index(layer: Any, point: Sequence[float], axes: str) -> dict[str, int]:
    """Position on the T and Z axes of a layer that the viewer shows.

    Parameters
    ----------
    layer : napari layer
    point : sequence of float
        `viewer.dims.point`: world coordinates.
    axes : str
        Of the layer's array.
    """
    at = np.rint(layer.world_to_data(point)).astype(int)
    shape = pixels_of(layer).shape
    return {
        letter: int(np.clip(at[i], 0, shape[i] - 1))
        for i, letter in enumerate(axes)
        if letter in "TZ"
    }


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
    """

    name: str
    array: ArrayLike
    axes: str
    window: tuple[slice, ...]
    placement: Placement

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

    def image(self) -> Image:
        """Image for core; reads lazy arrays, so not to be called where a user waits."""
        whole = all(
            part == slice(0, n) for part, n in zip(self.window, self.array.shape, strict=True)
        )
        array = self.array if whole else self.array[self.window]
        return Image(array, self.axes, self.pixel_size_um, (), self.name)


def layer_part(
    layer: Any,
    axes: str,
    *,
    planes: dict[str, int] | None = None,
    region: tuple[slice, slice] | None = None,
    level: int = 0,
) -> LayerPart:
    """Part of an image layer.

    Parameters
    ----------
    layer : napari Image layer
    axes : str
        One letter per dimension of its array, out of `TZCYXS`.
    planes : dict, optional
        Position on T and Z of the only plane that is meant; all planes if None.
    region : pair of slices (y, x), optional
        In pixels of level 0. The whole plane if None.
    level : int
        Of a pyramid.

    Raises
    ------
    ValueError
        If the axes do not fit the layer, or the region holds no pixel.
    """
    array = pixels_of(layer, level)
    axes = check_axes(axes, len(array.shape))
    if (axes[-1] == "S") != bool(layer.rgb) or "S" in axes[:-1]:
        raise ValueError(
            f"Axes {axes} do not fit: S stands for the color samples of an RGB layer, "
            f"and {layer.name} is {'one' if layer.rgb else 'none'}."
        )
    full = pixels_of(layer).shape
    factors = [n / m for n, m in zip(full, array.shape, strict=True)]
    wanted = dict(zip("YX", region, strict=True)) if region else {}
    window = []
    for i, (letter, length) in enumerate(zip(axes, array.shape, strict=True)):
        start, stop = 0, int(length)
        if letter in wanted:
            start = max(0, int(np.floor(wanted[letter].start / factors[i])))
            stop = min(stop, int(np.ceil(wanted[letter].stop / factors[i])))
        elif letter in "TZ" and planes is not None:
            start = min(int(planes[letter] / factors[i]), int(length) - 1)
            stop = start + 1
        if stop <= start:
            raise ValueError("The chosen region does not touch the image; move it or take all.")
        window.append(slice(start, stop))
    placement = Placement.of(layer)
    n = placement.ndim
    if level:
        placement = placement.part([0.0] * n, factors[:n])
    placement = placement.part([part.start for part in window[:n]])
    kept = [i for i, letter in enumerate(axes[:n]) if letter != "C"]
    return LayerPart(layer.name, array, axes, tuple(window), placement.keep(kept))


def visible_region(layer: Any, axes: str) -> tuple[slice, slice]:
    """Rows and columns (level 0) of a layer that the canvas shows."""
    corners = np.asarray(layer.corner_pixels, float)
    shape = pixels_of(layer).shape
    if layer.multiscale:
        level = pixels_of(layer, int(layer.data_level)).shape
        corners = corners * [n / m for n, m in zip(shape, level, strict=True)][: corners.shape[1]]
    y, x = axes.index("Y"), axes.index("X")
    region = []
    for i in (y, x):
        low, high = sorted(float(v) for v in corners[:, i])
        region.append(slice(max(0, int(low)), min(int(shape[i]), int(np.ceil(high)) + 1)))
    return region[0], region[1]
