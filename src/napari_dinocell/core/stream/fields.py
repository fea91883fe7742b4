"""Read a field: its channels in parallel, checked against each other."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_dinocell.core.intensity import IntensityRange, intensity_range

from .fetch import BrokenObjectError, Fetcher
from .memory import MemoryCache
from .records import FieldRecord


@dataclass(frozen=True)
class Field:
    """Pixels of one field.

    Attributes
    ----------
    record : FieldRecord
    channels : (C, Y, X) array
        As stored: 16 bits stay 16 bits.
    ranges : tuple of C IntensityRange
        Gray values of each whole plane that become 0 and 1.
    """

    record: FieldRecord
    channels: NDArray[Any]
    ranges: tuple[IntensityRange, ...]


class FieldReader:
    """Fields from their records.

    Parameters
    ----------
    fetcher : Fetcher
    n_threads : int
        Objects fetched and decoded at once, over all fields that are being read.
    memory_bytes : int
        For fields kept decoded, at most 1000; 0 keeps none.
    percentiles, contrast_floor
        See `intensity.intensity_range`.
    """

    def __init__(
        self,
        fetcher: Fetcher,
        *,
        n_threads: int = 16,
        memory_bytes: int = 0,
        percentiles: tuple[float, float] = (1.0, 99.8),
        contrast_floor: float = 8.0,
    ) -> None:
        self.fetcher = fetcher
        self._percentiles, self._contrast_floor = percentiles, contrast_floor
        self._pool = ThreadPoolExecutor(n_threads, "plane")
        self._memory: MemoryCache[Field] | None = None
        if memory_bytes:
            self._memory = MemoryCache(memory_bytes, lambda field: field.channels.nbytes)

    def read(self, record: FieldRecord) -> Field:
        """Fetch all channels of a field.

        Raises
        ------
        BrokenObjectError
            If a channel stays unreadable, channels differ in size, or none shows anything.
        StreamError
            If the store does not answer.
        """
        known = self._memory.get(record.id) if self._memory else None
        if known is not None:
            self.fetcher.counters.add("memory_hits")
            return known
        futures = [self._pool.submit(self._read_object, a) for a in record.addresses]
        try:
            parts = [future.result() for future in futures]
        finally:
            for future in futures:
                future.cancel()
        channels = _join(record, [stack for stack, _ in parts])
        field = Field(record, channels, tuple(r for _, ranges in parts for r in ranges))
        if all(r.is_empty for r in field.ranges):
            raise BrokenObjectError("empty", f"Field {record.id} shows nothing in any channel")
        if self._memory:
            self._memory.put(record.id, field)
        return field

    def _read_object(self, address: str) -> tuple[NDArray[Any], list[IntensityRange]]:
        stack = self.fetcher.planes(address)
        return stack, [
            intensity_range(plane, self._percentiles, self._contrast_floor) for plane in stack
        ]

    def close(self) -> None:
        """End the threads."""
        self.fetcher.stop()
        self._pool.shutdown(wait=False, cancel_futures=True)


def _join(record: FieldRecord, stacks: list[NDArray[Any]]) -> NDArray[Any]:
    """One (C, Y, X) array; of files of different types, the type that holds all their values."""
    n_planes = sum(len(stack) for stack in stacks)
    if len({stack.shape[1:] for stack in stacks}) > 1:
        sizes = ", ".join(str(stack.shape[1:]) for stack in stacks)
        raise BrokenObjectError("shape", f"The channels of field {record.id} differ: {sizes}")
    if n_planes != len(record.channels):
        raise BrokenObjectError(
            "shape",
            f"Field {record.id} has {n_planes} planes, its record names {len(record.channels)}",
        )
    return np.concatenate(stacks) if len(stacks) > 1 else stacks[0]
