"""The same stream from processes of its own, so that reading does not hold up the training loop.

One process of Python runs one thread of Python at a time: requests, checks and drawing of views
would take turns with the loop that feeds the device. Here each child streams part of the slots, and
the parent puts the parts together. Samples are the same with any number of children.
"""

import pickle
import signal
import socket
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from itertools import pairwise
from multiprocessing import get_context
from typing import Any

from napari_dinocell.core.errors import StreamError

from .counters import Counters
from .manifest import Manifest
from .messages import receive, send
from .order import Order
from .samples import Sample, TileSettings
from .sources import SourceSettings
from .stream import FieldStream, Threads, check_state

_SOCKET_BYTES = 4 << 20


@dataclass(frozen=True)
class _Work:
    """All that a child needs; goes through pickle."""

    order: Order
    manifest: Manifest
    source: SourceSettings
    slots: range
    tiles: TileSettings
    threads: Threads
    transform: Callable[[Sample], Any] | None
    state: dict[str, Any]


@dataclass(frozen=True)
class _Step:
    """What a child hands over for one step."""

    samples: list[Any]
    counted: dict[str, float]
    replaced: dict[str, str]


class ProcessStream:
    """As `FieldStream`, read by child processes.

    Parameters
    ----------
    order : Order
    manifest : Manifest
    source : SourceSettings
        Threads and bytes are shared out among the children.
    n_processes : int
        Children; not more than this process has fields in a step.
    slots, tiles, threads, transform
        As of `FieldStream`; the transform must be picklable, and runs in the children.

    Attributes
    ----------
    counters : Counters
        Sums over the children.
    """

    def __init__(
        self,
        order: Order,
        manifest: Manifest,
        source: SourceSettings,
        *,
        n_processes: int,
        slots: range | None = None,
        tiles: TileSettings | None = None,
        threads: Threads | None = None,
        transform: Callable[[Sample], Any] | None = None,
    ) -> None:
        if n_processes < 1:
            raise ValueError(f"{n_processes} processes cannot read; give at least one.")
        slots = range(order.batch) if slots is None else slots
        self._parts = split_slots(slots, n_processes, order.tiles_per_field)
        self._order, self._manifest = order, manifest
        self._source = _share_of_source(source, len(self._parts))
        self._tiles = tiles or TileSettings()
        self._threads = _share_of_threads(threads or Threads(), len(self._parts))
        self._transform = transform
        self.counters = Counters()
        self._state: dict[str, Any] = {
            "step": 0,
            "order": order.settings,
            "manifest": manifest.sha256,
            "replaced": {},
        }
        self._children: list[_Child] = []
        self._is_closed = False

    def __iter__(self) -> Iterator[list[Any]]:
        return self

    def __next__(self) -> list[Any]:
        if self._is_closed:
            raise StreamError("The stream is closed.")
        try:
            if not self._children:
                self._start()
            with self.counters.timed("seconds_waited"):
                steps = [child.receive() for child in self._children]
        except BaseException:
            self.close()
            raise
        replaced = dict(self._state["replaced"])
        for step in steps:
            self.counters.add_all(step.counted)
            replaced |= step.replaced
        self._state |= {"step": self._state["step"] + 1, "replaced": replaced}
        return [sample for step in steps for sample in step.samples]

    def state_dict(self) -> dict[str, Any]:
        """As of `FieldStream`; either goes on from the other's."""
        return dict(self._state)

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from a checkpoint, before the first step; raises ValueError if it does not fit."""
        check_state(state, self._state, has_begun=bool(self._children))
        self._state |= {"step": state["step"], "replaced": dict(state["replaced"])}

    def close(self) -> None:
        """End the children."""
        self._is_closed = True
        for child in self._children:
            child.close()

    def __enter__(self) -> "ProcessStream":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _start(self) -> None:
        for slots in self._parts:
            work = _Work(
                self._order,
                self._manifest,
                self._source,
                slots,
                self._tiles,
                self._threads,
                self._transform,
                self._state,
            )
            self._children.append(_Child(work))


class _Child:
    """One child process and the socket on which it sends steps."""

    def __init__(self, work: _Work) -> None:
        self._socket, theirs = socket.socketpair()
        # Spawned: a fork would copy locks that other threads of this process hold.
        context = get_context("spawn")
        self._process = context.Process(target=_serve, args=(theirs, work), daemon=True)
        self._process.start()
        theirs.close()

    def receive(self) -> _Step:
        """The next step; waits for it."""
        received = receive(self._socket)
        if received is None:
            self._process.join(5)
            raise StreamError(
                f"A process that reads data ended (exit code {self._process.exitcode}); the run "
                "stops here and can go on from its last checkpoint."
            )
        if isinstance(received, BaseException):
            raise received
        if not isinstance(received, _Step):
            raise TypeError(f"A process that reads data sent a {type(received).__name__}.")
        return received

    def close(self) -> None:
        """End it: it cannot send any more, or is stopped in the middle of a request."""
        self._socket.close()
        self._process.terminate()
        self._process.join()


def open_stream(
    order: Order,
    manifest: Manifest,
    source: SourceSettings,
    *,
    n_processes: int = 0,
    slots: range | None = None,
    tiles: TileSettings | None = None,
    threads: Threads | None = None,
    transform: Callable[[Sample], Any] | None = None,
) -> FieldStream | ProcessStream:
    """Stream of a run: by threads of this process, or (one or more) by child processes.

    One for about every 100 objects per second is enough to keep requests off the training loop.
    """
    if n_processes:
        return ProcessStream(
            order,
            manifest,
            source,
            n_processes=n_processes,
            slots=slots,
            tiles=tiles,
            threads=threads,
            transform=transform,
        )
    fields = source.open(manifest, order.seed)
    return FieldStream(
        order, fields, slots=slots, tiles=tiles, threads=threads, transform=transform
    )


def split_slots(slots: range, n: int, tiles_per_field: int) -> list[range]:
    """Consecutive parts of `slots`, at most `n`; fields are parted only if there is no other way."""
    unit = tiles_per_field if len(slots) % tiles_per_field == 0 else 1
    n_units = len(slots) // unit
    n = min(n, n_units)
    bounds = [slots.start + unit * (n_units * i // n) for i in range(n + 1)]
    return [range(start, stop) for start, stop in pairwise(bounds)]


def _share_of_source(source: SourceSettings, n: int) -> SourceSettings:
    return replace(
        source,
        n_threads=max(1, round(source.n_threads / n)),
        memory_bytes=source.memory_bytes // n,
    )


def _share_of_threads(threads: Threads, n: int) -> Threads:
    return Threads(
        n_fields=max(1, round(threads.n_fields / n)),
        n_finishing=max(1, round(threads.n_finishing / n)),
        look_ahead_bytes=threads.look_ahead_bytes // n,
    )


def _serve(connection: socket.socket, work: _Work) -> None:
    """Body of a child: send step after step until nobody receives them."""
    # Ctrl-C reaches the whole group; the parent decides when to end.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _SOCKET_BYTES)
    with suppress(BrokenPipeError, ConnectionResetError):
        try:
            _stream(connection, work)
        except (BrokenPipeError, ConnectionResetError):
            raise
        except Exception as error:  # the parent raises it in the training loop
            send(connection, _portable(error))


def _stream(connection: socket.socket, work: _Work) -> None:
    fields = work.source.open(work.manifest, work.order.seed)
    with FieldStream(
        work.order,
        fields,
        slots=work.slots,
        tiles=work.tiles,
        threads=work.threads,
        transform=work.transform,
    ) as stream:
        stream.load_state_dict(work.state)
        known: dict[str, float] = {}
        for samples in stream:
            sums = stream.counters.snapshot()
            sums.pop("seconds_waited", None)  # of the child; the parent counts its own
            counted = {name: n - known.get(name, 0.0) for name, n in sums.items()}
            known = sums
            send(connection, _Step(samples, counted, fields.state()))


def _portable(error: Exception) -> Exception:
    """The error itself, or its text where it cannot be pickled."""
    try:
        pickle.loads(pickle.dumps(error))
    except Exception:  # whatever an error's own methods raise
        return StreamError(f"{type(error).__name__}: {error}")
    return error
