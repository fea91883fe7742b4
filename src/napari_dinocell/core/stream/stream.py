"""Samples of one process, step by step: planned ahead, fetched in parallel, handed out in order.

Three kinds of threads work ahead of the step: some fetch and decode planes, some read fields, cut
their tiles and drop the rest, some normalize the tiles of the next steps. What a step gets depends
on the order alone, never on which thread was faster.

    with FieldStream(order, fields, slots=rank_slots(order.batch, rank, n_ranks)) as stream:
        stream.load_state_dict(checkpoint)  # if the run goes on
        for samples in stream:  # one list per step, for ever
            ...
            checkpoint = stream.state_dict()
"""

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from threading import Lock
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_dinocell.core.errors import StreamError
from napari_dinocell.core.intensity import IntensityRange

from .order import Draw, Order
from .records import FieldRecord
from .samples import Sample, TileSettings
from .substitutes import Substitutes
from .windows import cut, finish, tile_corners

_FIELD_BYTES = 16 << 20  # assumed until a field has been seen
_MOST_STEPS = 64


@dataclass(frozen=True)
class Threads:
    """Threads, and how far they work ahead.

    Attributes
    ----------
    n_fields : int
        Fields read at once.
    n_finishing : int
        Threads that normalize tiles.
    look_ahead_bytes : int
        Of fields that are read, or wait, for steps to come.
    """

    n_fields: int = 8
    n_finishing: int = 2
    look_ahead_bytes: int = 512 << 20


@dataclass(frozen=True)
class _Tiles:
    record: FieldRecord
    pixels: dict[int, NDArray[Any]]
    ranges: tuple[IntensityRange, ...]


@dataclass
class _Lease:
    """A field that is kept until its last consecutive tile has been shown."""

    tiles: Future[_Tiles]
    is_started: bool = False


_Key = tuple[int, int, int]


class FieldStream:
    """Iterator over steps; each gives the list of this process's samples.

    Parameters
    ----------
    order : Order
    fields : Substitutes
    slots : range, optional
        This process's slots of each step (`order.rank_slots`); all by default.
    tiles : TileSettings, optional
    threads : Threads, optional
    transform : callable, optional
        Applied to each Sample in the threads; its result is handed out instead.

    Attributes
    ----------
    counters : Counters
        Those of the fetcher, with ``seconds_waited`` beside; `log_values()` is for the run's log.

    Raises
    ------
    StreamError
        From `next`, in one sentence: the store does not answer, or too many fields are broken.
    """

    def __init__(
        self,
        order: Order,
        fields: Substitutes,
        *,
        slots: range | None = None,
        tiles: TileSettings | None = None,
        threads: Threads | None = None,
        transform: Callable[[Sample], Any] | None = None,
    ) -> None:
        self._order, self._fields = order, fields
        self._slots = range(order.batch) if slots is None else slots
        self._settings, self._threads = tiles or TileSettings(), threads or Threads()
        self._transform, self.counters = transform, fields.counters
        self._field_pool = ThreadPoolExecutor(self._threads.n_fields, "field")
        self._finish_pool = ThreadPoolExecutor(self._threads.n_finishing, "finish")
        self._next_step = self._next_plan = 0
        self._leases: dict[_Key, _Lease] = {}
        self._planned: deque[list[Draw]] = deque()
        self._finishing: deque[tuple[list[Draw], list[Future[Any]]]] = deque()
        self._largest, self._lock = 0, Lock()
        self._is_closed = False

    def __iter__(self) -> Iterator[list[Any]]:
        return self

    def __next__(self) -> list[Any]:
        if self._is_closed:
            raise StreamError("The stream is closed.")
        self._work_ahead()
        draws, futures = self._finishing.popleft()
        try:
            with self.counters.timed("seconds_waited"):
                samples = [future.result() for future in futures]
        except BaseException:
            self.close()
            raise
        for draw in draws:
            if draw.tile == draw.last_tile:
                del self._leases[_key(draw)]
        self._next_step += 1
        self._work_ahead()
        return samples

    def state_dict(self) -> dict[str, Any]:
        """What a checkpoint needs: the next step, the order, replacements of broken fields.

        Of plain dicts, strings and numbers. Each rank has replacements of its own: write what
        `merge_states` makes of all.
        """
        return {
            "step": self._next_step,
            "order": self._order.settings,
            "manifest": self._fields.manifest_sha256,
            "replaced": self._fields.state(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from a checkpoint, before the first step; with any number of processes.

        Raises
        ------
        ValueError
            If the order or the manifest is another, so that other samples would come.
        """
        check_state(state, self.state_dict(), has_begun=bool(self._planned or self._finishing))
        self._fields.load_state(state["replaced"])
        self._next_step = self._next_plan = state["step"]

    def close(self) -> None:
        """End the threads; what they fetch is dropped."""
        self._is_closed = True
        self._fields.stop()
        for pool in (self._finish_pool, self._field_pool):
            pool.shutdown(wait=False, cancel_futures=True)

    def __enter__(self) -> "FieldStream":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _work_ahead(self) -> None:
        """Plan steps while the bytes allow it (two at least), and finish the tiles of two steps."""
        while len(self._planned) + len(self._finishing) < 2 or (
            len(self._planned) < _MOST_STEPS and self._has_room()
        ):
            draws = self._order.step(self._next_plan, self._slots)
            self._next_plan += 1
            self._planned.append(draws)
            for draw in draws:
                if _key(draw) not in self._leases:
                    future = self._field_pool.submit(self._load, draw)
                    self._leases[_key(draw)] = _Lease(future)
        while len(self._finishing) < 2 and self._planned:
            draws = self._planned.popleft()
            futures = []
            for draw in draws:
                lease = self._leases[_key(draw)]
                lease.is_started = True
                futures.append(self._finish_pool.submit(self._finish, draw, lease.tiles))
            self._finishing.append((draws, futures))

    def _has_room(self) -> bool:
        size = self._largest or _FIELD_BYTES
        n_waiting = sum(not lease.is_started for lease in self._leases.values())
        return n_waiting * size < self._threads.look_ahead_bytes

    def _load(self, draw: Draw) -> _Tiles:
        """Read a field and cut the tiles that are shown while it is kept."""
        field = self._fields.read(draw.field)
        with self._lock:
            self._largest = max(self._largest, field.channels.nbytes)
        side = self._settings.side_in(field.record)
        rng = np.random.default_rng([self._order.seed, draw.epoch, draw.field])
        _, height, width = field.channels.shape
        corners = tile_corners(rng, height, width, side, self._order.tiles_per_field)
        shown = range(draw.tile, draw.last_tile + 1)
        pixels = {i: cut(field.channels, corners[i], side) for i in shown}
        return _Tiles(field.record, pixels, field.ranges)

    def _finish(self, draw: Draw, loading: Future[_Tiles]) -> Any:
        tiles = loading.result()
        tile = finish(tiles.pixels.pop(draw.tile), tiles.ranges, self._settings.side)
        available = np.array([not r.is_empty for r in tiles.ranges])
        sample = Sample(draw.sample, tiles.record, tile, available)
        return sample if self._transform is None else self._transform(sample)


def check_state(state: dict[str, Any], mine: dict[str, Any], *, has_begun: bool) -> None:
    """Refuse a checkpoint after which other samples would come, with ValueError."""
    if has_begun:
        raise ValueError("The stream has begun; load the checkpoint into a new one.")
    if state["manifest"] != mine["manifest"]:
        raise ValueError(
            "The checkpoint was made with other fields; give the same manifest (its addresses may "
            "differ)."
        )
    for name, value in mine["order"].items():
        if state["order"][name] != value:
            raise ValueError(
                f"The checkpoint was made with {name} = {state['order'][name]}, now it is {value}; "
                "the order of samples depends on it."
            )


def merge_states(states: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """The `state_dict` of a whole run from those of its processes at one step."""
    replaced = {old: new for state in states for old, new in state["replaced"].items()}
    return states[0] | {"replaced": replaced}


def _key(draw: Draw) -> _Key:
    return draw.epoch, draw.field, draw.last_tile
