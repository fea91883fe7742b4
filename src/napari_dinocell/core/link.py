"""Cells of neighboring planes become one object (along Z) or one track (along T), by overlap.

Every plane was segmented by itself, so its ids mean nothing in the next one. A cell passes its id
on to the cell of the next plane that lies where it lay. The rule, in both directions alike:

- one to one: no id stands twice in a plane, no cell has two ids;
- of all such pairings the one with the largest sum of IoU is taken, so that a row of touching
  cells that moves together is followed as a row, not cell by cell;
- two cells may only be a pair where at least `min_overlap` of the smaller one lies on the larger:
  otherwise one ends and another begins. It is not IoU that decides this, or the small caps of
  every round object would be objects of their own;
- where a cell splits, the part that overlaps most keeps its id and the others get new ones; where
  cells merge, the union keeps the id of the one that overlaps most, and the others end.

A round cell that moves by its radius between two planes overlaps itself by 0.39: objects that move
farther need a tracker that knows motion, to which these labels can be given.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from napari_dinocell.core.axes import ArrayLike
from napari_dinocell.core.axis_names import check_axes
from napari_dinocell.core.errors import Cancelled
from napari_dinocell.core.moments import renumber
from napari_dinocell.core.overlaps import overlap_table
from napari_dinocell.core.pairing import best_pairs

__all__ = ["LINKS", "MIN_OVERLAP", "Linked", "Linker", "check_link", "link"]

IntArray = npt.NDArray[np.int32]

LINKS = ("z", "t", "zt")
"""What can be linked: planes to objects, planes to tracks, objects to tracks."""

MIN_OVERLAP = 0.35
"""Two cells of neighboring planes that overlap less are two; a move by one radius gives 0.39."""


@dataclass(frozen=True, eq=False)
class Linked:
    """Labels whose ids last.

    Attributes
    ----------
    labels : int32 array of the shape given
        0 is background.
    count : int
        Objects or tracks, over all stacks that were linked by themselves.
    """

    labels: IntArray
    count: int


def link(
    labels: ArrayLike,
    axes: str,
    along: str,
    *,
    min_overlap: float = MIN_OVERLAP,
    gap: int = 0,
    progress: Callable[[int, int], None] | None = None,
    cancel: Callable[[], bool] | None = None,
) -> Linked:
    """Give one id to the cells of neighboring planes that overlap.

    Parameters
    ----------
    labels : int array-like
        0 is background; ids mean something within their plane only. Read plane by plane, for `zt`
        stack by stack.
    axes : str
        Out of `TZYX`, one letter per dimension of `labels`.
    along : str
        `z`: planes to 3-D objects, in each time point by itself. `t`: planes to tracks, in each
        plane of a stack by itself. `zt`: planes to objects, then objects to tracks by the overlap
        of their volumes.
    min_overlap : float
        Least share of the smaller cell of a pair that lies on the larger one, in (0, 1].
    gap : int
        A cell that is not found in up to so many planes in a row keeps its id.
    progress : callable, optional
        Told how many planes or stacks of how many are linked.
    cancel : callable, optional
        Asked before each of them whether to stop.

    Returns
    -------
    Linked
        In each stack that was linked by itself the ids are 1, 2, ... in the order in which the
        cells come first, within a plane from top to bottom.

    Raises
    ------
    TypeError, ValueError
        If the labels are not integers, or negative; if the axes do not fit, or lack the one that
        is to be linked; or if a number is out of its range.
    Cancelled
        If `cancel` said so.

    Examples
    --------
    >>> import numpy as np
    >>> link(np.array([[[3, 3, 0]], [[0, 8, 8]]]), "TYX", "t").labels.tolist()
    [[[1, 1, 0]], [[0, 1, 1]]]
    """
    axes = check_axes(axes, len(labels.shape))
    check_link(axes, along)
    linked = np.zeros(tuple(int(n) for n in labels.shape), np.int32)
    # A second pass goes through what the first one linked.
    passes = [(labels, _stacks(linked.shape, axes, along[0].upper()))]
    if along == "zt":
        passes.append((linked, _stacks(linked.shape, axes, "T", whole="Z")))
    total = sum(len(stack) for _, stacks in passes for stack in stacks)
    count = done = 0
    for source, stacks in passes:
        count = 0
        for stack in stacks:
            linker = Linker(min_overlap=min_overlap, gap=gap)
            for frame in stack:
                if cancel is not None and cancel():
                    raise Cancelled("Cancelled.")
                linked[frame] = linker.follow(source[frame])
                done += 1
                if progress is not None:
                    progress(done, total)
            count += linker.count
    return Linked(linked, count)


class Linker:
    """Follows cells through frames that are given one after the other.

    Holds the last frame, and `gap` frames before it.

    Parameters
    ----------
    min_overlap : float
        Least share of the smaller cell of a pair that lies on the larger one, in (0, 1].
    gap : int
        A cell that is not found in up to so many frames in a row keeps its id.

    Attributes
    ----------
    count : int
        Ids given so far: 1 to `count`.

    Raises
    ------
    ValueError
        If a number is out of its range.
    """

    def __init__(self, *, min_overlap: float = MIN_OVERLAP, gap: int = 0) -> None:
        if not 0 < min_overlap <= 1:
            raise ValueError(f"The least overlap is {min_overlap}; give one above 0, at most 1.")
        if gap < 0:
            raise ValueError(f"The gap is {gap} planes; give 0 or more.")
        self.count = 0
        self._min_overlap = min_overlap
        self._recent: deque[_Frame] = deque(maxlen=gap + 1)

    def follow(self, labels: npt.ArrayLike) -> IntArray:
        """Labels of the next frame, with ids that last.

        Parameters
        ----------
        labels : (Y, X) or (Z, Y, X) int array
            0 is background; of the same shape as the frames before.

        Returns
        -------
        int32 array of that shape

        Raises
        ------
        TypeError, ValueError
            If they are not integers, are negative, or have another shape than the frame before.
        """
        frame = _frame(np.asarray(labels))
        seen = np.zeros(self.count + 1, bool)
        # What was lost longest waits for what those nearer in time leave over.
        for before in reversed(self._recent):
            if before.ranks.shape != frame.ranks.shape:
                raise ValueError(
                    f"A frame has the shape {frame.ranks.shape}, the one before "
                    f"{before.ranks.shape}; give frames of one shape."
                )
            rows, columns, shared = _overlaps(before, frame)
            areas = before.areas[rows], frame.areas[columns]
            is_open = ~seen[before.names[rows]] & (frame.names[columns] == 0)
            is_open &= shared >= self._min_overlap * np.minimum(*areas)
            rows, columns = rows[is_open], columns[is_open]
            ious = (shared / (areas[0] + areas[1] - shared))[is_open]
            taken = best_pairs(rows, columns, ious)
            frame.names[columns[taken]] = before.names[rows[taken]]
            seen[before.names] = True
        new = np.flatnonzero(frame.names[1:] == 0) + 1
        frame.names[new] = np.arange(self.count + 1, self.count + len(new) + 1)
        self.count += len(new)
        self._recent.append(frame)
        return frame.names[frame.ranks]


@dataclass(frozen=True, eq=False)
class _Frame:
    """Cells of one frame, numbered by their first pixels, which no renaming of cells changes."""

    ranks: IntArray  # (Y, X) or (Z, Y, X): 0, 1, ... n
    areas: npt.NDArray[np.int64]  # (n + 1,)
    names: IntArray  # (n + 1,): the id that lasts, 0 while there is none


def _frame(labels: npt.NDArray[Any]) -> _Frame:
    if labels.dtype.kind not in "iub":
        raise TypeError(f"Labels are {labels.dtype}; they must be integers.")
    if labels.dtype.kind == "i" and labels.min(initial=0) < 0:
        raise ValueError(f"Labels contain {labels.min()}; ids must not be negative.")
    integers: npt.NDArray[Any] = labels.astype(np.uint8) if labels.dtype.kind == "b" else labels
    ids, ranks = renumber(integers)
    areas = np.zeros(len(ids) + 1, np.int64)
    order = [np.zeros(1, np.int64)]
    is_new = np.ones(len(ids) + 1, bool)
    is_new[0] = False
    for plane in _planes(ranks):
        areas += np.bincount(plane.ravel(), minlength=len(areas))
        first = np.full(len(areas), plane.size)
        # Of several values that are written to one place the last one stays.
        first[plane.ravel()[::-1]] = np.arange(plane.size)[::-1]
        found = np.flatnonzero(is_new & (first < plane.size))
        order.append(found[np.argsort(first[found])])
        is_new[found] = False
    by_first_pixel = np.concatenate(order)
    renamed = np.empty(len(areas), np.int32)
    renamed[by_first_pixel] = np.arange(len(areas))
    return _Frame(renamed[ranks], areas[by_first_pixel], np.zeros(len(areas), np.int32))


def _planes(frame: npt.NDArray[Any]) -> Iterator[npt.NDArray[Any]]:
    """Planes of a frame, so that what is computed on the way stays small."""
    return iter(frame) if frame.ndim > 2 else iter([frame])


def _overlaps(before: _Frame, now: _Frame) -> tuple[IntArray, IntArray, npt.NDArray[np.int64]]:
    """Ranks of all pairs of cells that share pixels, and how many they share."""
    codes, counts = [np.zeros(0, np.int64)], [np.zeros(0, np.int64)]
    for first, second in zip(_planes(before.ranks), _planes(now.ranks), strict=True):
        table = overlap_table(first, second)
        rows, columns = table.true_ids[table.rows], table.pred_ids[table.columns]
        codes.append(rows.astype(np.int64) * len(now.areas) + columns)
        counts.append(table.intersections)
    pairs, inverse = np.unique(np.concatenate(codes), return_inverse=True)
    shared = np.zeros(len(pairs), np.int64)
    np.add.at(shared, inverse, np.concatenate(counts))
    rows, columns = np.divmod(pairs, len(now.areas))
    return rows.astype(np.int32), columns.astype(np.int32), shared


def check_link(axes: str, along: str) -> None:
    """Refuse labels with some `axes` that cannot be linked `along` one of `LINKS`.

    Raises
    ------
    ValueError
        If the axes lack one that is to be linked, or name channels; for another word than those.
    """
    if along not in LINKS:
        raise ValueError(f"Link {along!r} is unknown; choose {', '.join(LINKS[:-1])} or zt.")
    absent = [letter for letter in along.upper() if letter not in axes]
    if absent or set(axes) & set("CS"):
        raise ValueError(
            f"Labels with the axes {axes} cannot be linked along {along.upper()}: they need "
            f"{' and '.join(along.upper())} beside Y and X, and no channels."
        )


def _stacks(
    shape: Sequence[int], axes: str, along: str, whole: str = ""
) -> list[list[tuple[int | slice, ...]]]:
    """Keys of the frames of each stack that is linked by itself."""
    outer = [letter for letter in axes if letter in "TZ" and letter not in along + whole]
    stacks = []
    for position in np.ndindex(*(shape[axes.index(letter)] for letter in outer)):
        fixed: dict[str, int] = dict(zip(outer, position, strict=True))
        stacks.append(
            [
                tuple((fixed | {along: at}).get(letter, slice(None)) for letter in axes)
                for at in range(shape[axes.index(along)])
            ]
        )
    return stacks
