"""Fields of a run, out of manifests, folders of images and labeled images."""

import csv
import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from functools import partial
from itertools import chain
from pathlib import Path

import tifffile
from PIL import Image

from napari_dinocell.core.errors import ImageFileError
from napari_dinocell.core.pretrain.config import DataSettings
from napari_dinocell.core.stream.containers import records_from_images
from napari_dinocell.core.stream.manifest import Manifest, is_held_out, read_records
from napari_dinocell.core.stream.records import FieldRecord
from napari_dinocell.core.training.readers import read_labeled

_TIFF = (".tif", ".tiff")
_COLOR = ("color red", "color green", "color blue")


def open_fields(settings: DataSettings) -> tuple[Manifest, Manifest | None]:
    """Fields to train on, and those held out.

    Fields that name their split (``train`` against all others) keep it; of the rest, whole plates
    are held out.

    Raises
    ------
    FileNotFoundError, ValueError
        If a source is not there, has no fields, or is a manifest in another order than its own.
    """
    read: Callable[[], Iterable[tuple[FieldRecord, str]]]
    build: Callable[[Iterable[FieldRecord]], Manifest]
    if len(settings.sources) == 1 and Path(settings.sources[0]).suffix == ".parquet":
        # A manifest of millions is never held unpacked: it is read again for each part.
        read, build = partial(_fields, settings), Manifest.from_ordered
    else:
        kept = list(_fields(settings))
        read, build = partial(iter, kept), Manifest
    sources: set[str] = set()  # whose fields name no split
    parts: set[str] = set()

    def part(wanted: str) -> Iterator[FieldRecord]:
        for record, named in read():
            if not named:
                sources.add(record.source)
            own = named or _part(record, settings)
            parts.add(own)
            if own == wanted:
                yield record

    training = _built(build, part("train"))
    absent = set(settings.held_out_sources) - sources
    if sources and absent:
        raise ValueError(f"No field is from {sorted(absent)[0]}, a source to be held out.")
    if training is None:
        raise ValueError(
            f"No field of {', '.join(settings.sources)} is left to train on; lower data.held_out "
            "or data.left_out."
        )
    return training, build(part("held out")) if "held out" in parts else None


def _built(
    build: Callable[[Iterable[FieldRecord]], Manifest], records: Iterator[FieldRecord]
) -> Manifest | None:
    """The manifest, or None if there are no records."""
    first = next(records, None)
    return None if first is None else build(chain([first], records))


def _fields(settings: DataSettings) -> Iterator[tuple[FieldRecord, str]]:
    """All fields that may be shown, where they lie now, each with its split."""
    for source in settings.sources:
        for record, named in _records(source, settings.axes):
            if set(record.channels) <= set(settings.left_out):
                continue  # nothing of it may be shown
            moved = tuple(_moved(address, settings.moved) for address in record.addresses)
            yield replace(record, addresses=moved), named


def _part(record: FieldRecord, settings: DataSettings) -> str:
    """Split of a field that names none."""
    is_out = is_held_out(
        record, settings.held_out, settings.held_out_sources, seed=settings.split_seed
    )
    return "held out" if is_out else "train"


def _records(source: str, axes: str | None) -> Iterator[tuple[FieldRecord, str]]:
    """Fields of one source, each with its split: train, held out, or nothing."""
    path = Path(source)
    if path.suffix == ".parquet":
        yield from ((record, "") for record in read_records(path))
    elif not path.exists():
        raise FileNotFoundError(
            f"There is no {path}; give a manifest (.parquet), a folder of multi-channel TIFFs, or "
            "labeled images."
        )
    elif (path / "index.csv").is_file() and _names_channels(path / "index.csv"):
        yield from _indexed(path)
    elif path.is_dir() and not _is_labeled(path):
        yield from _folder(path, axes)
    else:
        yield from _labeled(path)


def _folder(path: Path, axes: str | None) -> Iterator[tuple[FieldRecord, str]]:
    """Every image below a folder is one field; its folder is its plate."""
    try:
        found = records_from_images(path, axes=axes)
    except ImageFileError as error:
        raise ImageFileError(
            f"{error} Set data.axes=CYX if the first axis of such files is that of channels."
        ) from error
    yield from ((replace(record, source=path.name), "") for record in found)


def _indexed(path: Path) -> Iterator[tuple[FieldRecord, str]]:
    """Fields of an index.csv with the columns path and channels (joined by |).

    Optional: group (its fields never part in a split), split, pixel_size_um, train_allowed.
    Paths are relative to the folder or to the one above.
    """
    with (path / "index.csv").open(newline="", encoding="utf-8") as stream:
        for row in csv.DictReader(stream):
            if row.get("train_allowed", "yes") != "yes":
                continue
            file = path / row["path"]
            file = file if file.is_file() else path.parent / row["path"]
            if not file.is_file():
                raise FileNotFoundError(f"{path}/index.csv names {row['path']}, which is absent.")
            size = float(row["pixel_size_um"]) if row.get("pixel_size_um") else None
            names = tuple(row["channels"].split("|"))
            record = _record(path.name, row.get("group", ""), file, names, size)
            named = row.get("split", "")
            yield record, named and ("train" if named == "train" else "held out")


def _labeled(path: Path) -> Iterator[tuple[FieldRecord, str]]:
    """Labeled images as fields of one channel, or of three that belong together."""
    has_split = (path / "index.csv").is_file()
    for item in read_labeled(path, "train"):
        n_planes = plane_count(item.image)
        names = _COLOR if n_planes == 3 else tuple(f"channel {c}" for c in range(n_planes))
        record = _record(item.set_name, item.group, item.image, names, None)
        yield record, "train" if has_split else ""


def _record(
    source: str, plate: str, file: Path, channels: tuple[str, ...], pixel_size_um: float | None
) -> FieldRecord:
    return FieldRecord(
        source=source, batch="", plate=plate, well=file.parent.name, site=file.stem,
        channels=channels, addresses=(os.fspath(file.resolve()),), pixel_size_um=pixel_size_um,
    )  # fmt: skip


def plane_count(path: Path) -> int:
    """Number of planes of an image file, from its header."""
    if path.suffix.lower() in _TIFF:
        with tifffile.TiffFile(path) as tif:
            series = tif.series[0]
            if series.axes.endswith("S"):
                return int(series.shape[-1])
            return int(series.shape[0]) if series.ndim == 3 else 1
    with Image.open(path) as picture:
        return 3 if picture.mode == "P" else len(picture.getbands())


def _moved(address: str, moved: dict[str, str]) -> str:
    for old, new in moved.items():
        if address.startswith(old):
            return new + address.removeprefix(old)
    return address


def _names_channels(index: Path) -> bool:
    with index.open(newline="", encoding="utf-8") as stream:
        return {"path", "channels"} <= set(next(csv.reader(stream), []))


def _is_labeled(path: Path) -> bool:
    has_pairs = any((path / name).is_dir() for name in ("labels", "masks"))
    return (
        has_pairs
        or (path / "index.csv").is_file()
        or any(path.glob("*_mask*"))
        or any(path.glob("[0-9][0-9]_[GS]T"))
    )
