"""Where on a field its tiles lie, and their pixels."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_dinocell.core.intensity import IntensityRange, normalize
from napari_dinocell.core.rescale import ScaledPlane

_CANDIDATES = 16


def tile_corners(
    rng: np.random.Generator, height: int, width: int, side: int, n: int
) -> list[tuple[int, int]]:
    """Upper left corners (y, x) of `n` tiles that overlap little.

    Each is the one of 16 random places that overlaps the earlier ones least, so the first k
    corners do not depend on `n`. A field smaller than the tile has one place only.
    """
    free = max(1, height - side + 1), max(1, width - side + 1)
    chosen = np.zeros((0, 2), np.int64)
    for _ in range(n):
        places = np.stack(
            [rng.integers(free[0], size=_CANDIDATES), rng.integers(free[1], size=_CANDIDATES)],
            axis=1,
        )
        gaps = np.abs(places[:, None] - chosen[None])
        shared = np.prod(np.maximum(side - gaps, 0), axis=2).sum(axis=1)
        chosen = np.concatenate([chosen, places[np.argmin(shared)][None]])
    return [(int(y), int(x)) for y, x in chosen]


def cut(channels: NDArray[Any], corner: tuple[int, int], side: int) -> NDArray[Any]:
    """Copy of a square part of a field (C, Y, X); what lies outside mirrors the inside."""
    y, x = corner
    part = channels[:, y : y + side, x : x + side]
    missing = [(0, 0), (0, side - part.shape[1]), (0, side - part.shape[2])]
    return np.pad(part, missing, mode="symmetric")


def finish(
    tile: NDArray[Any], ranges: tuple[IntensityRange, ...], side: int
) -> NDArray[np.float32]:
    """Normalized tile (C, side, side), by the ranges of the whole field, at the wanted size."""
    planes = np.stack([normalize(plane, r) for plane, r in zip(tile, ranges, strict=True)])
    if planes.shape[1] == side:
        return planes
    channels_last = np.moveaxis(planes, 0, -1)
    scaled = ScaledPlane(channels_last, side / planes.shape[1])[0:side, 0:side]
    return np.ascontiguousarray(np.moveaxis(scaled, -1, 0))
