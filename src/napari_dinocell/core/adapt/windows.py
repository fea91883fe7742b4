"""Where to look: windows that together cover the annotation, and units of evidence in them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from napari_dinocell.core.adapt.examples import Annotation

MULTIPLE = 16  # the coarsest stride of any encoder, px
_MARGIN = 16  # px of context that a unit wants on each side

Box = tuple[int, int, int, int]
"""Top, left, bottom, right in px of the network; the last two are exclusive."""


@dataclass(frozen=True)
class Unit:
    """A cell (`is_cell`) or an empty place: what folds hold out and scores count.

    Attributes
    ----------
    annotation : int
        Which one it is in.
    number : int
        Its id in `Annotation.labels` or `Annotation.empty`.
    is_cell : bool
    box : Box
    """

    annotation: int
    number: int
    is_cell: bool
    box: Box


def units_of(annotations: Sequence[Annotation]) -> list[Unit]:
    """All units of evidence, cells first."""
    units = []
    for is_cell in (True, False):
        for index, annotation in enumerate(annotations):
            array = annotation.labels if is_cell else annotation.empty
            for number, found in enumerate(ndimage.find_objects(array), start=1):
                if found is not None:
                    (top, bottom), (left, right) = ((s.start, s.stop) for s in found)
                    units.append(Unit(index, number, is_cell, (top, left, bottom, right)))
    return units


def homes(units: Sequence[Unit], places: Sequence[tuple[int, Box]]) -> dict[Unit, int]:
    """For each unit the place in which it lies farthest from the edge; without those in none.

    Parameters
    ----------
    units : sequence of Unit
    places : sequence of (int, Box)
        Annotation and box of each place.
    """
    found: dict[Unit, int] = {}
    if not places:
        return found
    of = np.array([annotation for annotation, _ in places])
    boxes = np.array([box for _, box in places])
    for unit in units:
        y, x = (unit.box[0] + unit.box[2]) / 2, (unit.box[1] + unit.box[3]) / 2
        low, high = (y, x) - boxes[:, :2], boxes[:, 2:] - (y, x)
        depth = np.where(of == unit.annotation, np.minimum(low, high).min(axis=1), -1.0)
        best = int(np.argmax(depth))
        if depth[best] >= 0:
            found[unit] = best
    return found


def place_windows(
    shape: tuple[int, int], boxes: Sequence[Box], side: int, step: int = 1
) -> list[Box]:
    """Windows that together cover all boxes and a margin around them.

    Parameters
    ----------
    shape : (int, int)
        Of the plane.
    boxes : sequence of Box
        What is to be covered; one larger than a window is covered piece by piece.
    side : int
        Of a window. Along a shorter axis it is the axis, padded to a multiple of 16.
    step : int
        Windows begin at multiples of this.

    Returns
    -------
    list of Box
        Those that cover most first. Greedy: each is placed at an open box so that it covers the
        most others.
    """
    size = tuple(min(side, -(-length // MULTIPLE) * MULTIPLE) for length in shape)
    limits = tuple(max(0, length - one) for length, one in zip(shape, size, strict=True))
    wanted = np.array([part for box in boxes for part in _pieces(box, shape, size, step)], int)
    wanted = wanted.reshape(-1, 4)
    is_open = np.ones(len(wanted), bool)
    windows: list[tuple[int, Box]] = []
    while is_open.any():
        first = wanted[np.argmax(is_open)]
        tried: list[tuple[int, Box]] = []
        for top in _starts(first[0], first[2], size[0], limits[0], step):
            for left in _starts(first[1], first[3], size[1], limits[1], step):
                window = (top, left, top + size[0], left + size[1])
                tried.append((int((is_open & _covered(wanted, window)).sum()), window))
        # Among equals the first: the centered one.
        best = max(tried, key=lambda one: one[0])
        windows.append(best)
        is_open &= ~_covered(wanted, best[1])
    return [window for _, window in sorted(windows, key=lambda one: -one[0])]


def _covered(
    boxes: np.ndarray[tuple[int, int], np.dtype[np.int_]], window: Box
) -> np.ndarray[tuple[int], np.dtype[np.bool_]]:
    inside = (boxes[:, :2] >= window[:2]) & (boxes[:, 2:] <= window[2:])
    return np.asarray(inside.all(axis=1))


def _starts(low: int, high: int, size: int, limit: int, step: int) -> Iterator[int]:
    """Places of a window along one axis at [low, high): centered, and with it at either end."""
    for start in ((low + high - size) // 2, low, high - size + step - 1):
        yield int(np.clip(start // step * step, 0, limit))


def _pieces(box: Box, shape: tuple[int, int], size: tuple[int, ...], step: int) -> list[Box]:
    """Box with its margin, cut into parts that fit into a window wherever its grid lies."""
    cuts = []
    for low, high, length, side in zip(box[:2], box[2:], shape, size, strict=True):
        usable = side if length <= side else side - step + 1
        margin = int(np.clip((usable - (high - low)) // 2, 0, _MARGIN))
        start, stop = max(0, low - margin), min(length, high + margin)
        count = -(-(stop - start) // usable)
        edges = np.linspace(start, stop, count + 1).astype(int)
        cuts.append(list(zip(edges[:-1].tolist(), edges[1:].tolist(), strict=True)))
    return [(y0, x0, y1, x1) for y0, y1 in cuts[0] for x0, x1 in cuts[1]]
