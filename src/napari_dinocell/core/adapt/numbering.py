"""Units of evidence by number: labeled cells and empty places."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from napari_dinocell.core.overlaps import compact

LabelArray = npt.NDArray[np.int32]

# Both in px at the network's scale.
_BLOCK = 64  # large empty places are held out in blocks of this side
_MIN_AREA = 4  # smaller cells cannot be learned from


def numbered(labels: npt.NDArray[Any]) -> tuple[LabelArray, npt.NDArray[np.float64]]:
    """Labels with ids 1..n, cells too small to learn from left out, and their diameters."""
    _, areas, ranks = compact(labels.ravel())
    keep = areas >= _MIN_AREA
    new = np.append(0, np.where(keep, np.cumsum(keep), 0)).astype(np.int32)
    diameters = np.append(0.0, 2 * np.sqrt(areas[keep] / np.pi))
    return new[ranks].reshape(labels.shape), diameters


def empty_units(marked: npt.NDArray[np.bool_], background: npt.NDArray[np.bool_]) -> LabelArray:
    """Number empty places: marked pieces as they are if they are small, all else by blocks."""
    pieces, _ = ndimage.label(marked, np.ones((3, 3)))
    units = np.asarray(pieces, np.int32)
    n_units = int(units.max(initial=0))
    large = background.copy()
    for number, box in enumerate(ndimage.find_objects(units), start=1):
        if max(part.stop - part.start for part in box) > _BLOCK:
            large[box] |= units[box] == number
    height, width = large.shape
    columns = -(-width // _BLOCK)
    block = (np.arange(height) // _BLOCK)[:, None] * columns + np.arange(width) // _BLOCK
    units[large] = n_units + 1 + block[large]
    return compact(units.ravel())[2].reshape(units.shape).astype(np.int32)
