"""A napari layer as input of core: its axes, and the part of it that is to be segmented."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from napari_dinocell.core.axis_names import UNNAMED, axes_choices, check_axes
from napari_dinocell.widgets.parts import LayerPart
from napari_dinocell.widgets.placement import Placement

__all__ = [
    "axes_of",
    "axes_options",
    "camera_of",
    "layer_part",
    "level_factors",
    "level_for",
    "pixel_size_of",
    "pixels_of",
    "plane_index",
    "visible_region",
]

_SMALLER = 1.1

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
    # Only images have color samples.
    return "".join(letters) + ("S" if getattr(layer, "rgb", False) else "")


def axes_options(layer: Any) -> tuple[str, ...]:
    """Axes that a layer may have, those that it tells or the likeliest first."""
    stored, shape = axes_of(layer), pixels_of(layer).shape
    if UNNAMED in stored:
        return axes_choices(shape, stored)
    if len(stored.rstrip("S")) == 2:
        return (stored,)
    # Names in files are wrong now and then: a movie is saved as a stack of planes.
    end = "S" if stored.endswith("S") else ""
    others = [option + end for option in axes_choices(shape[: len(stored.rstrip("S"))])]
    return tuple(dict.fromkeys([stored, *others]))


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


def pixel_size_of(layer: Any, axes: str) -> tuple[float, float] | None:
    """Height and width of a pixel of a layer's full resolution in µm, where the layer tells."""
    return Placement.of(layer).pixel_size_um(axes.index("Y"), axes.index("X"))


def level_factors(layer: Any, axes: str) -> tuple[float, ...]:
    """Pixels of the full resolution per pixel of each level of a pyramid, finest first."""
    y, x = axes.index("Y"), axes.index("X")
    if not layer.multiscale:
        return (1.0,)
    full = layer.data[0].shape
    return tuple(
        float(np.sqrt(full[y] / level.shape[y] * full[x] / level.shape[x])) for level in layer.data
    )


def level_for(factors: Sequence[float], diameter: float, wanted: float) -> int:
    """Coarsest level of a pyramid on which cells are not smaller than a model wants them.

    Parameters
    ----------
    factors : sequence of float
        As from `level_factors`.
    diameter : float
        Of the cells, in px of the full resolution.
    wanted : float
        Diameter that the model was trained around, px.
    """
    # A little smaller is as good: the network would resize by that much anyway.
    fitting = [i for i, factor in enumerate(factors) if diameter / factor >= wanted / _SMALLER]
    return max(fitting, key=lambda i: factors[i], default=0)


def layer_part(
    layer: Any,
    axes: str,
    *,
    planes: Mapping[str, int | slice] | None = None,
    region: tuple[slice, slice] | None = None,
    level: int = 0,
    others: Sequence[Any] = (),
) -> LayerPart:
    """Part of an image layer.

    Parameters
    ----------
    layer : napari Image layer
    axes : str
        One letter per dimension of its array, out of `TZCYXS`.
    planes : mapping, optional
        Position of the only plane that is meant, or a range of them, on T and Z; all if None.
    region : pair of slices (y, x), optional
        In pixels of level 0. The whole plane if None.
    level : int
        Of a pyramid.
    others : sequence of napari Image layers
        That show the same cells, with the same shape, without channels: see `Blend`.

    Raises
    ------
    ValueError
        If the axes do not fit the layer, or the region holds no pixel.
    """
    array = pixels_of(layer, level)
    axes = check_axes(axes, len(array.shape))
    if "S" in axes[:-1] or (layer.rgb and axes[-1] != "S"):
        raise ValueError(
            f"Axes {axes} do not fit: S stands for color samples, which come last, and {layer.name} "
            f"{'has' if layer.rgb else 'need not have'} them."
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
            at = planes[letter]
            at = at if isinstance(at, slice) else slice(at, at + 1)
            start = min(int(at.start / factors[i]), int(length) - 1)
            stop = min(max(int(np.ceil(at.stop / factors[i])), start + 1), int(length))
        if stop <= start:
            raise ValueError("The chosen region does not touch the image; move it or take all.")
        window.append(slice(start, stop))
    placement = _named(Placement.of(layer), axes)
    n = placement.ndim
    if level:
        placement = placement.part([0.0] * n, factors[:n])
    placement = placement.part([part.start for part in window[:n]])
    kept = [i for i, letter in enumerate(axes[:n]) if letter not in "CS"]
    factor = level_factors(layer, axes)[level]
    place = placement.keep(kept)
    return LayerPart(
        layer.name,
        array,
        axes,
        tuple(window),
        place,
        factor,
        level,
        str(layer.unique_id),
        tuple(pixels_of(other, level) for other in others),
        tuple(str(other.name) for other in others),
    )


def _named(placement: Placement, axes: str) -> Placement:
    """Placement that tells axes which the layer does not tell, or tells otherwise."""
    if placement.ndim < 3:
        return placement
    labels = tuple(
        label if _NAMES.get(label.strip().lower()) == letter else letter.lower()
        for label, letter in zip(placement.axis_labels, axes, strict=False)
    )
    return replace(placement, axis_labels=labels)


def camera_of(viewer: Any) -> Any:
    """Camera of a viewer; napari 0.9 moved it."""
    scene = getattr(viewer, "scene", None)
    return viewer.camera if scene is None else scene.camera


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
