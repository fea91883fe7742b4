"""A folder of fetched objects with a bound on its bytes, shared by processes."""

import logging
import os
import re
import secrets
import socket
import struct
import time
import zlib
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

import psutil

from .locks import file_lock

_log = logging.getLogger(__name__)
_TRAILER = struct.Struct("<8sQI")  # magic, length, CRC-32
_MAGIC = b"dinocel1"
_KEEP = 0.85  # share of the bound that is left after an eviction
_STALE_S = 3600.0
_LOCK = "dinocell-cache.lock"
_ENTRY = re.compile(
    r"[0-9a-f]{64}(\.(?P<host>[0-9a-f]{8})\.(?P<process>[0-9]+)\.[0-9a-f]{8}\.tmp)?"
)


class DiskCache:
    """Objects in a folder of bounded size, which any number of processes may share.

    At every moment the files together have at most `max_bytes`: the space of a new entry is
    taken, under a lock, before it is written, and its name appears when it is complete. An entry
    ends with its length and CRC-32, so a damaged one counts as absent. A process that is killed
    leaves at most a temporary file, which the next eviction or start removes.

    Parameters
    ----------
    folder : path
        On a disk of this machine; made if need be.
    max_bytes : int
        The least recently used entries go when it is reached.

    Raises
    ------
    ValueError
        If the folder holds anything but a cache: what it holds could be evicted.
    """

    def __init__(self, folder: str | Path, max_bytes: int) -> None:
        if max_bytes <= 0:
            raise ValueError(f"The cache was given {max_bytes} bytes; give it at least one.")
        self._folder = Path(folder)
        self._folder.mkdir(parents=True, exist_ok=True)
        self._lock = self._folder / _LOCK
        if any(self._folder.iterdir()) and not self._lock.exists():
            raise ValueError(
                f"{folder} holds files that are no cache; give the cache a folder of its own."
            )
        self.max_bytes = max_bytes
        self._host = sha256(socket.gethostname().encode()).hexdigest()[:8]
        self._has_warned = False
        with file_lock(self._lock) as ledger:
            _write_total(ledger, self._shrink(self.max_bytes))

    def get(self, key: str) -> bytes | None:
        """The object, or None if it is not there or damaged."""
        path = self._path(key)
        try:
            data = _unpack(path.read_bytes())
            if data is None:
                _remove(path)
            else:
                os.utime(path)
        except OSError:  # evicted meanwhile, or the disk fails: then the object is fetched again
            return None
        return data

    def put(self, key: str, data: bytes) -> bool:
        """Keep an object; False if it could not be (too large, disk full or read-only)."""
        path = self._path(key)
        size = len(data) + _TRAILER.size
        if size > self.max_bytes:
            return False
        name = f"{path.name}.{self._host}.{os.getpid()}.{secrets.token_hex(4)}.tmp"
        temporary = path.with_name(name)
        try:
            path.parent.mkdir(exist_ok=True)
            if not self._reserve(temporary, size):
                return False
            with temporary.open("r+b") as stream:
                stream.write(data)
                stream.write(_TRAILER.pack(_MAGIC, len(data), zlib.crc32(data)))
            os.replace(temporary, path)
        except OSError as error:
            _remove(temporary)
            if not self._has_warned:
                self._has_warned = True
                _log.warning("The cache %s cannot be written: %s.", self._folder, error)
            return False
        return True

    def discard(self, key: str) -> None:
        """Forget an object."""
        _remove(self._path(key))

    def n_bytes(self) -> int:
        """Size of all entries and temporary files, counted now."""
        return sum(entry.size for entry in self._entries())

    def _path(self, key: str) -> Path:
        digest = sha256(key.encode()).hexdigest()
        return self._folder / digest[:2] / digest

    def _reserve(self, temporary: Path, size: int) -> bool:
        """Make an empty file of `size` bytes if there is, or can be made, room for it."""
        with file_lock(self._lock) as ledger:
            total = _read_total(ledger)
            # The ledger may be too high (an overwritten entry, a killed writer), never too low.
            if total is None or total + size > self.max_bytes:
                total = self._shrink(self.max_bytes - size)
                if total + size > self.max_bytes:  # files that others are writing fill it
                    _write_total(ledger, total)
                    return False
            # In this order: killed in between, a process leaves the ledger too high.
            _write_total(ledger, total + size)
            with temporary.open("xb") as stream:
                stream.truncate(size)
        return True

    def _shrink(self, bound: int) -> int:
        """Remove what is stale, then, if more than `bound` is left, the oldest; return the rest."""
        entries = [entry for entry in self._entries() if not self._remove_if_stale(entry)]
        total = sum(entry.size for entry in entries)
        if total > bound:
            goal = min(bound, int(_KEEP * self.max_bytes))
            for entry in sorted(entries, key=lambda entry: entry.used):
                if total <= goal:
                    break
                if entry.path.suffix != ".tmp" and _remove(entry.path):
                    total -= entry.size
        return total

    def _entries(self) -> list["_Entry"]:
        found = []
        for folder in (entry for entry in os.scandir(self._folder) if entry.is_dir()):
            for item in os.scandir(folder):
                if _ENTRY.fullmatch(item.name) is None:
                    continue
                try:
                    status = item.stat()
                except FileNotFoundError:
                    continue
                found.append(_Entry(Path(item.path), status.st_size, status.st_mtime_ns))
        return found

    def _remove_if_stale(self, entry: "_Entry") -> bool:
        match = _ENTRY.fullmatch(entry.path.name)
        if match is None or match["process"] is None:
            return False
        is_old = time.time() - entry.used / 1e9 > _STALE_S
        is_dead = match["host"] == self._host and not psutil.pid_exists(int(match["process"]))
        return (is_old or is_dead) and _remove(entry.path)


@dataclass(frozen=True)
class _Entry:
    path: Path
    size: int
    used: int


def _remove(path: Path) -> bool:
    """Whether the file is gone; on Windows it stays while another process reads it."""
    try:
        path.unlink(missing_ok=True)
    except OSError:
        return False
    return True


def _unpack(stored: bytes) -> bytes | None:
    if len(stored) < _TRAILER.size:
        return None
    magic, length, crc = _TRAILER.unpack_from(stored, len(stored) - _TRAILER.size)
    data = stored[: -_TRAILER.size]
    return data if (magic, length, crc) == (_MAGIC, len(data), zlib.crc32(data)) else None


def _read_total(ledger: int) -> int | None:
    """Bytes in use, or None if the lock file does not tell."""
    os.lseek(ledger, 0, os.SEEK_SET)
    text = os.read(ledger, 32)
    return int(text) if text.strip().isdigit() else None


def _write_total(ledger: int, total: int) -> None:
    os.lseek(ledger, 0, os.SEEK_SET)
    os.write(ledger, f"{total:020d}\n".encode())
