"""What a person has corrected takes precedence over what thresholds give."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from napari_dinocell.core.jit import kernel

__all__ = ["give_way", "warm_up"]

Plane = npt.NDArray[np.integer]


def give_way(
    preview: Plane, corrected: Plane, ids: npt.NDArray[np.integer], areas: npt.NDArray[np.integer]
) -> npt.NDArray[np.int64]:
    """Take out of a preview what the corrected plane says better, in place.

    A cell of which the corrected plane covers more than half is the same cell, or a rejected one,
    and vanishes; another one loses only the covered pixels.

    Parameters
    ----------
    preview, corrected : (Y, X) int arrays
    ids, areas : (n,) arrays
        Of all cells of the preview, ids increasing; areas in px before anything is taken out.

    Returns
    -------
    (n,) int64 array
        What is left of each area.
    """
    highest = int(ids[-1]) if len(ids) else 0
    covered = _count_covered(preview, corrected, highest + 1)[ids]
    left = np.where(2 * covered > areas, 0, areas - covered)
    if covered.any():
        names = np.zeros(highest + 1, preview.dtype)
        names[ids[left > 0]] = ids[left > 0]
        _erase(preview, corrected, names)
    return left


def warm_up() -> None:
    """Compile the kernels, or load them from the cache, so that the first correction is fast."""
    for dtype in (np.uint16, np.int32):
        preview = np.ones((8, 8), dtype)
        corrected = np.eye(8, dtype=np.uint16)
        for part in ((slice(None), slice(None)), (slice(1, 5), slice(1, 5))):
            give_way(preview[part].copy(), corrected[part], np.array([1]), np.array([64]))
            give_way(preview[part], corrected[part], np.array([1]), np.array([64]))


@kernel
def _count_covered(preview: Plane, corrected: Plane, n: int) -> npt.NDArray[np.int64]:
    """Pixels of each preview cell that the corrected plane speaks about."""
    counts = np.zeros(n, np.int64)
    height, width = preview.shape
    for y in range(height):
        for x in range(width):
            if corrected[y, x] != 0:
                counts[preview[y, x]] += 1
    return counts


@kernel
def _erase(preview: Plane, corrected: Plane, names: Plane) -> None:
    """Rename preview cells (0 for those that vanish), and clear what is covered."""
    height, width = preview.shape
    for y in range(height):
        for x in range(width):
            preview[y, x] = 0 if corrected[y, x] != 0 else names[preview[y, x]]
