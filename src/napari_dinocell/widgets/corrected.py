"""What a user corrected of a labels layer: the layer that holds it, and both as one."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from typing import Any

import numpy as np
import numpy.typing as npt
from napari.layers import Labels
from napari.utils.colormaps import CyclicLabelColormap

from napari_dinocell.widgets.origin import Origin
from napari_dinocell.widgets.placement import Placement
from napari_dinocell.widgets.preview import METADATA_KEY

__all__ = [
    "OUTLINE",
    "adopt",
    "cells_of",
    "corrected_by",
    "corrected_layer",
    "corrections_of",
    "has_cells",
    "is_correction",
    "origin_of",
]

_KEY, _ORIGIN = "corrects", "origin"
OUTLINE = 2  # px
_COLOR = (0.25, 1.0, 0.45, 1.0)


def corrected_layer(
    data: npt.NDArray[np.integer], name: str, placement: Placement, origin: Origin, below: Any
) -> Labels:
    """A new layer, not yet in a viewer, for corrections.

    Parameters
    ----------
    data : int array
        Ids as in `core.corrections`.
    name : str
    placement : Placement
    origin : Origin
        Of the same grid.
    below : Labels layer, or None
        Whose cells are corrected.
    """
    layer = Labels(
        data,
        name=name,
        opacity=1.0,
        colormap=_verified_colors(),
        metadata={METADATA_KEY: {_KEY: "", _ORIGIN: origin}},
        **placement.options(),
    )
    layer.preserve_labels = True
    if below is not None:
        adopt(layer, below)
    return layer


def adopt(layer: Any, below: Any) -> None:
    """Let a layer of corrections be that of another labels layer from now on."""
    # Names change, and may be given again.
    layer.metadata[METADATA_KEY][_KEY] = str(below.unique_id)


def is_correction(layer: Any) -> bool:
    """Whether a layer holds corrections: its ids alone are not cells."""
    return _KEY in layer.metadata.get(METADATA_KEY, {})


def origin_of(layer: Any) -> Origin | None:
    """What a layer of corrections was drawn on; None if it is no such layer."""
    origin: Origin | None = layer.metadata.get(METADATA_KEY, {}).get(_ORIGIN)
    return origin


def corrected_by(viewer: Any, correction: Any) -> Any:
    """The labels layer that a layer of corrections belongs to, or None if it is gone."""
    wanted = correction.metadata.get(METADATA_KEY, {}).get(_KEY)
    for other in viewer.layers:
        if str(other.unique_id) == wanted and other.data.shape == correction.data.shape:
            return other
    return None


def corrections_of(viewer: Any, layer: Any) -> Any:
    """The layer with the user's corrections of a labels layer, or None."""
    for other in viewer.layers:
        corrects = other.metadata.get(METADATA_KEY, {}).get(_KEY)
        if corrects == str(layer.unique_id) and other.data.shape == layer.data.shape:
            return other
    return None


def has_cells(viewer: Any, layer: Any) -> bool:
    """Whether a layer can stand for cells: corrections do so where what they correct is not there.

    Else the layer that they correct stands for both.
    """
    if not isinstance(layer, Labels) or layer.multiscale:
        return False
    return not is_correction(layer) or corrected_by(viewer, layer) is None


def cells_of(viewer: Any, layer: Any, axes: str) -> tuple[Callable[[], Any], bool]:
    """What gives the cells that a layer stands for, on any thread; and whether these are others.

    Parameters
    ----------
    viewer : napari viewer
    layer : Labels layer
        See `has_cells`.
    axes : str
        Of the layer.

    Returns
    -------
    callable
        Gives an int array-like of the layer's shape; not in memory where the layer's is not.
    bool
        Whether corrections of the layer are part of it; in each plane the ids are then 1, 2, ...
        Those of the layer otherwise.
    """
    over, data = corrections_of(viewer, layer), layer.data
    if over is not None:
        corrected = over.data
        return lambda: _combined(data, corrected, axes), True
    if is_correction(layer):
        return lambda: _verified(data), False
    return lambda: data, False


def _verified(corrected: Any) -> npt.NDArray[np.integer]:
    """Cells of a layer of corrections, without what was deleted."""
    first = import_module("napari_dinocell.core.corrections").FIRST_VERIFIED
    cells = np.array(corrected)
    cells[cells < first] = 0
    return cells


def _combined(labels: Any, corrected: Any, axes: str) -> npt.NDArray[np.int32]:
    """Corrections over cells, which have given way already: in each plane the ids 1, 2, ..."""
    combine = import_module("napari_dinocell.core.corrections").combine
    # Ids mean something within a plane only, and plane by plane less memory is needed.
    outer = [letter for letter in axes if letter not in "YX"]
    whole = np.zeros(tuple(int(n) for n in labels.shape), np.int32)
    for position in np.ndindex(*(whole.shape[axes.index(letter)] for letter in outer)):
        at = dict(zip(outer, position, strict=True))
        key = tuple(at.get(letter, slice(None)) for letter in axes)
        whole[key] = combine(np.asarray(labels[key]), np.asarray(corrected[key]))
    return whole


def _verified_colors() -> Any:
    """One color for every id; none for background, and for 1, which marks what was deleted.

    A colormap by id would be shorter, but napari compiles for seconds when it meets the first one.
    """
    colors = np.tile(np.array(_COLOR, np.float32), (np.iinfo(np.uint16).max + 1, 1))
    colors[:2] = 0
    return CyclicLabelColormap(colors=colors)
