"""Totals of what streaming did, for the log of a run."""

import time
from collections import defaultdict
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from threading import Lock


class Counters:
    """Sums that several threads add to.

    The names in use: ``requests`` and ``bytes`` (of answers from the store; of an OME-Zarr image on
    this machine, those of its pixels), ``unverified`` (objects whose bytes nothing vouches for),
    ``cache_hits``, ``cache_misses``, ``cache_errors``, ``memory_hits``, ``fields`` (tried),
    ``replaced`` (fields that were given up), ``seconds_waited`` (by whoever takes steps), and
    ``errors/<kind>``.
    """

    def __init__(self) -> None:
        self._lock = Lock()
        self._sums: defaultdict[str, float] = defaultdict(float)
        self._logged_at, self._logged_bytes = time.monotonic(), 0.0

    def add(self, name: str, amount: float = 1) -> None:
        """Add to one sum."""
        with self._lock:
            self._sums[name] += amount

    def add_all(self, amounts: Mapping[str, float]) -> None:
        """Add to many sums at once."""
        with self._lock:
            for name, amount in amounts.items():
                self._sums[name] += amount

    @contextmanager
    def timed(self, name: str) -> Iterator[None]:
        """Add the seconds that the block takes to one sum."""
        begin = time.perf_counter()
        try:
            yield
        finally:
            self.add(name, time.perf_counter() - begin)

    def __getitem__(self, name: str) -> float:
        with self._lock:
            return self._sums.get(name, 0.0)

    @property
    def errors(self) -> dict[str, float]:
        """Errors by kind, each time that one happened."""
        start = "errors/"
        return {k.removeprefix(start): n for k, n in self.snapshot().items() if k.startswith(start)}

    def snapshot(self) -> dict[str, float]:
        """All sums, by name."""
        with self._lock:
            return dict(sorted(self._sums.items()))

    def log_values(self) -> dict[str, float]:
        """What a run writes to its log.

        Totals since the start, the disk cache's share of hits since the start, and MB/s from the
        store since the last call.
        """
        asked = self["cache_hits"] + self["cache_misses"]
        now, n_bytes = time.monotonic(), self["bytes"]
        seconds, fresh = now - self._logged_at, n_bytes - self._logged_bytes
        self._logged_at, self._logged_bytes = now, n_bytes
        values = {
            "system/s3_requests": self["requests"],
            "system/s3_bytes": n_bytes,
            "system/s3_mb_per_s": fresh / 1e6 / seconds if seconds > 0 else 0.0,
            "system/s3_errors": sum(self.errors.values()),
            "system/s3_unverified": self["unverified"],
            "system/cache_hit_rate": self["cache_hits"] / asked if asked else 0.0,
            "system/fields_replaced": self["replaced"],
        }
        return values | {f"system/s3_errors/{kind}": n for kind, n in self.errors.items()}
