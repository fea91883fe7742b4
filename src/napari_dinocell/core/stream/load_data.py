"""Fields from the tables of the Cell Painting Gallery: load_data files and lists of images.

Only these tables say which file is which stain: the order of channels differs between sources and
sometimes between batches, and the names of some microscopes' files cannot be guessed.
"""

import csv
import gzip
import io
import re
import zlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from .manifest import require_pyarrow
from .records import FieldRecord, channel_rank, is_brightfield

# Two names for one plane, by project; the middle focus keeps the plain name.
_SAME = {
    "BrightField": "Brightfield",
    "HighZBF": "Brightfield_H",
    "LowZBF": "Brightfield_L",
    "PhalloidinAGP": "AGP",
}
# µm per pixel where the table does not say; jump-cellpainting/datasets, microscope_config.csv.
PIXEL_SIZE_UM = {
    **dict.fromkeys(("source_1", "source_3", "source_4", "source_9", "source_11"), 0.598),
    "source_15": 0.598,
    **dict.fromkeys(("source_2", "source_5", "source_7", "source_13"), 0.65),
    "source_6": 0.646,
    "source_8": 0.703,
    "source_10": 0.652,
}
_PLACE = re.compile(r"(?:^|/)(?P<source>[^/]+)/images/(?P<batch>[^/]+)/images/(?P<plate>[^/]+)/")
_TABLE_PLACE = re.compile(
    r"(?P<source>[^/]+)/workspace/load_data_csv/(?P<batch>[^/]+)/(?P<plate>[^/]+)/"
)
Row = dict[str, str]


@dataclass(frozen=True)
class Places:
    """How paths in a table become addresses.

    Attributes
    ----------
    root : str
        Put before relative paths, such as ``s3://cellpainting-gallery`` or a folder.
    replace : tuple of (str, str)
        Beginnings of paths and what to put in their place: many tables name the folders of the
        machine that ran the analysis.
    """

    root: str = ""
    replace: tuple[tuple[str, str], ...] = ()

    def address(self, folder: str, name: str) -> str:
        """Address of a file, from the table's folder and name."""
        path = f"{folder.rstrip('/')}/{name}" if folder else name
        for old, new in self.replace:
            if path.startswith(old):
                path = new + path[len(old) :]
        if path.startswith("s3://") or path.startswith("/"):
            return path
        if "://" in path:
            raise ValueError(f"{path} is neither a path nor an s3:// address; use --replace.")
        return f"{self.root.rstrip('/')}/{path}" if self.root else path


def read_table(data: bytes, name: str) -> list[Row]:
    """Rows of a CSV, gzipped CSV or Parquet file, every value as text and missing ones empty.

    Raises
    ------
    ValueError
        If the bytes are no such table.
    ImportError
        If it is Parquet and pyarrow is not installed.
    """
    try:
        if name.endswith(".parquet"):
            pyarrow = require_pyarrow()
            rows = pyarrow.parquet.read_table(io.BytesIO(data)).to_pylist()
            return [{key: _text(value) for key, value in row.items()} for row in rows]
        if data[:2] == b"\x1f\x8b":
            data = gzip.decompress(data)
        reader = csv.DictReader(io.StringIO(data.decode("utf-8-sig"), newline=""))
        return [{key: _text(value) for key, value in row.items() if key} for row in reader]
    except (ValueError, EOFError, OSError, csv.Error, zlib.error) as error:
        raise ValueError(f"{name} cannot be read as a table: {error}.") from error


def records_from_table(
    rows: Sequence[Row], places: Places | None = None, *, table: str = "", least_stains: int = 1
) -> Iterator[FieldRecord]:
    """Fields of one table.

    Parameters
    ----------
    rows : sequence of dict
        With ``URL_Orig<stain>`` or ``PathName_Orig<stain>`` and ``FileName_Orig<stain>`` columns,
        one row per field; or with the columns ``channel`` and ``path``, one row per image.
    places : Places, optional
    table : str
        Address of the table, which may name source, batch and plate.
    least_stains : int
        Fields with fewer fluorescence channels are left out.

    Raises
    ------
    ValueError
        If the columns are none of these, or a row has no plate, well or site.
    """
    places = places or Places()
    columns = set(rows[0]) if rows else set()
    if {"channel", "path"} <= columns:
        fields = _group_images(rows, places)
    elif any(name.startswith(("URL_Orig", "FileName_Orig")) for name in columns):
        fields = ((row, _channels_of(row, places)) for row in rows)
    elif not rows:
        return
    else:
        raise ValueError(
            f"{table or 'The table'} has no URL_Orig*, FileName_Orig* or channel and path columns; "
            "give a load_data file."
        )
    for row, channels in fields:
        if sum(not is_brightfield(name) for name in channels) >= max(1, least_stains):
            yield _record(row, channels, table)


def _channels_of(row: Row, places: Places) -> dict[str, str]:
    """Address of each channel that this field has."""
    channels = {}
    for column, value in row.items():
        kind, _, stain = column.partition("_Orig")
        if not value or not stain or kind not in ("URL", "FileName"):
            continue
        if kind == "URL":
            channels[_SAME.get(stain, stain)] = places.address("", value)
        else:
            folder = row.get(f"PathName_Orig{stain}", "")
            channels.setdefault(_SAME.get(stain, stain), places.address(folder, value))
    return channels


def _group_images(rows: Iterable[Row], places: Places) -> Iterator[tuple[Row, dict[str, str]]]:
    fields: dict[tuple[str, ...], tuple[Row, dict[str, str]]] = {}
    for row in rows:
        named = {f"Metadata_{name.capitalize()}": value for name, value in row.items()}
        key = tuple(row.get(n, "") for n in ("source", "batch", "plate", "well", "site"))
        _, channels = fields.setdefault(key, (named, {}))
        name = _SAME.get(row["channel"], row["channel"])
        channels[name] = places.address("", row["path"])
    yield from fields.values()


def _record(row: Row, channels: dict[str, str], table: str) -> FieldRecord:
    names = sorted(channels, key=channel_rank)
    addresses = tuple(channels[name] for name in names)
    # The folder of the images tells source and batch where the table doesn't; its plate has a time.
    found = _PLACE.search(addresses[0]) or _TABLE_PLACE.search(table)
    told = found.groupdict() if found else {}
    levels = {
        name: row.get(f"Metadata_{name.capitalize()}") or told.get(name, "")
        for name in ("source", "batch", "plate")
    }
    well, site = row.get("Metadata_Well", ""), row.get("Metadata_Site", "")
    if not (levels["plate"] and well and site):
        raise ValueError(
            f"A row of {table or 'the table'} has plate {levels['plate']!r}, well {well!r} and "
            f"site {site!r}; all three are needed."
        )
    return FieldRecord(
        **levels,
        well=well,
        site=site,
        channels=tuple(names),
        addresses=addresses,
        pixel_size_um=_pixel_size(row, levels["source"]),
    )


def _pixel_size(row: Row, source: str) -> float | None:
    try:
        size = float(row.get("Metadata_ImageResolutionX", "")) * 1e6  # meters
    except ValueError:
        return PIXEL_SIZE_UM.get(source)
    return round(size, 4) if 0.01 < size < 100 else PIXEL_SIZE_UM.get(source)


def _text(value: Any) -> str:
    if value is None or value != value:  # NaN
        return ""
    if isinstance(value, float) and value.is_integer():
        return str(int(value))  # a column of integers with gaps
    return "" if value in ("nan", "NaN") else str(value)
