"""Kernels of one cut: basins to cells by the saddles, then cells to pixels by look-up."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from napari_dinocell.core.flood import IntArray, MapArray, SumArray, root
from napari_dinocell.core.jit import kernel


@kernel
def group_basins(
    heights: MapArray,
    first: IntArray,
    second: IntArray,
    saddles: MapArray,
    peak: int,
    fill: int,
    min_prominence: float,
) -> tuple[IntArray, IntArray]:
    """Cell of each basin, and the highest saddle of each cell to another one.

    Parameters
    ----------
    heights : (n + 1,) uint16 array
        Falls from entry 1 on; entry 0 stands for background.
    first, second, saddles : (m,) arrays
        Maximum spanning forest by descending saddle.
    peak, fill : int
        Levels that a pixel must exceed.
    min_prominence : float
        In levels.

    Returns
    -------
    groups : (n + 1,) int32 array
        Highest basin of the cell that each basin belongs to, 0 if it belongs to none.
    highest : (n + 1,) int32 array
        At the index of each cell its highest saddle to another cell, 0 if there is none.

    Notes
    -----
    The forest suffices. An edge outside of it joins basins that are linked by saddles at least as
    high; where they are in two groups at its turn, a link between two marked groups was refused
    on the way, so that both are marked, and prominent enough to be refused again.
    """
    n = len(heights)
    parents = np.arange(n).astype(np.int32)
    highest = np.zeros(n, np.int32)
    groups = np.zeros(n, np.int32)
    n_edges = len(saddles)
    edge = 0
    while edge < n_edges and saddles[edge] > fill:
        saddle = np.int32(saddles[edge])
        a, b = root(parents, first[edge]), root(parents, second[edge])
        high, low = min(a, b), max(a, b)
        # The lower group is marked only if both are. A saddle above peak makes one marker.
        apart = peak >= saddle and heights[low] > peak
        if apart and heights[low] - saddle >= min_prominence:
            highest[high] = max(highest[high], saddle)
            highest[low] = max(highest[low], saddle)
        else:
            parents[low] = high
        edge += 1
    for basin in range(1, n):
        group = root(parents, basin)
        if heights[group] > peak:
            groups[basin] = group
    # Below fill nothing joins a cell any more; the way to the next cell may still lead there.
    while edge < n_edges:
        saddle = np.int32(saddles[edge])
        a, b = root(parents, first[edge]), root(parents, second[edge])
        high, low = min(a, b), max(a, b)
        if heights[low] > peak:
            highest[high] = max(highest[high], saddle)
            highest[low] = max(highest[low], saddle)
        else:
            parents[low] = high
        edge += 1
    return groups, highest


@kernel
def count_pixels(
    quantized: MapArray, basins: IntArray, level: int, n: int
) -> tuple[SumArray, SumArray]:
    """Pixels above a level and the sum of their values, for each of n basins."""
    pixels = np.zeros(n, np.int64)
    sums = np.zeros(n, np.int64)
    height, width = quantized.shape
    for y in range(height):
        # Neighbors mostly share a basin: keep the running sums in registers.
        basin, count, total = np.int32(0), 0, 0
        for x in range(width):
            value = quantized[y, x]
            if value > level:
                if basins[y, x] != basin:
                    pixels[basin] += count
                    sums[basin] += total
                    basin, count, total = basins[y, x], 0, 0
                count += 1
                total += value
        pixels[basin] += count
        sums[basin] += total
    return pixels, sums


@kernel
def paint(
    quantized: MapArray,
    basins: IntArray,
    level: int,
    names: npt.NDArray[np.integer],
    out: npt.NDArray[np.integer],
) -> None:
    """Write the name of its basin into each pixel above a level, 0 elsewhere."""
    height, width = quantized.shape
    for y in range(height):
        for x in range(width):
            out[y, x] = names[basins[y, x]] if quantized[y, x] > level else 0


@kernel
def rename(labels: npt.NDArray[np.integer], names: npt.NDArray[np.integer]) -> None:
    """Give each cell the name at its id, in place; 0 makes it background."""
    height, width = labels.shape
    for y in range(height):
        for x in range(width):
            labels[y, x] = names[labels[y, x]]
