"""How an image lies on disk, and what that costs: a word before a run that will read for long."""

from __future__ import annotations

import math

from napari_dinocell.core.lazy import CACHE_BYTES
from napari_dinocell.widgets.parts import LayerPart, chunks_of

__all__ = ["read_note", "read_ratio"]

_MANY_TIMES = 4.0


def read_ratio(part: LayerPart) -> tuple[float, int]:
    """How many pixels are read for each one that is used, and how many bytes that makes.

    A block is read whole, and again for each plane if a plane's blocks don't fit into the cache.
    """
    chunks = chunks_of(part.array)
    if chunks is None:
        return 1.0, 0
    used, touched, outer = 1, 1, 1
    for window, letter, size, length in zip(
        part.window, part.axes, chunks, part.array.shape, strict=True
    ):
        first, last = window.start // size, -(-window.stop // size)
        if letter in "TZ":
            used *= window.stop - window.start
            touched *= min(size, length)
            outer *= last - first
        else:
            used *= 1 if letter == "C" else window.stop - window.start
            touched *= size if letter == "C" else min(last * size, length) - first * size
    n_bytes = touched * part.array.dtype.itemsize
    n_times = outer if n_bytes <= CACHE_BYTES else part.n_planes
    return n_times * touched / used, n_times * n_bytes


def read_note(part: LayerPart) -> str:
    """A sentence on an image whose blocks suit planes badly; empty if they do well or are few."""
    ratio, n_bytes = read_ratio(part)
    if ratio < _MANY_TIMES or n_bytes < CACHE_BYTES:
        return ""
    blocks = " x ".join(str(n) for n in chunks_of(part.array) or ())
    return (
        f"⚠ Slow to read: in blocks of {blocks} ({part.axes}), {ratio:.0f} times as much as is "
        f"used, {math.ceil(n_bytes / 2**30)} GB. Saved in blocks of one plane it is faster."
    )
