"""What happens to a field that stays broken: it is written down, and another takes its place.

The other field is a function of (seed, broken field, attempt): not of time, nor of what happens to
other samples. Replacements are part of a checkpoint, because the field may be readable again when
the run goes on, which must then not change its samples.
"""

import json
import logging
import os
from collections import deque
from hashlib import sha256
from pathlib import Path
from threading import Lock
from typing import Any

from napari_dinocell.core.errors import StreamError

from .counters import Counters
from .fetch import BrokenObjectError
from .fields import Field, FieldReader
from .locks import file_lock
from .manifest import Manifest
from .records import FieldRecord

_log = logging.getLogger(__name__)
_MOST_ATTEMPTS = 100
_FEW = 4  # broken fields, which say nothing about their share
_NOTHING = 20  # broken fields before the first good one: it is not the fields that are wrong
_RECENT = 1000  # fields: enough to judge a share, and few enough to notice a store that breaks late


def replacement(seed: int, field_id: str, attempt: int, n_fields: int) -> int:
    """Row that stands in for a broken field at the given attempt, counted from 1."""
    digest = sha256(f"{seed}/{field_id}/{attempt}".encode()).digest()
    return int.from_bytes(digest[:8]) % n_fields


class Substitutes:
    """Reads fields and replaces the broken ones; for any number of threads.

    Parameters
    ----------
    manifest : Manifest
    reader : FieldReader
    seed : int
    quarantine : path, optional
        JSON lines, one per broken field, which processes of a run may share; its fields are not
        tried again. Written once a field was read: a wrong address is no fault of the fields.
    most_broken : float
        When more than this share of 1000 fields (of all, if there are fewer), and more than four,
        were replaced among the last 1000, streaming stops.
    """

    def __init__(
        self,
        manifest: Manifest,
        reader: FieldReader,
        *,
        seed: int,
        quarantine: str | Path | None = None,
        most_broken: float = 0.05,
    ) -> None:
        self._manifest, self._reader, self._seed = manifest, reader, seed
        self._file = None if quarantine is None else Path(quarantine)
        self._most_broken = most_broken
        self._lock = Lock()
        self._broken = self._read_file()
        self._unwritten: list[tuple[FieldRecord, BrokenObjectError]] = []
        self._has_read = False
        self._replaced: dict[str, str] = {}
        self._rows: dict[str, int] = {}
        # Ids of the fields that were wanted but broken, "" for good ones.
        self._recent: deque[str] = deque(maxlen=min(_RECENT, len(manifest)))

    def read(self, row: int) -> Field:
        """The field of a row of the manifest, or the one that replaces it.

        Raises
        ------
        StreamError
            If too many fields are broken, or all that were tried at first, or the store does not
            answer.
        """
        wanted = self._manifest[row]
        record = self._known(wanted)
        for attempt in range(1, _MOST_ATTEMPTS):
            if record.id not in self._broken:
                try:
                    field = self._reader.read(record)
                except BrokenObjectError as error:
                    self._condemn(record, error)
                else:
                    self._accept(wanted, record)
                    return field
            record = self._manifest[
                replacement(self._seed, wanted.id, attempt, len(self._manifest))
            ]
        self._stop_if_nothing_reads(1)
        raise StreamError(
            f"{_MOST_ATTEMPTS} fields in a row are in the quarantine {self._file}; if they can be "
            "read again, delete the file."
        )

    @property
    def counters(self) -> Counters:
        """What is counted while reading."""
        return self._reader.fetcher.counters

    @property
    def manifest_sha256(self) -> str:
        """Hash of the manifest that the rows are of."""
        return self._manifest.sha256

    def stop(self) -> None:
        """End the reader's threads."""
        self._reader.close()

    def state(self) -> dict[str, str]:
        """Ids of replaced fields and of those that stand in for them."""
        with self._lock:
            return dict(self._replaced)

    def load_state(self, replaced: dict[str, str]) -> None:
        """Use these replacements from now on, where the manifest has both fields."""
        named = {*replaced, *replaced.values()}
        rows = {r.id: row for row, r in enumerate(self._manifest) if r.id in named} if named else {}
        with self._lock:
            self._replaced = {a: b for a, b in replaced.items() if a in rows and b in rows}
            self._rows = {new: rows[new] for new in self._replaced.values()}

    def _known(self, wanted: FieldRecord) -> FieldRecord:
        with self._lock:
            row = self._rows.get(self._replaced.get(wanted.id, ""))
        return wanted if row is None else self._manifest[row]

    def _accept(self, wanted: FieldRecord, record: FieldRecord) -> None:
        is_replaced = record.id != wanted.id
        with self._lock:
            self._has_read = True
            while self._unwritten:
                self._write(*self._unwritten.pop(0))
            is_new = is_replaced and self._replaced.get(wanted.id) != record.id
            if is_new:
                self._replaced[wanted.id] = record.id
            self._recent.append(wanted.id if is_replaced else "")
            n_replaced, n_recent = len(set(self._recent) - {""}), len(self._recent)
        self.counters.add("fields")
        if is_new:
            self.counters.add("replaced")
            _log.warning("Field %s is replaced by %s.", wanted.id, record.id)
        if is_replaced and n_replaced > max(_FEW, self._most_broken * (self._recent.maxlen or 0)):
            again = f"; delete {self._file} to have them tried again" if self._file else ""
            raise StreamError(
                f"{n_replaced} of the last {n_recent} fields were broken (errors: "
                f"{self._errors() or 'known from before'}; the last field: {wanted.id}), more than "
                f"the allowed share of {self._most_broken:g}; check the manifest and the bucket, or "
                f"allow a larger share{again}."
            )

    def _stop_if_nothing_reads(self, n_least: int) -> None:
        """Raise StreamError if `n_least` fields or more were tried and none could be read."""
        with self._lock:
            n, last = len(self._unwritten), self._unwritten[-1:]
        if n >= n_least:
            raise StreamError(
                f"None of the first {n} fields could be read (errors: {self._errors()}; the last: "
                f"{last[0][1]}); check where they are said to lie."
            )

    def _errors(self) -> str:
        return ", ".join(f"{kind} {n:.0f}" for kind, n in sorted(self.counters.errors.items()))

    def _condemn(self, record: FieldRecord, error: BrokenObjectError) -> None:
        with self._lock:
            if record.id in self._broken:
                return
            self._broken.add(record.id)
            if self._has_read:
                self._write(record, error)
            else:
                self._unwritten.append((record, error))
        _log.warning("Field %s is broken (%s): %s", record.id, error.kind, error)
        self._stop_if_nothing_reads(min(_NOTHING, len(self._manifest)))

    def _read_file(self) -> set[str]:
        if self._file is None or not self._file.exists():
            return set()
        found = set()
        for line in self._file.read_text(encoding="utf-8").splitlines():
            try:
                found.add(str(json.loads(line)["field"]))
            except ValueError:  # a line that a killed process did not finish
                continue
        return found

    def _write(self, record: FieldRecord, error: BrokenObjectError) -> None:
        if self._file is None:
            return
        entry: dict[str, Any] = {"field": record.id, "kind": error.kind, "error": str(error)}
        self._file.parent.mkdir(parents=True, exist_ok=True)
        with file_lock(self._file.with_name(f"{self._file.name}.lock")):
            if record.id in self._read_file():
                return
            with self._file.open("ab+") as stream:
                # After a line that a killed process did not finish, begin a new one.
                if stream.seek(0, os.SEEK_END):
                    stream.seek(-1, os.SEEK_END)
                    if stream.read(1) != b"\n":
                        stream.write(b"\n")
                stream.write(json.dumps(entry).encode() + b"\n")
                stream.flush()
                os.fsync(stream.fileno())
