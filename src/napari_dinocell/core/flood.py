"""Kernels under `instances`: from a uint16 map to basins, saddles and painted labels.

A pixel belongs to the local maximum that it reaches by always stepping to its highest neighbor.
That rule is local, so no priority queue is needed: directions, then paths, then the few pixel pairs
on borders between basins. Only those are sorted.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from napari_dinocell.core.jit import kernel

MapArray = npt.NDArray[np.uint16]
IntArray = npt.NDArray[np.int32]
CodeArray = npt.NDArray[np.uint8]
SumArray = npt.NDArray[np.int64]
# First and second basin of each edge and the value at which they touch, by descending value.
Edges = tuple[IntArray, IntArray, MapArray]

# Direction codes 0..7 are the neighbors in index order, so that the smaller index wins ties.
PEAK, PLATEAU, LOW = 8, 9, 10
STEP_Y = np.array([-1, -1, -1, 0, 0, 1, 1, 1], np.int64)
STEP_X = np.array([-1, 0, 1, -1, 1, -1, 0, 1], np.int64)
# Pixel pairs waiting to be sorted: bounds the memory of noisy planes (10 bytes each).
EDGE_BUFFER = 4_000_000


def find_basins(quantized: MapArray, floor: int) -> tuple[IntArray, MapArray]:
    """Number the pixels above a floor by the local maximum that they climb to.

    Parameters
    ----------
    quantized : (Y, X) uint16 array
        C-contiguous map.
    floor : int
        Pixels of this value and below belong to no basin.

    Returns
    -------
    basins : (Y, X) int32 array
        0 at and below the floor, otherwise 1..n by descending height, ties by pixel index.
    heights : (n + 1,) uint16 array
        Value at the maximum of each basin; entry 0 is 0.

    Notes
    -----
    A plateau drains breadth-first towards its higher neighbors, and is one basin if it has none.
    """
    codes = np.empty(quantized.shape, np.uint8)
    n_flat = _steepest(quantized, floor, codes)
    if n_flat:
        _drain_plateaus(quantized, codes, n_flat)
    peaks = np.flatnonzero(codes.ravel() == PEAK)
    values = quantized.ravel()[peaks]
    order = np.argsort(-values.astype(np.int32), kind="stable")
    basins = np.zeros(quantized.shape, np.int32)
    basins.ravel()[peaks[order]] = np.arange(1, len(peaks) + 1, dtype=np.int32)
    _follow(codes, basins.ravel())
    heights = np.zeros(len(peaks) + 1, np.uint16)
    heights[1:] = values[order]
    return basins, heights


def find_saddles(quantized: MapArray, basins: IntArray, n_basins: int) -> Edges:
    """Return the maximum spanning forest of the basins that touch, by descending saddle.

    Parameters
    ----------
    quantized : (Y, X) uint16 array
    basins : (Y, X) int32 array
        As from `find_basins`.
    n_basins : int

    Returns
    -------
    first, second : (m,) int32 arrays
        The two basins of each edge.
    saddles : (m,) uint16 array
        The highest value at which the two groups that the edge joins touch.

    Notes
    -----
    The forest of a union of edges is the forest of the forests of its parts: pixel pairs are
    gathered until the buffer is full, reduced, and gathered on.
    """
    height, width = quantized.shape
    size = min(max(EDGE_BUFFER, 8 * width + 2 * n_basins), 4 * height * width + 1)
    first, second = np.empty(size, np.int32), np.empty(size, np.int32)
    saddles = np.empty(size, np.uint16)
    row, n_edges = 0, 0
    while True:
        row, n_edges = _gather(quantized, basins, row, first, second, saddles, n_edges)
        forest = _spanning_forest(first[:n_edges], second[:n_edges], saddles[:n_edges], n_basins)
        if row >= height:
            return forest
        n_edges = len(forest[2])
        first[:n_edges], second[:n_edges], saddles[:n_edges] = forest


@kernel
def _steepest(quantized: MapArray, floor: int, codes: CodeArray) -> int:
    """Fill `codes` with the direction of the highest neighbor; return the count of PLATEAU."""
    height, width = quantized.shape
    # Three rows with a border of zeros: no test for the edge of the plane in the inner loop.
    rows = np.zeros((3, width + 2), np.uint32)
    best = np.empty(width, np.uint32)
    rows[1, 1 : width + 1] = quantized[0]
    n_flat = 0
    for y in range(height):
        above, here, below = rows[y % 3], rows[(y + 1) % 3], rows[(y + 2) % 3]
        if y + 1 < height:
            for x in range(width):
                below[x + 1] = quantized[y + 1, x]
        else:
            below[:] = 0
        for x in range(width):
            # Value in the upper bits, 7 - direction in the lower three: one maximum finds both.
            b = (above[x] << 3) | np.uint32(7)
            b = max(b, (above[x + 1] << 3) | np.uint32(6))
            b = max(b, (above[x + 2] << 3) | np.uint32(5))
            b = max(b, (here[x] << 3) | np.uint32(4))
            b = max(b, (here[x + 2] << 3) | np.uint32(3))
            b = max(b, (below[x] << 3) | np.uint32(2))
            b = max(b, (below[x + 1] << 3) | np.uint32(1))
            best[x] = max(b, below[x + 2] << 3)
        for x in range(width):
            value = here[x + 1]
            neighbor = best[x] >> 3
            if value <= floor:
                codes[y, x] = LOW
            elif neighbor > value:
                codes[y, x] = 7 - (best[x] & 7)
            elif neighbor == value:
                codes[y, x] = PLATEAU
                n_flat += 1
            else:
                codes[y, x] = PEAK
    return n_flat


@kernel
def _drain_plateaus(quantized: MapArray, codes: CodeArray, n_flat: int) -> None:
    """Give each PLATEAU pixel a direction out of its plateau, or to the plateau's only PEAK."""
    height, width = quantized.shape
    flat = np.empty(n_flat, np.int64)
    queue = np.empty(n_flat, np.int64)
    exits = np.empty(n_flat, np.uint8)
    n, tail = 0, 0
    for y in range(height):
        for x in range(width):
            if codes[y, x] == PLATEAU:
                flat[n] = y * width + x
                n += 1
    # First ring: beside a pixel of the same value that has a higher neighbor. All are found
    # before one is changed, so that the ring is one pixel wide.
    for i in range(n_flat):
        y, x = flat[i] // width, flat[i] % width
        for d in range(8):
            v, u = y + STEP_Y[d], x + STEP_X[d]
            if not (0 <= v < height and 0 <= u < width):
                continue
            if codes[v, u] < PEAK and quantized[v, u] == quantized[y, x]:
                queue[tail], exits[tail] = flat[i], d
                tail += 1
                break
    for i in range(tail):
        codes[queue[i] // width, queue[i] % width] = exits[i]
    head = 0
    for i in range(-1, n_flat):
        if i >= 0:
            # What the rings from outside did not reach is a maximum: its first pixel is the peak.
            y, x = flat[i] // width, flat[i] % width
            if codes[y, x] != PLATEAU:
                continue
            codes[y, x] = PEAK
            head, tail = 0, 1
            queue[0] = flat[i]
        while head < tail:
            y, x = queue[head] // width, queue[head] % width
            head += 1
            for d in range(8):
                v, u = y + STEP_Y[d], x + STEP_X[d]
                if not (0 <= v < height and 0 <= u < width):
                    continue
                if codes[v, u] == PLATEAU and quantized[v, u] == quantized[y, x]:
                    codes[v, u] = 7 - d  # the opposite direction
                    queue[tail] = v * width + u
                    tail += 1


@kernel
def _follow(codes: CodeArray, basins: IntArray) -> None:
    """Write the number of its peak into each pixel; peaks are numbered already."""
    height, width = codes.shape
    flat = codes.ravel()
    jump = STEP_Y * width + STEP_X
    for start in range(height * width):
        if flat[start] < PEAK and basins[start] == 0:
            at = start
            while basins[at] == 0:
                at += jump[flat[at]]
            basin = basins[at]
            at = start
            while basins[at] == 0:
                basins[at] = basin
                at += jump[flat[at]]


@kernel
def _gather(
    quantized: MapArray,
    basins: IntArray,
    row: int,
    first: IntArray,
    second: IntArray,
    saddles: MapArray,
    n_edges: int,
) -> tuple[int, int]:
    """Append the pixel pairs between basins from `row` on; return the next row and the count."""
    height, width = quantized.shape
    for y in range(row, height):
        if n_edges + 4 * width > len(saddles) and y > row:
            return y, n_edges
        for x in range(width):
            a = basins[y, x]
            if a == 0:
                continue
            # Each pair once: the neighbor to the right and the three below.
            for d in range(4, 8):
                v, u = y + STEP_Y[d], x + STEP_X[d]
                if v < height and 0 <= u < width:
                    b = basins[v, u]
                    if b != 0 and b != a:
                        first[n_edges], second[n_edges] = a, b
                        saddles[n_edges] = min(quantized[y, x], quantized[v, u])
                        n_edges += 1
    return height, n_edges


@kernel
def root(parents: IntArray, basin: int) -> int:
    """Representative of a group of basins; shortens the path on the way."""
    while parents[basin] != basin:
        parents[basin] = parents[parents[basin]]
        basin = parents[basin]
    return basin


@kernel
def _spanning_forest(first: IntArray, second: IntArray, saddles: MapArray, n_basins: int) -> Edges:
    """Kruskal's algorithm after a counting sort of the saddles."""
    n_edges = len(saddles)
    ends = np.zeros(65537, np.int64)
    for i in range(n_edges):
        ends[65535 - saddles[i] + 1] += 1
    for value in range(65536):
        ends[value + 1] += ends[value]
    order = np.empty(n_edges, np.int64)
    for i in range(n_edges):
        key = 65535 - saddles[i]
        order[ends[key]] = i
        ends[key] += 1
    parents = np.arange(n_basins + 1).astype(np.int32)
    kept = np.empty(min(n_edges, n_basins), np.int64)
    n_kept = 0
    for k in range(n_edges):
        i = order[k]
        a, b = root(parents, first[i]), root(parents, second[i])
        if a != b:
            parents[max(a, b)] = min(a, b)
            kept[n_kept] = i
            n_kept += 1
    kept = kept[:n_kept]
    return first[kept], second[kept], saddles[kept]
