"""What a user corrected of a labels layer: the layer that holds it, and both as one."""

from __future__ import annotations

from importlib import import_module
from typing import Any

import numpy as np
import numpy.typing as npt

from napari_dinocell.widgets.preview import METADATA_KEY

__all__ = ["combined", "corrections_of", "is_correction", "metadata_for"]

_KEY = "corrects"


def metadata_for(layer: Any) -> dict[str, Any]:
    """Metadata of a new layer that holds the corrections of another one."""
    # Names change, and may be given again.
    return {METADATA_KEY: {_KEY: str(layer.unique_id)}}


def is_correction(layer: Any) -> bool:
    """Whether a layer holds corrections: its ids alone are not cells."""
    return _KEY in layer.metadata.get(METADATA_KEY, {})


def corrections_of(viewer: Any, layer: Any) -> Any:
    """The layer with the user's corrections of a labels layer, or None."""
    for other in viewer.layers:
        corrects = other.metadata.get(METADATA_KEY, {}).get(_KEY)
        if corrects == str(layer.unique_id) and other.data.shape == layer.data.shape:
            return other
    return None


def combined(labels: Any, corrected: Any, axes: str) -> npt.NDArray[np.integer]:
    """Corrections over cells, as one array that the user no longer writes to.

    Parameters
    ----------
    labels : int array-like
        As shown: it has given way already.
    corrected : int array-like of the same shape, or None
    axes : str
        One letter per dimension, out of `TZYX`, in any order.

    Returns
    -------
    int array of the same shape
        The labels themselves without corrections; else in each plane the ids 1, 2, ...
    """
    if corrected is None:
        return np.array(labels)
    combine = import_module("napari_dinocell.core.corrections").combine
    # Ids mean something within a plane only, and plane by plane less memory is needed.
    outer = [letter for letter in axes if letter not in "YX"]
    whole = np.zeros(tuple(int(n) for n in labels.shape), np.int32)
    for position in np.ndindex(*(whole.shape[axes.index(letter)] for letter in outer)):
        at = dict(zip(outer, position, strict=True))
        key = tuple(at.get(letter, slice(None)) for letter in axes)
        whole[key] = combine(np.asarray(labels[key]), np.asarray(corrected[key]))
    return whole
