"""Distance maps of many planes: in memory, or in a temporary file when they are large."""

from __future__ import annotations

import os
import tempfile
import weakref
from collections.abc import Sequence
from pathlib import Path
from typing import overload

import numpy as np
import numpy.typing as npt

__all__ = ["MEMORY_BYTES", "MapStore"]

MapArray = npt.NDArray[np.uint16]

MEMORY_BYTES = 1 << 30
"""Maps of one prediction above this go to disk."""


class MapStore(Sequence[MapArray]):
    """uint16 maps of one shape, written row by row and read as (Y, X) arrays.

    A temporary file, if there is one, is removed by `close` and at the latest together with the
    store.

    Parameters
    ----------
    n_planes : int
    shape : (int, int)
        Height and width of each map, px.
    memory_bytes : int
        Keep the maps in memory up to this size in all.
    folder : Path, optional
        For the temporary file; the system's own if None.

    Raises
    ------
    OSError
        If the file cannot be made there.
    """

    def __init__(
        self,
        n_planes: int,
        shape: tuple[int, int],
        memory_bytes: int = MEMORY_BYTES,
        folder: Path | None = None,
    ) -> None:
        self.shape = shape
        self._n_planes = n_planes
        self._plane_bytes = 2 * shape[0] * shape[1]
        self._arrays: list[MapArray | None] = [None] * n_planes
        self.path: Path | None = None
        if self._plane_bytes * n_planes > memory_bytes:
            handle, name = tempfile.mkstemp(".maps", "dinocell-", folder)
            self.path = Path(name)
            self._file = os.fdopen(handle, "r+b", buffering=0)
            self._remove = weakref.finalize(self, _remove, self._file, self.path)

    def __len__(self) -> int:
        """Return the number of planes."""
        return self._n_planes

    @overload
    def __getitem__(self, index: int) -> MapArray: ...
    @overload
    def __getitem__(self, index: slice) -> list[MapArray]: ...
    def __getitem__(self, index: int | slice) -> MapArray | list[MapArray]:
        """Return one map; from disk it is read-only and mapped. Rows not written yet are 0."""
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        plane = range(len(self))[index]
        if self.path is None:
            held = self._arrays[plane]
            return np.zeros(self.shape, np.uint16) if held is None else held
        needed = (plane + 1) * self._plane_bytes
        if self._file.seek(0, os.SEEK_END) < needed:
            self._file.truncate(needed)
        offset = plane * self._plane_bytes
        return np.memmap(self.path, np.uint16, "r", offset, self.shape)

    def write(self, plane: int, top: int, rows: npt.NDArray[np.floating]) -> None:
        """Write rows of a map with values in [0, 1], rounded to 65535 steps.

        Raises
        ------
        OSError
            If the disk is full; no space is reserved that turns out not to be there.
        """
        levels = np.clip(rows, 0.0, 1.0, dtype=np.float32)
        levels *= 65535.0
        quantized = np.rint(levels, out=levels).astype(np.uint16)
        if self.path is not None:
            self._file.seek(plane * self._plane_bytes + 2 * top * self.shape[1])
            data = memoryview(quantized.tobytes())
            while data:
                data = data[self._file.write(data) :]
            return
        held = self._arrays[plane]
        if held is None:
            held = self._arrays[plane] = np.zeros(self.shape, np.uint16)
        held[top : top + len(quantized)] = quantized

    def close(self) -> None:
        """Let go of all maps and remove the file."""
        self._arrays = [None] * self._n_planes
        if self.path is not None:
            self._remove()


def _remove(file: object, path: Path) -> None:
    file.close()  # type: ignore[attr-defined]
    path.unlink(missing_ok=True)
