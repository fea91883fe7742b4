"""The list of fields that a run may draw from, with the address of every channel."""

import json
import zlib
from collections.abc import Collection, Iterable, Iterator
from dataclasses import asdict
from functools import lru_cache
from hashlib import sha256
from itertools import islice
from pathlib import Path
from typing import Any, TypeVar

from napari_dinocell.core.storage import natural_key
from napari_dinocell.core.writing import whole_file

from .records import FieldRecord

Value = TypeVar("Value")
_SHARD = 64
_natural_key = lru_cache(maxsize=1 << 14)(natural_key)  # few parts of many ids differ
_BLOCK = 64  # rows compressed together: they share most of their addresses


class Manifest:
    """Fields in a fixed order: by source, batch, plate, well and site, numbers by their value.

    Rows are compressed in blocks (about 40 bytes per field of JUMP), because every process of a
    run holds them all.

    Parameters
    ----------
    records : iterable of FieldRecord
        In any order.

    Raises
    ------
    ValueError
        If there are none, or two have the same id.
    """

    def __init__(self, records: Iterable[FieldRecord]) -> None:
        self._pack(sorted(records, key=_sort_key))

    @classmethod
    def from_ordered(cls, records: Iterable[FieldRecord]) -> "Manifest":
        """The same from records in the order of a manifest, of which only a block is held at once.

        Raises
        ------
        ValueError
            If there are none, two have the same id, or they are in another order.
        """
        manifest = cls.__new__(cls)
        manifest._pack(records)
        return manifest

    def _pack(self, ordered: Iterable[FieldRecord]) -> None:
        self._blocks: list[bytes] = []
        self._n_fields = 0
        self._plate_sizes: list[int] = []
        digest = sha256()
        before, plate = None, None
        for block in _batched(ordered, _BLOCK):
            for record in block:
                key = _sort_key(record)
                if before is not None and key <= before:
                    if key == before:
                        raise ValueError(f"Field {record.id} is listed twice; list it once.")
                    raise ValueError(f"Field {record.id} is out of order; build the manifest anew.")
                before = key
                if record.plate_id != plate:
                    plate = record.plate_id
                    self._plate_sizes.append(0)
                self._plate_sizes[-1] += 1
                told = (record.id, record.channels, record.pixel_size_um)
                digest.update(json.dumps(told).encode() + b"\n")
            rows = json.dumps([_values(record) for record in block], separators=(",", ":"))
            self._blocks.append(zlib.compress(rows.encode(), 1))
            self._n_fields += len(block)
        if not self._n_fields:
            raise ValueError("The manifest has no fields.")
        self.sha256 = digest.hexdigest()
        """Hash of ids, channels and pixel sizes, not of addresses: two manifests with the same one
        give the same samples, wherever the images lie."""
        self._block = lru_cache(maxsize=256)(self._unpack)

    def _unpack(self, block: int) -> tuple[FieldRecord, ...]:
        return tuple(_record(row) for row in json.loads(zlib.decompress(self._blocks[block])))

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in vars(self).items() if name != "_block"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        self._block = lru_cache(maxsize=256)(self._unpack)

    def __len__(self) -> int:
        return self._n_fields

    def __getitem__(self, row: int) -> FieldRecord:
        if not 0 <= row < len(self):
            raise IndexError(f"Row {row} of a manifest of {len(self)} fields.")
        block, place = divmod(row, _BLOCK)
        return self._block(block)[place]

    def __iter__(self) -> Iterator[FieldRecord]:
        for block in range(len(self._blocks)):
            yield from self._unpack(block)

    def shard_sizes(self, size: int = _SHARD) -> list[int]:
        """Lengths of runs of at most `size` fields that lie on one plate."""
        shards = []
        for n in self._plate_sizes:
            full, rest = divmod(n, size)
            shards += [size] * full + ([rest] if rest else [])
        return shards

    def write(self, path: str | Path) -> None:
        """Write a Parquet file, whole or not at all."""
        write_records(path, self)

    @classmethod
    def read(cls, path: str | Path) -> "Manifest":
        """Read what `write` wrote.

        Raises
        ------
        FileNotFoundError, ValueError
            If there is no such file, or it is no manifest.
        """
        return cls.from_ordered(read_records(path))


def is_held_out(
    record: FieldRecord, share: float, sources: Collection[str] = (), *, seed: int = 0
) -> bool:
    """Whether a field is held out: with its whole plate, because wells of one plate are alike.

    Parameters
    ----------
    share : float
        Of the plates. Which ones depends on seed and names alone: more plates move none.
    sources : collection of str
        Sources that are held out as a whole.
    """
    digest = sha256(f"{seed}/{record.plate_id}".encode()).digest()
    return record.source in sources or int.from_bytes(digest[:8]) / 2**64 < share


def write_records(path: str | Path, records: Iterable[FieldRecord]) -> None:
    """Write fields as Parquet, one row each; an empty list is a file with no rows."""
    pyarrow = require_pyarrow()
    text, texts = pyarrow.string(), pyarrow.list_(pyarrow.string())
    names = ("source", "batch", "plate", "well", "site")
    schema = pyarrow.schema(
        [(name, text) for name in names]
        + [("channels", texts), ("addresses", texts), ("pixel_size_um", pyarrow.float64())]
    )
    with (
        whole_file(path) as temporary,
        pyarrow.parquet.ParquetWriter(temporary, schema, compression="zstd") as writer,
    ):
        for block in _batched(records, 1 << 16):
            rows = [asdict(record) for record in block]
            writer.write_table(pyarrow.Table.from_pylist(rows, schema=schema))


def read_records(path: str | Path) -> Iterator[FieldRecord]:
    """Fields of a Parquet file that `write_records` wrote, read block by block.

    Raises
    ------
    FileNotFoundError, ValueError
        If there is no such file, or it is no manifest.
    ImportError
        If pyarrow is not installed.
    """
    pyarrow = require_pyarrow()
    if not Path(path).is_file():
        raise FileNotFoundError(f"There is no manifest {path}; build one first.")
    try:
        with pyarrow.parquet.ParquetFile(path) as file:
            for batch in file.iter_batches(1 << 12):
                yield from map(_record, batch.to_pylist())
    except (pyarrow.ArrowInvalid, KeyError, TypeError) as error:
        raise ValueError(f"{path} is not a manifest of fields: {error}.") from error


def require_pyarrow() -> Any:
    """The module pyarrow, or ImportError with the command that installs it."""
    try:
        import pyarrow  # noqa: PLC0415  optional extra
        import pyarrow.parquet  # noqa: PLC0415
    except ImportError as error:
        raise ImportError(
            'Parquet manifests need pyarrow: pip install "napari-dinocell[s3]".', name="pyarrow"
        ) from error
    return pyarrow


def _record(values: dict[str, Any]) -> FieldRecord:
    lists = {name: tuple(values[name]) for name in ("channels", "addresses")}
    return FieldRecord(**{**values, **lists})


def _values(record: FieldRecord) -> dict[str, Any]:
    return dict(vars(record))


def _sort_key(record: FieldRecord) -> tuple[Any, ...]:
    return tuple(map(_natural_key, record.id.split("/"))), record.id


def _batched(values: Iterable[Value], size: int) -> Iterator[tuple[Value, ...]]:
    """Runs of `size` values, the last one shorter; `itertools.batched` of Python 3.12."""
    left = iter(values)
    while batch := tuple(islice(left, size)):
        yield batch
