"""Where fields are read from, and with what patience: all settings of reading in one place."""

from dataclasses import dataclass, field, replace
from pathlib import Path

from .cache import DiskCache
from .counters import Counters
from .decode import PlaneChecks
from .fetch import Fetcher, RetryPolicy
from .fields import FieldReader
from .manifest import Manifest
from .stores import S3Settings, Stores
from .substitutes import Substitutes


@dataclass(frozen=True)
class SourceSettings:
    """How fields are read.

    Attributes
    ----------
    s3 : S3Settings
    n_threads : int
        Objects fetched and decoded at once. About 16 for a bucket; on a disk, the number of cores.
    cache_folder : path or None
        Disk cache, shared by the processes of a machine. It pays if a good part of the fields fits.
    cache_bytes : int
    memory_bytes : int
        For decoded fields kept in memory, at most 1000; for few fields.
    quarantine : path or None
        File that names broken fields.
    most_broken : float
        See `Substitutes`.
    percentiles, contrast_floor
        See `intensity.intensity_range`.
    policy : RetryPolicy
    checks : PlaneChecks
    """

    s3: S3Settings = field(default_factory=S3Settings)
    n_threads: int = 16
    cache_folder: str | Path | None = None
    cache_bytes: int = 100 << 30
    memory_bytes: int = 0
    quarantine: str | Path | None = None
    most_broken: float = 0.05
    percentiles: tuple[float, float] = (1.0, 99.8)
    contrast_floor: float = 8.0
    policy: RetryPolicy = field(default_factory=RetryPolicy)
    checks: PlaneChecks = field(default_factory=PlaneChecks)

    def open(self, manifest: Manifest, seed: int) -> Substitutes:
        """Readers of a manifest's fields; `seed` chooses what replaces broken ones."""
        cache = None
        if self.cache_folder is not None:
            cache = DiskCache(self.cache_folder, self.cache_bytes)
        fetcher = Fetcher(
            Stores(replace(self.s3, n_connections=max(self.s3.n_connections, self.n_threads))),
            cache=cache,
            counters=Counters(),
            policy=self.policy,
            checks=self.checks,
        )
        reader = FieldReader(
            fetcher,
            n_threads=self.n_threads,
            memory_bytes=self.memory_bytes,
            percentiles=self.percentiles,
            contrast_floor=self.contrast_floor,
        )
        return Substitutes(
            manifest,
            reader,
            seed=seed,
            quarantine=self.quarantine,
            most_broken=self.most_broken,
        )
