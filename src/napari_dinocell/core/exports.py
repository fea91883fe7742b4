"""Write results: label images, tables, run records."""

import csv
import hashlib
import json
import math
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import tifffile

from napari_dinocell.core.axis_names import check_axes
from napari_dinocell.core.writing import whole_file

# Classic TIFF addresses 4 GB; some room for the metadata.
_BIGTIFF_BYTES = 2**32 - 2**25
_TILE = 512


def write_labels(
    path: str | Path,
    labels: np.ndarray[Any, Any],
    axes: str,
    pixel_size_um: tuple[float, float] | None = None,
    z_step_um: float | None = None,
) -> None:
    """Write labels as a compressed OME-TIFF, whole or not at all; the same labels, the same bytes.

    Parameters
    ----------
    path : str or Path
        What is there already is replaced.
    labels : int array, one axis per letter of `axes`
        0 is background; ids up to 4 294 967 295, stored as uint16 if they fit, else as uint32.
    axes : str
        Out of `TZYX`. Y and X are stored last whatever their place.
    pixel_size_um : (float, float), optional
        µm per pixel along (Y, X).
    z_step_um : float, optional
        µm between planes along Z.

    Raises
    ------
    TypeError
        If `labels` are not integers.
    ValueError
        If an id is negative or too large, or `axes` do not fit.
    OutputFileError
        If the file cannot be written; then nothing of it is left.
    """
    axes = check_label_axes(axes, labels)
    stored = smallest_labels(labels)
    order = sorted(range(labels.ndim), key=lambda i: (axes[i] in "YX", axes[i] == "X"))
    stored = np.ascontiguousarray(stored.transpose(order))
    # By default the identifier is made of the time.
    content = hashlib.sha256(stored.data).hexdigest()
    metadata: dict[str, Any] = {
        "axes": "".join(axes[i] for i in order),
        "UUID": str(uuid.uuid5(uuid.NAMESPACE_OID, content)),
    }
    y, x = pixel_size_um or (None, None)
    for letter, size in {"Z": z_step_um, "Y": y, "X": x}.items():
        if size is not None:
            metadata |= {f"PhysicalSize{letter}": size, f"PhysicalSize{letter}Unit": "µm"}
    is_large = max(stored.shape[-2:]) > 4 * _TILE
    with whole_file(path) as temporary:
        tifffile.imwrite(
            temporary,
            stored,
            ome=True,
            bigtiff=stored.nbytes > _BIGTIFF_BYTES,
            photometric="minisblack",
            compression="zlib",
            tile=(_TILE, _TILE) if is_large else None,
            metadata=metadata,
        )


def check_label_axes(axes: str, labels: np.ndarray[Any, Any]) -> str:
    """`axes` in capitals, if they fit integer labels.

    Raises
    ------
    TypeError
        If `labels` are not integers.
    ValueError
        If `axes` do not fit, or have C or S.
    """
    if labels.dtype.kind not in "bui":
        raise TypeError(f"Labels are {labels.dtype}; they must be integers.")
    axes = check_axes(axes, labels.ndim)
    if set(axes) & set("CS"):
        raise ValueError(f"Labels have no channels, but their axes are {axes}; leave out C and S.")
    return axes


def smallest_labels(labels: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Labels as uint16 if their ids fit, else as uint32.

    Raises
    ------
    TypeError
        If `labels` are not integers.
    ValueError
        If an id is negative or above 4 294 967 295.
    """
    if labels.dtype.kind not in "bui":
        raise TypeError(f"Labels are {labels.dtype}; they must be integers.")
    lowest, highest = (int(labels.min()), int(labels.max())) if labels.size else (0, 0)
    if lowest < 0 or highest >= 2**32:
        raise ValueError(
            f"Labels have ids from {lowest} to {highest}; a file holds 0 to 4294967295."
        )
    return labels.astype(np.uint16 if highest < 2**16 else np.uint32)


def write_table(path: str | Path, table: Mapping[str, Any]) -> None:
    """Write columns of equal length as CSV: comma, decimal point, UTF-8, one header line.

    Parameters
    ----------
    path : str or Path
    table : mapping of str to (N,) array
        Floats are written with 7 significant digits, not-a-number as an empty cell.

    Raises
    ------
    ValueError
        If the columns differ in length.
    OutputFileError
        If the file cannot be written.
    """
    columns = {name: np.asarray(column) for name, column in table.items()}
    lengths = {name: len(column) for name, column in columns.items()}
    if len(set(lengths.values())) > 1:
        raise ValueError(f"Columns of a table must have one length, these have {lengths}.")
    with whole_file(path) as temporary, temporary.open("w", encoding="utf-8", newline="") as out:
        writer = csv.writer(out, lineterminator="\n")
        writer.writerow(columns)
        writer.writerows(zip(*(map(_cell, column) for column in columns.values()), strict=True))


def _cell(value: Any) -> str:
    if isinstance(value, (float, np.floating)):
        return "" if math.isnan(value) else f"{value:.7g}"
    return str(value)


def write_json(path: str | Path, record: Mapping[str, Any]) -> None:
    """Write a record as indented JSON, whole or not at all.

    numpy numbers and arrays, paths, tuples and sets are turned into what JSON knows; infinite
    and not-a-number become null.

    Raises
    ------
    TypeError
        If a value has no JSON form.
    OutputFileError
        If the file cannot be written.
    """
    text = json.dumps(to_json(record), indent=2, ensure_ascii=False, allow_nan=False)
    with whole_file(path) as temporary:
        temporary.write_text(text + "\n", encoding="utf-8")


def to_json(value: Any) -> Any:
    """`value` in the types that JSON knows."""
    if isinstance(value, Mapping):
        return {str(key): to_json(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [to_json(item) for item in value]
    if isinstance(value, (set, frozenset)):
        return sorted(to_json(item) for item in value)
    if isinstance(value, (np.ndarray, np.generic)):
        return to_json(value.tolist())
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    raise TypeError(f"{type(value).__name__} {value!r} has no JSON form.")
