"""Get an object's planes: from the cache or the store, with retries around everything that can fail.

A request that was refused, a body that broke off, bytes that do not match their checksum and planes
that are damaged are all tried again, after a pause drawn evenly from 0 to a bound that doubles
("full jitter": a crowd of processes then does not come back at one moment).
"""

import logging
import math
import random
import time
from dataclasses import dataclass, field
from threading import Event, Lock
from typing import Any, NoReturn

from numpy.typing import NDArray

from napari_dinocell.core.errors import StreamError

from .cache import DiskCache
from .containers import is_zarr, zarr_planes
from .counters import Counters
from .decode import DamagedError, PlaneChecks, decode
from .stores import BUSY, DENIED, FetchError, Store

_log = logging.getLogger(__name__)
_SILENT_S = 30.0  # without an answer, before that is logged, and again
_JITTER = random.SystemRandom()  # has no state


@dataclass(frozen=True)
class RetryPolicy:
    """How often and how long an object is asked for.

    Attributes
    ----------
    n_tries : int
        After so many an object counts as broken. Only those count between which the store has
        answered other requests; where it asks to slow down, only those after `patience_s`.
    n_damaged : int
        The same for bytes that arrived but are no image.
    base_s, cap_s : float
        See `pause_s`.
    patience_s : float
        How long to wait for a store that answers nothing at all, before the run stops; and for an
        object of which it says "slow down" while it hands out others.
    """

    n_tries: int = 5
    n_damaged: int = 2
    base_s: float = 0.5
    cap_s: float = 20.0
    patience_s: float = 600.0

    def pause_s(self, n_failed: int) -> float:
        """Seconds to wait after the n-th failure in a row: even in [0, min(cap, base * 2^(n-1))].

        From the system's random numbers: no process of a crowd, seeded or forked, draws as another.
        """
        bound = min(self.cap_s, self.base_s * 2.0 ** min(n_failed - 1, 20))
        return _JITTER.uniform(0, bound)


def fetch_bytes(store: Store, address: str, policy: RetryPolicy | None = None) -> bytes:
    """Bytes of one object that is no image, such as a table.

    Raises
    ------
    FetchError
        If it does not exist, or all tries failed.
    """
    policy = policy or RetryPolicy()
    for attempt in range(policy.n_tries):
        try:
            return store.get(address).data
        except FetchError as error:
            if error.is_permanent or attempt == policy.n_tries - 1:
                raise
            time.sleep(policy.pause_s(attempt + 1))
    raise AssertionError("unreachable")


class BrokenObjectError(Exception):
    """An object that stays unreadable although its store works; replace its field."""

    def __init__(self, kind: str, message: str) -> None:
        super().__init__(message)
        self.kind = kind


@dataclass
class _Trial:
    """How it went for one object so far.

    A failure is held against the object only if the store answered somebody since the failure
    before: all requests fail while a store restarts.
    """

    n_tries: int = 0
    n_held: int = 0
    n_damaged: int = 0
    begin: float = field(default_factory=time.monotonic)
    failed: float = field(default_factory=time.monotonic)


class Fetcher:
    """Planes of objects, for any number of threads.

    Parameters
    ----------
    store : Store
    cache : DiskCache, optional
        Only what passed all checks gets into it.
    counters : Counters, optional
    policy : RetryPolicy, optional
    checks : PlaneChecks, optional
    """

    def __init__(
        self,
        store: Store,
        *,
        cache: DiskCache | None = None,
        counters: Counters | None = None,
        policy: RetryPolicy | None = None,
        checks: PlaneChecks | None = None,
    ) -> None:
        self._store, self._cache = store, cache
        self.counters = counters or Counters()
        self._policy, self._checks = policy or RetryPolicy(), checks or PlaneChecks()
        self._stopped = Event()
        self._health = Lock()
        self._last_success = -math.inf
        self._good_address = ""
        self._warned = -math.inf

    def stop(self) -> None:
        """Make every fetch that waits or starts from now on end with StreamError."""
        self._stopped.set()

    def planes(self, address: str) -> NDArray[Any]:
        """Planes (C, Y, X) of one object, checked.

        Raises
        ------
        BrokenObjectError
            If the object cannot be read although its store works.
        StreamError
            If the store does not answer or let us in, or `stop` was called.
        """
        cached = None if is_zarr(address) else self._from_cache(address)
        if cached is not None:
            return cached
        trial = _Trial()
        while True:
            if self._stopped.is_set():
                raise StreamError("Streaming was stopped.")
            try:
                return self._once(address)
            except FetchError as error:
                self.counters.add(f"errors/{error.kind}")
                if error.is_permanent:
                    self._give_up(error)
                self._judge(trial, error)
            except DamagedError as error:
                self.counters.add(f"errors/{error.kind}")
                trial.n_damaged += 1
                if trial.n_damaged >= self._policy.n_damaged:
                    raise BrokenObjectError(error.kind, str(error)) from error
            trial.n_tries += 1
            self._stopped.wait(self._policy.pause_s(trial.n_tries))
            if self._last_success < trial.failed and self._good_address:
                self._is_up()

    def _from_cache(self, address: str) -> NDArray[Any] | None:
        if self._cache is None:
            return None
        data = self._cache.get(address)
        self.counters.add("cache_misses" if data is None else "cache_hits")
        if data is None:
            return None
        try:
            planes = decode(data, address)
            self._checks.check(planes, address)
        except DamagedError as error:  # written by an older version, or with other checks
            self.counters.add(f"errors/cached {error.kind}")
            self._cache.discard(address)
            return None
        return planes

    def _once(self, address: str) -> NDArray[Any]:
        if is_zarr(address) and not address.startswith("s3://"):
            return self._zarr(address)
        self.counters.add("requests")
        fetched = self._store.get(address)
        self.counters.add("bytes", len(fetched.data))
        with self._health:
            self._last_success, self._good_address = time.monotonic(), address
        planes = decode(fetched.data, address)
        self._checks.check(planes, address)
        if not fetched.is_verified:
            self.counters.add("unverified")
        if self._cache is not None and not self._cache.put(address, fetched.data):
            self.counters.add("cache_errors")
        return planes

    def _zarr(self, address: str) -> NDArray[Any]:
        """A local image of many files: not an object, and not cached."""
        try:
            planes = zarr_planes(address)
        except FileNotFoundError as error:
            raise FetchError("not found", str(error), is_permanent=True) from error
        self._checks.check(planes, address)
        self.counters.add("bytes", planes.nbytes)
        return planes

    def _give_up(self, error: FetchError) -> NoReturn:
        """End with a broken object, or with the whole store if it has shut us out."""
        if error.kind == DENIED and not (self._good_address and self._is_up()):
            raise StreamError(
                f"The store refuses access ({error}); check credentials and address."
            ) from error
        raise BrokenObjectError(error.kind, str(error)) from error

    def _judge(self, trial: "_Trial", error: FetchError) -> None:
        """Tell a broken object from a store that is down: the first is given up, not the second."""
        now = time.monotonic()
        with self._health:
            last_success, is_new = self._last_success, not self._good_address
        # Asked to slow down, wait; but not for ever for an object that never comes.
        is_patient = error.kind == BUSY and now - trial.begin <= self._policy.patience_s
        if not is_patient and last_success > trial.failed:
            trial.n_held += 1
        trial.failed = now
        if trial.n_held >= self._policy.n_tries:
            raise BrokenObjectError(error.kind, str(error)) from error
        if is_new and error.kind != BUSY and trial.n_tries + 1 >= self._policy.n_tries:
            raise StreamError(
                f"Nothing could be read so far; the last error was {error.kind}: {error}. Check "
                "address, endpoint, credentials and network."
            ) from error
        silent = now - max(trial.begin, last_success)
        if silent > self._policy.patience_s:
            raise StreamError(
                f"The store has not answered for {silent:.0f} s ({error.kind}: {error}); the run "
                "stops here and can go on from its last checkpoint."
            ) from error
        if silent > _SILENT_S and now - self._warned > _SILENT_S:
            self._warned = now
            _log.warning("No answer for %.0f s (%s); waiting for the store.", silent, error.kind)

    def _is_up(self) -> bool:
        """Ask once for something that could be read before; True if it came."""
        try:
            self.counters.add("requests")
            self._store.get(self._good_address)
        except FetchError as error:
            self.counters.add(f"errors/{error.kind}")
            return False
        with self._health:
            self._last_success = time.monotonic()
        return True
