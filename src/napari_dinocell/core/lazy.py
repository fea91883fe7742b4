"""Arrays that stay on disk: what a reader hands over, and a chunk cache around it."""

import lzma
import math
import struct
import weakref
import zlib
from collections import OrderedDict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import product
from threading import Lock
from typing import Any

import numpy as np

from napari_dinocell.core.axes import ArrayLike
from napari_dinocell.core.errors import ImageFileError

# What the format libraries raise on damaged data; imagecodecs and zarr derive theirs from these.
DAMAGE = (
    *(OSError, ValueError, KeyError, IndexError, TypeError, RuntimeError, EOFError),
    *(struct.error, zlib.error, lzma.LZMAError, ImportError),
)
CACHE_BYTES = 256 * 2**20


@dataclass(frozen=True, eq=False)
class StoredImage:
    """What a file holds, before anybody was asked: `?` in `axes` where the file says nothing."""

    array: ArrayLike
    axes: str
    pixel_size_um: tuple[float, float] | None = None
    channel_names: tuple[str, ...] = ()
    z_step_um: float | None = None


class ChunkedArray:
    """A read-only array on disk that decodes each chunk once while it is in use.

    Tiles that overlap touch the same chunks many times; decoded chunks are kept in a least
    recently used cache of bounded size. Slices return new numpy arrays in native byte order.

    Parameters
    ----------
    source : array-like
        Array with basic slicing; `source.chunks` gives its chunks if it has any.
    name : str
        Name for error messages.
    cache_bytes : int
        Bound on the decoded chunks that are kept; the newest chunk always is.
    close : callable, optional
        Called when this array is no longer in use.
    """

    def __init__(
        self,
        source: ArrayLike,
        name: str,
        *,
        cache_bytes: int = CACHE_BYTES,
        close: Callable[[], None] | None = None,
    ) -> None:
        self._source = source
        self._name = name
        self._cache: OrderedDict[tuple[int, ...], np.ndarray[Any, Any]] = OrderedDict()
        self._cache_bytes = cache_bytes
        self._held_bytes = 0
        self._lock = Lock()
        self._dropped: tuple[int, ...] = ()
        self._full_shape = tuple(int(n) for n in source.shape)
        self.dtype = np.dtype(source.dtype).newbyteorder("=")
        self._full_chunks = self._usable_chunks(getattr(source, "chunks", None))
        if close is not None:
            weakref.finalize(self, close)

    def _usable_chunks(self, chunks: Any) -> tuple[int, ...]:
        """Chunks as the source has them, or blocks of about 4 MB for a source without any."""
        if isinstance(chunks, tuple) and all(isinstance(n, int) and n > 0 for n in chunks):
            return chunks
        side = max(1, int((4 * 2**20 / self.dtype.itemsize) ** 0.5))
        n_axes = len(self._full_shape)
        return tuple(
            min(side, max(1, n)) if i >= n_axes - 2 else 1 for i, n in enumerate(self._full_shape)
        )

    @property
    def shape(self) -> tuple[int, ...]:
        """Length of each axis."""
        return tuple(n for i, n in enumerate(self._full_shape) if i not in self._dropped)

    @property
    def chunks(self) -> tuple[int, ...]:
        """Size of the blocks that are read and kept as one."""
        return tuple(n for i, n in enumerate(self._full_chunks) if i not in self._dropped)

    @property
    def ndim(self) -> int:
        """Number of axes."""
        return len(self.shape)

    @property
    def nbytes(self) -> int:
        """Bytes that the whole array would take in memory."""
        return math.prod(self.shape) * int(self.dtype.itemsize)

    def without_axes(self, axes: tuple[int, ...]) -> "ChunkedArray":
        """Drop axes of length 1 (in place, before anybody reads) and return itself."""
        if any(self._full_shape[i] != 1 for i in axes):
            raise ValueError(f"Only axes of length 1 can be dropped from {self._full_shape}.")
        self._dropped = axes
        return self

    def __getitem__(self, key: Any) -> np.ndarray[Any, Any]:
        ranges, collapsed = self._ranges(key)
        out = np.empty([len(r) for r in ranges], self.dtype)
        for position, here, inside in self._pieces(ranges):
            out[here] = self._chunk(position)[inside]
        result: np.ndarray[Any, Any] = out[collapsed]
        return result

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray[Any, Any]:
        whole: np.ndarray[Any, Any] = np.asarray(self[...], dtype)
        return whole

    def _ranges(self, key: Any) -> tuple[list[range], tuple[Any, ...]]:
        """One range per stored axis, and the index that removes those given as a number."""
        keys = list(key) if isinstance(key, tuple) else [key]
        if any(k is Ellipsis for k in keys):
            at = next(i for i, k in enumerate(keys) if k is Ellipsis)
            keys[at : at + 1] = [slice(None)] * (self.ndim - len(keys) + 1)
        keys += [slice(None)] * (self.ndim - len(keys))
        if len(keys) != self.ndim:
            raise IndexError(f"{len(keys)} indices were given for {self.ndim} axes.")
        for axis in sorted(self._dropped):
            keys.insert(axis, 0)
        ranges: list[range] = []
        collapsed: list[Any] = []
        for k, n in zip(keys, self._full_shape, strict=True):
            if isinstance(k, slice):
                ranges.append(range(n)[k])
                collapsed.append(slice(None))
            else:
                i = range(n)[int(k)]
                ranges.append(range(i, i + 1))
                collapsed.append(0)
        if any(r.step < 0 for r in ranges):
            raise IndexError("Negative steps are not supported; reverse the result instead.")
        return ranges, tuple(collapsed)

    def _pieces(
        self, ranges: list[range]
    ) -> Iterator[tuple[tuple[int, ...], tuple[slice, ...], tuple[slice, ...]]]:
        """Chunks that the ranges touch: position, place in the result, place in the chunk."""
        per_axis = []
        for r, size in zip(ranges, self._full_chunks, strict=True):
            pieces = []
            done = 0
            while done < len(r):
                number = r[done] // size
                # Entries of r below the end of this chunk.
                stop = done + -(-((number + 1) * size - r[done]) // r.step)
                stop = min(stop, len(r))
                first = r[done] - number * size
                last = r[stop - 1] - number * size
                pieces.append((number, slice(done, stop), slice(first, last + 1, r.step)))
                done = stop
            per_axis.append(pieces)
        for combination in product(*per_axis):
            numbers, here, inside = zip(*combination, strict=True) if combination else ((), (), ())
            yield numbers, here, inside

    def _chunk(self, position: tuple[int, ...]) -> np.ndarray[Any, Any]:
        with self._lock:
            if position in self._cache:
                self._cache.move_to_end(position)
                return self._cache[position]
            window = tuple(
                slice(i * size, min((i + 1) * size, n))
                for i, size, n in zip(position, self._full_chunks, self._full_shape, strict=True)
            )
            try:
                chunk = np.asarray(self._source[window], self.dtype)
            except DAMAGE as error:
                corner = tuple(w.start for w in window)
                raise cannot_read(f"{self._name}, at {corner},", error) from error
            self._cache[position] = chunk
            self._held_bytes += chunk.nbytes
            while self._held_bytes > self._cache_bytes and len(self._cache) > 1:
                self._held_bytes -= self._cache.popitem(last=False)[1].nbytes
            return chunk


def cannot_read(name: str, error: BaseException) -> ImageFileError:
    """The error of a format library as one sentence that says what to do."""
    text = str(error).strip().splitlines()[0].rstrip(".") if str(error).strip() else ""
    if isinstance(error, ImportError) or "imagecodecs" in text or "codec not available" in text:
        return ImageFileError(
            f"{name} is compressed in a way that needs imagecodecs: "
            'pip install "napari-dinocell[formats]".'
        )
    return ImageFileError(
        f"{name} is damaged, cut short, or not what its name says: {text or type(error).__name__}."
    )
