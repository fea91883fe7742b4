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
Indices = npt.NDArray[np.intp]
Box = tuple[slice, slice]
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
    y, x = np.nonzero(np.isin(preview, cells.preview))
    order = np.argsort(cells.preview)
    names = next_id + order
    values = names[np.searchsorted(np.array(cells.preview)[order], preview[y, x])]
    return _edit(y, x, values, corrected)


def reject(cells: Cells, preview: Plane, corrected: Plane) -> Edit:
    """Say of cells that there are none; no threshold brings them back."""
    y, x = np.nonzero(_mask(cells, preview, corrected))
    return _edit(y, x, np.full(len(y), REJECTED), corrected)


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
    box = _box_of(mask, _LARGEST_GAP)
    mask = mask[box]
    free = mask | ((preview[box] == 0) & (corrected[box] < FIRST_VERIFIED))
    for radius in range(_LARGEST_GAP + 1):
        whole = _closed(mask, radius) & free if radius else mask
        if components(whole, connectivity=2, return_num=True)[1] == 1:
            y, x = np.nonzero(whole)
            return _edit(*_outside(box, y, x), np.full(len(y), next_id), corrected)
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
    on_line = np.zeros(preview.shape, bool)
    on_line[y, x] = True
    best: tuple[Box, Mask, Plane] | None = None
    for cells in _each(cells_under(path, preview, corrected)):
        mask = _mask(cells, preview, corrected)
        box = _box_of(mask)
        mask = mask[box]
        # The line is connected over corners, so the sides must not be.
        parts, n = components(mask & ~on_line[box], connectivity=1, return_num=True)
        sizes = np.bincount(parts.ravel(), minlength=n + 1)
        small = np.flatnonzero(sizes < max(2.0, _LEAST_PART * mask.sum()))
        parts[np.isin(parts, small)] = 0
        if len(np.unique(parts)) > 2 and (best is None or mask.sum() > best[1].sum()):
            best = box, mask, parts
    if best is None:
        raise ValueError("The line crosses no cell from edge to edge; draw it right across one.")
    box, mask, parts = best
    halves = watershed(-distance[box].astype(np.float32), parts, mask=mask)
    y, x = np.nonzero(halves)
    numbers = np.unique(halves[y, x], return_inverse=True)[1]
    return _edit(*_outside(box, y, x), next_id + numbers, corrected)


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
    touched = touched[touched > 0]
    y, x = np.nonzero((changed & (after == 0)) | np.isin(after, touched))
    shown = after[y, x]
    values = np.where(shown > 0, next_id + np.searchsorted(touched, shown), REJECTED)
    return _edit(y, x, values, corrected)


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


def _edit(y: Indices, x: Indices, values: npt.NDArray[np.integer], corrected: Plane) -> Edit:
    """Those pixels that get another value than they have."""
    is_new = values != corrected[y, x]
    return Edit(y[is_new], x[is_new], values[is_new].astype(np.int64))


def _box_of(mask: Mask, margin: int = 0) -> Box:
    """Rows and columns around a mask: a cell is small, and a plane may be large."""
    box = []
    for axis in (1, 0):
        at = np.flatnonzero(mask.any(axis))
        low, high = (int(at[0]), int(at[-1])) if len(at) else (0, -1)
        box.append(slice(max(0, low - margin), high + 1 + margin))
    return box[0], box[1]


def _outside(box: Box, y: Indices, x: Indices) -> tuple[Indices, Indices]:
    """Pixels of a box as pixels of the plane."""
    return y + box[0].start, x + box[1].start


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
