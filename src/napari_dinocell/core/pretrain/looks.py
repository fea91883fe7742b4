"""Pictures of what a backbone sees in the channels of a field."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from skimage.transform import resize

from napari_dinocell.core.pretrain.gallery import Embedded, GalleryTile

Picture = NDArray[np.uint8]
_SIDE = 112  # px of one panel
_GAP = 2


def attention_sheet(tile: GalleryTile, seen: Embedded) -> Picture:
    """One row per channel: its pixels, then where each head of the last block looks from CLS.

    Each map is scaled to its own maximum.

    Returns
    -------
    (Y, X, 3) uint8 array
    """
    rows = []
    for plane, heads in zip(tile.pixels, seen.attention, strict=True):
        panels = [_gray(plane)]
        panels += [_gray(_grid(head) / max(float(head.max()), 1e-12)) for head in heads]
        rows.append(panels)
    return _sheet(rows)


def component_sheet(tiles: Sequence[GalleryTile], features: Sequence[Embedded]) -> Picture:
    """One row per tile: its channels, then their patches by the first three principal components.

    The components are common to all, so that equal colors mean equal features: in a backbone that
    is consistent, the channels of a row look alike.

    Returns
    -------
    (Y, X, 3) uint8 array
    """
    every = np.concatenate([f.patches.reshape(-1, f.patches.shape[-1]) for f in features])
    center = every.mean(axis=0)
    _, vectors = np.linalg.eigh(np.cov(every - center, rowvar=False))
    axes = vectors[:, -3:]
    projected = (every - center) @ axes
    low, high = np.percentile(projected, [1, 99], axis=0)
    n_channels = max(len(tile.pixels) for tile in tiles)
    rows = []
    for tile, seen in zip(tiles, features, strict=True):
        blank = [np.zeros((_SIDE, _SIDE, 3), np.uint8)] * (n_channels - len(tile.pixels))
        colors = ((seen.patches - center) @ axes - low) / np.maximum(high - low, 1e-12)
        rows.append(
            [_gray(plane) for plane in tile.pixels]
            + blank
            + [_panel(_grid(color)) for color in colors]
            + blank
        )
    return _sheet(rows)


def _grid(values: NDArray[np.floating]) -> NDArray[np.floating]:
    """Patches (N, ...) as a square (G, G, ...)."""
    side = round(len(values) ** 0.5)
    return values.reshape(side, side, *values.shape[1:])


def _gray(plane: NDArray[np.floating]) -> Picture:
    return _panel(np.repeat(plane[..., None], 3, axis=-1))


def _panel(colors: NDArray[np.floating]) -> Picture:
    # Nearest for maps of few patches, so that a patch stays a square; smoothed for pixels.
    order = 0 if len(colors) < _SIDE else 1
    panel = resize(np.clip(colors, 0, 1), (_SIDE, _SIDE), order=order, anti_aliasing=order > 0)
    picture: Picture = (panel * 255).astype(np.uint8)
    return picture


def _sheet(rows: Sequence[Sequence[Picture]]) -> Picture:
    gap = ((0, _GAP), (0, _GAP), (0, 0))
    return np.concatenate(
        [np.concatenate([np.pad(panel, gap) for panel in row], axis=1) for row in rows]
    )
