"""Cells that a person has looked at, kept apart from those that thresholds give.

Two planes of labels: the *preview*, which is cut again at every move of a threshold, and the
*corrected* one, which only the person changes. In the corrected plane 0 says nothing, `REJECTED`
says that there is no cell, and all higher ids are verified cells. What is shown is a function of
both: the preview gives way wherever the corrected plane speaks.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import numpy.typing as npt
from scipy.ndimage import binary_closing
from skimage.draw import line
from skimage.measure import label as components
from skimage.segmentation import watershed

__all__ = [
    "FIRST_VERIFIED",
    "REJECTED",
    "Cells",
    "Edit",
    "accept",
    "cells_under",
    "combine",
    "merge",
    "painted",
    "reject",
    "split",
]

REJECTED = 1
FIRST_VERIFIED = 2
_LARGEST_GAP = 4  # px between two cells that are to be one
_LEAST_PART = 0.02  # of a cell: smaller parts beside a line are nicks, not halves

Plane = npt.NDArray[np.integer]
Mask = npt.NDArray[np.bool_]
Path = Sequence[tuple[float, float]]


@dataclass(frozen=True)
class Cells:
    """Ids of some cells, by the plane that they are in."""

    preview: tuple[int, ...] = ()
    verified: tuple[int, ...] = ()

    def __len__(self) -> int:
        return len(self.preview) + len(self.verified)


@dataclass(frozen=True)
class Edit:
    """Pixels of the corrected plane to be written, as one step.

    Attributes
    ----------
    y, x : (n,) int arrays
    values : (n,) int array
    """

    y: npt.NDArray[np.intp]
    x: npt.NDArray[np.intp]
    values: npt.NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.values)


def cells_under(path: Path, preview: Plane, corrected: Plane) -> Cells:
    """Cells that a line drawn by hand touches, in the order in which it does.

    Parameters
    ----------
    path : sequence of (y, x)
        Corners of the line, px; what lies outside the plane is ignored.
    preview, corrected : (Y, X) int arrays
        As shown: the preview has given way already.
    """
    y, x = _pixels(path, preview.shape)
    verified = [int(v) for v in corrected[y, x] if v >= FIRST_VERIFIED]
    shown = [int(v) for v in preview[y, x] if v]
    return Cells(tuple(dict.fromkeys(shown)), tuple(dict.fromkeys(verified)))


def accept(cells: Cells, preview: Plane, corrected: Plane, next_id: int) -> Edit:
    """Verify cells of the preview as they are, with the ids `next_id`, `next_id` + 1, ..."""
    values = np.zeros(preview.shape, np.int64)
    for number, cell in enumerate(cells.preview):
        values[preview == cell] = next_id + number
    return _edit(values, corrected)


def reject(cells: Cells, preview: Plane, corrected: Plane) -> Edit:
    """Say of cells that there are none; no threshold brings them back."""
    return _edit(np.where(_mask(cells, preview, corrected), REJECTED, 0), corrected)


def merge(cells: Cells, preview: Plane, corrected: Plane, next_id: int) -> Edit:
    """Make one verified cell of several; gaps of a few pixels between them are closed.

    Raises
    ------
    ValueError
        If it is fewer than two cells, or they are too far apart.
    """
    if len(cells) < 2:
        raise ValueError("Merging needs two cells: draw from one into the other.")
    mask = _mask(cells, preview, corrected)
    free = mask | ((preview == 0) & (corrected < FIRST_VERIFIED))
    for radius in range(_LARGEST_GAP + 1):
        whole = _closed(mask, radius) & free if radius else mask
        if components(whole, connectivity=2, return_num=True)[1] == 1:
            return _edit(np.where(whole, next_id, 0), corrected)
    raise ValueError("These cells do not touch; draw the part between them first.")


def split(
    path: Path,
    preview: Plane,
    corrected: Plane,
    distance: npt.NDArray[np.number],
    next_id: int,
) -> Edit:
    """Cut the cell that a line crosses into verified parts.

    The line says where the parts are; between them the border follows the valley of the map.

    Parameters
    ----------
    path : sequence of (y, x)
    preview, corrected : (Y, X) int arrays
        As shown.
    distance : (Y, X) array
        Distance map.
    next_id : int
        Id of the first part.

    Raises
    ------
    ValueError
        If the line does not cross a cell from edge to edge.
    """
    y, x = _pixels(path, preview.shape)
    best: tuple[Mask, Plane] | None = None
    for cells in _each(cells_under(path, preview, corrected)):
        mask = _mask(cells, preview, corrected)
        sides = mask.copy()
        sides[y, x] = False
        # The line is connected over corners, so the sides must not be.
        parts, n = components(sides, connectivity=1, return_num=True)
        sizes = np.bincount(parts.ravel(), minlength=n + 1)
        small = np.flatnonzero(sizes < max(2.0, _LEAST_PART * mask.sum()))
        parts[np.isin(parts, small)] = 0
        if len(np.unique(parts)) > 2 and (best is None or mask.sum() > best[0].sum()):
            best = mask, parts
    if best is None:
        raise ValueError("The line crosses no cell from edge to edge; draw it right across one.")
    mask, parts = best
    rows, columns = (slice(int(i.min()), int(i.max()) + 1) for i in np.nonzero(mask))
    box = rows, columns
    halves = watershed(-distance[box].astype(np.float32), parts[box], mask=mask[box])
    values = np.zeros(preview.shape, np.int64)
    for number, part in enumerate(np.unique(halves[halves > 0])):
        values[box][halves == part] = next_id + number
    return _edit(values, corrected)


def painted(before: Plane, after: Plane, corrected: Plane, next_id: int) -> Edit:
    """Verify what was painted into a preview by hand.

    Every cell that gained or lost a pixel becomes a verified one in its new shape; pixels that were
    erased hold no cell any more.

    Parameters
    ----------
    before, after, corrected : (Y, X) int arrays
        The preview before and after the strokes.
    next_id : int
    """
    changed = before != after
    touched = np.union1d(before[changed], after[changed])
    values = np.where(changed & (after == 0), REJECTED, 0).astype(np.int64)
    for number, cell in enumerate(touched[touched > 0]):
        values[after == cell] = next_id + number
    return _edit(values, corrected)


def combine(preview: Plane, corrected: Plane) -> npt.NDArray[np.int32]:
    """Preview and verified cells as one plane of labels with ids 1, 2, ... in reading order.

    Parameters
    ----------
    preview, corrected : (...) int arrays of one shape
        As shown: the preview has given way already.
    """
    offset = int(preview.max(initial=0))
    labels = preview.astype(np.int64)
    verified = corrected >= FIRST_VERIFIED
    labels[verified] = corrected[verified].astype(np.int64) + offset
    ids, first, inverse = np.unique(labels, return_index=True, return_inverse=True)
    ranks = np.zeros(len(ids), np.int32)
    cells = np.flatnonzero(ids > 0)
    ranks[cells[np.argsort(first[cells], kind="stable")]] = np.arange(1, len(cells) + 1)
    return ranks[inverse].reshape(labels.shape)


def _each(cells: Cells) -> Iterable[Cells]:
    yield from (Cells(preview=(cell,)) for cell in cells.preview)
    yield from (Cells(verified=(cell,)) for cell in cells.verified)


def _mask(cells: Cells, preview: Plane, corrected: Plane) -> Mask:
    mask: Mask = np.isin(preview, cells.preview) | np.isin(corrected, cells.verified)
    return mask


def _edit(values: Plane, corrected: Plane) -> Edit:
    """Those pixels that get another value than they have."""
    y, x = np.nonzero((values > 0) & (values != corrected))
    return Edit(y, x, values[y, x].astype(np.int64))


def _pixels(path: Path, shape: tuple[int, ...]) -> tuple[npt.NDArray[np.intp], ...]:
    """Pixels of a polyline, each connected to the next, inside the plane."""
    corners = [(round(y), round(x)) for y, x in path]
    rows, columns = [np.array([c[0] for c in corners[:1]])], [np.array([c[1] for c in corners[:1]])]
    for start, end in pairwise(corners):
        y, x = line(*start, *end)
        rows.append(y)
        columns.append(x)
    y, x = np.concatenate(rows), np.concatenate(columns)
    inside = (y >= 0) & (x >= 0) & (y < shape[0]) & (x < shape[1])
    return y[inside].astype(np.intp), x[inside].astype(np.intp)


def _closed(mask: Mask, radius: int) -> Mask:
    """Morphological closing with a square, computed on the mask's surroundings."""
    side = 2 * radius + 1
    padded = np.pad(mask, radius)
    closed: Mask = binary_closing(padded, np.ones((side, side), bool))
    return closed[radius:-radius, radius:-radius]
