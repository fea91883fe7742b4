"""Exact outlines: polygons that run along pixel edges and enclose exactly the pixels of a cell.

A pixel (y, x) covers the square from corner (y, x) to corner (y + 1, x + 1), as in ImageJ and
QuPath. Nothing is rounded off, so a cell of one pixel has an outline, too.
"""

from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from napari_dinocell.core.jit import kernel

Ring = npt.NDArray[np.int64]
"""(N, 2) corners as (y, x), not closed; area by the shoelace rule > 0 around cells, < 0 around
holes."""

# Directions along pixel edges: right, down, left, up; the cell lies to the right-hand side.
_STEPS = np.array([(0, 1), (1, 0), (0, -1), (-1, 0)])
_OUTSIDE = ((-1, 0), (0, 1), (1, 0), (0, -1))  # the neighbor across the edge
_START = ((0, 0), (0, 1), (1, 1), (1, 0))  # the corner of the pixel where the edge starts


def cells(labels: npt.NDArray[Any]) -> Iterator[tuple[int, tuple[int, int], npt.NDArray[np.bool_]]]:
    """Each cell of a plane: its id, the (y, x) of its bounding box, its mask there."""
    highest = int(labels.max(initial=0))
    if highest <= labels.size:
        dense, ids = labels.astype(np.int32), np.arange(1, highest + 1)
    else:  # a list up to the highest id could be billions long
        ids = np.unique(labels[labels > 0])
        dense = np.where(labels > 0, np.searchsorted(ids, labels) + 1, 0).astype(np.int32)
    for cell_id, box in zip(ids.tolist(), ndimage.find_objects(dense), strict=True):
        if box is not None:
            yield cell_id, (box[0].start, box[1].start), labels[box] == cell_id


def parts(mask: npt.NDArray[np.bool_]) -> list[Ring]:
    """Outer outline of each 8-connected part of a mask; holes are left out.

    An outline passes twice through a corner where two pixels touch.
    """
    return [corners(ring) for ring in _rings(mask, diagonal=True) if signed_area(ring) > 0]


def polygons(mask: npt.NDArray[np.bool_]) -> list[list[Ring]]:
    """Polygons of a mask: the outline of each 4-connected part, followed by those of its holes.

    Valid in the sense of OGC and GeoJSON: no ring touches itself.
    """
    part_of = ndimage.label(mask)[0]
    found: dict[int, list[Ring]] = {}
    for ring in _rings(mask, diagonal=False):
        y, x = _inner_pixel(ring)
        for simple in _simple_rings(ring):
            found.setdefault(int(part_of[y, x]), []).append(simple)
    return [
        [corners(ring) for ring in sorted(rings, key=signed_area, reverse=True)]
        for _, rings in sorted(found.items())
    ]


def signed_area(ring: Ring) -> float:
    """Area by the shoelace rule: positive around cells, negative around holes."""
    y, x = ring[:, 0], ring[:, 1]
    return float(np.sum(x * np.roll(y, -1) - np.roll(x, -1) * y)) / 2


def corners(ring: Ring) -> Ring:
    """The ring without the points where it goes straight on."""
    before = ring - np.roll(ring, 1, axis=0)
    after = np.roll(ring, -1, axis=0) - ring
    return ring[np.any(before != after, axis=1)]


def _rings(mask: npt.NDArray[np.bool_], *, diagonal: bool) -> list[Ring]:
    """Closed walks along all edges in unit steps; `diagonal` pixels are joined or kept apart."""
    padded = np.pad(mask, 1)
    inner = padded[1:-1, 1:-1]
    height, width = mask.shape
    is_edge = np.zeros((height + 1, width + 1, 4), np.bool_)
    for direction, ((dy, dx), (cy, cx)) in enumerate(zip(_OUTSIDE, _START, strict=True)):
        other = padded[1 + dy : 1 + dy + height, 1 + dx : 1 + dx + width]
        is_edge[cy : cy + height, cx : cx + width, direction] = inner & ~other
    walk, starts = _walk(is_edge, _STEPS, np.array((-1, 0, 1) if diagonal else (1, 0, -1)))
    return np.split(walk, starts[1:]) if len(starts) else []


@kernel
def _walk(
    is_edge: npt.NDArray[np.bool_], steps: npt.NDArray[np.int64], turns: npt.NDArray[np.int64]
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Corners of all rings one after the other, and where each ring starts."""
    n_edges = is_edge.sum()
    walk = np.empty((n_edges, 2), np.int64)
    starts = np.empty(n_edges, np.int64)
    visited = np.zeros(is_edge.shape, np.bool_)
    n_walked, n_rings = 0, 0
    for first_y, first_x, first_direction in np.ndindex(is_edge.shape):
        if not is_edge[first_y, first_x, first_direction]:
            continue
        if visited[first_y, first_x, first_direction]:
            continue
        starts[n_rings] = n_walked
        n_rings += 1
        y, x, direction = first_y, first_x, first_direction
        # Each edge has one successor and one predecessor, so the walk returns to its first edge.
        while not visited[y, x, direction]:
            visited[y, x, direction] = True
            walk[n_walked, 0] = y
            walk[n_walked, 1] = x
            n_walked += 1
            y += steps[direction, 0]
            x += steps[direction, 1]
            for turn in turns:  # where two pixels touch at a corner, both turns exist
                if is_edge[y, x, (direction + turn) % 4]:
                    direction = (direction + turn) % 4
                    break
    return walk, starts[:n_rings]


def _simple_rings(ring: Ring) -> Iterator[Ring]:
    """Cut a ring where it passes through a corner a second time."""
    if len(np.unique(ring, axis=0)) == len(ring):
        yield ring
        return
    path: list[tuple[int, int]] = []
    place: dict[tuple[int, int], int] = {}
    for y, x in ring.tolist():
        point = (y, x)
        if point in place:
            at = place[point]
            loop = path[at:]
            for passed in loop:
                del place[passed]
            del path[at:]
            yield np.array(loop, np.int64)
        place[point] = len(path)
        path.append(point)
    yield np.array(path, np.int64)


def _inner_pixel(ring: Ring) -> tuple[int, int]:
    """The pixel of the cell along the first edge of a ring in unit steps."""
    step = tuple((ring[1] - ring[0]).tolist())
    direction = [tuple(s) for s in _STEPS.tolist()].index(step)
    cy, cx = _START[direction]
    return int(ring[0, 0]) - cy, int(ring[0, 1]) - cx
