"""Write cells as outlines: ImageJ regions, and GeoJSON for QuPath."""

import json
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from napari_dinocell.core import outlines
from napari_dinocell.core.exports import check_label_axes, to_json
from napari_dinocell.core.writing import whole_file

_ROI_LIMIT = 32767


@dataclass(frozen=True)
class RoiCount:
    """What `write_rois` wrote: regions, and the parts of cells that the format cannot hold."""

    written: int
    dropped: int


def write_rois(path: str | Path, labels: np.ndarray[Any, Any], axes: str = "YX") -> RoiCount:
    """Write the outlines of cells as a zip of ImageJ regions, one per connected part.

    Parameters
    ----------
    path : str or Path
        Ends in `.zip`.
    labels : int array, one axis per letter of `axes`
        Regions are named after their cell (`00012`, its further parts `00012-2`), in stacks with
        the position before it (`z0003-00012`, from 1 as in ImageJ).
    axes : str
        Out of `TZYX`.

    Returns
    -------
    RoiCount
        Parts beyond pixel 32767 are dropped: the format has 16-bit positions.

    Raises
    ------
    ImportError
        If roifile is not installed.
    OutputFileError
        If the file cannot be written.

    Notes
    -----
    Outlines run along pixel edges and enclose exactly the pixels; holes are filled, because an
    ImageJ polygon has none.
    """
    try:
        import roifile  # noqa: PLC0415  optional extra
    except ImportError as error:
        raise ImportError(
            'ImageJ regions need roifile: pip install "napari-dinocell[export]".'
        ) from error
    written = dropped = 0
    with (
        whole_file(path) as temporary,
        zipfile.ZipFile(temporary, "w", zipfile.ZIP_DEFLATED) as archive,
    ):
        for index, plane in _label_planes(labels, axes):
            place = {letter.lower(): number for letter, number in index.items()}
            if len(place) == 1:  # a plain stack in ImageJ has one position, whatever it means
                place = {"position": next(iter(place.values()))}
            prefix = "".join(f"{letter.lower()}{n + 1:04}-" for letter, n in index.items())
            for cell_id, corner, mask in outlines.cells(plane):
                for number, ring in enumerate(outlines.parts(mask), 1):
                    yx = ring + corner
                    if yx.max() > _ROI_LIMIT:
                        dropped += 1
                        continue
                    name = f"{prefix}{cell_id:05}" + (f"-{number}" if number > 1 else "")
                    roi = roifile.ImagejRoi.frompoints(yx[:, ::-1], name=name, **place)
                    roi.roitype = roifile.ROI_TYPE.POLYGON
                    # By default an entry has the time, and each run would give other bytes.
                    entry = zipfile.ZipInfo(f"{name}.roi")
                    entry.external_attr = 0o644 << 16
                    archive.writestr(entry, roi.tobytes(), zipfile.ZIP_DEFLATED)
                    written += 1
    return RoiCount(written, dropped)


def write_geojson(
    path: str | Path,
    labels: np.ndarray[Any, Any],
    axes: str = "YX",
    table: Mapping[str, Any] | None = None,
) -> int:
    """Write cells as GeoJSON for QuPath, one detection per cell and plane.

    Parameters
    ----------
    path : str or Path
    labels : int array, one axis per letter of `axes`
        A cell in several pieces becomes a MultiPolygon; holes are kept.
    axes : str
        Out of `TZYX`.
    table : mapping of str to (N,) array, optional
        Measurements of single-plane labels: its numeric columns go along with the cell named in
        its column `label`.

    Returns
    -------
    int
        Number of features.
    """
    measured: dict[int, dict[str, Any]] = {}
    if table is not None and not set(axes) & set("TZ"):
        columns = {name: np.asarray(column) for name, column in table.items() if name != "label"}
        numeric = {name: column for name, column in columns.items() if column.dtype.kind in "iuf"}
        for row, cell_id in enumerate(np.asarray(table["label"]).tolist()):
            measured[cell_id] = {name: to_json(column[row]) for name, column in numeric.items()}
    n_features = 0
    with whole_file(path) as temporary, temporary.open("w", encoding="utf-8") as out:
        out.write('{"type": "FeatureCollection", "features": [')
        for index, plane in _label_planes(labels, axes):
            for cell_id, corner, mask in outlines.cells(plane):
                rings = [
                    [_closed(ring + corner) for ring in polygon]
                    for polygon in outlines.polygons(mask)
                ]
                is_one = len(rings) == 1
                geometry: dict[str, Any] = {
                    "type": "Polygon" if is_one else "MultiPolygon",
                    "coordinates": rings[0] if is_one else rings,
                }
                if index:
                    geometry["plane"] = {"c": -1, "z": index.get("Z", 0), "t": index.get("T", 0)}
                properties: dict[str, Any] = {"objectType": "detection", "name": str(cell_id)}
                if cell_id in measured:
                    known = measured[cell_id].items()
                    properties["measurements"] = {k: v for k, v in known if v is not None}
                feature = {"type": "Feature", "geometry": geometry, "properties": properties}
                out.write((",\n" if n_features else "\n") + json.dumps(feature))
                n_features += 1
        out.write("\n]}\n")
    return n_features


def _label_planes(
    labels: np.ndarray[Any, Any], axes: str
) -> Iterator[tuple[dict[str, int], np.ndarray[Any, Any]]]:
    """Planes of a label image and their place on its other axes."""
    axes = check_label_axes(axes, labels)
    outer = [letter for letter in axes if letter in "TZ"]
    stack = labels.transpose([axes.index(letter) for letter in (*outer, "Y", "X")])
    for position in np.ndindex(stack.shape[:-2]):
        yield dict(zip(outer, position, strict=True)), stack[position]


def _closed(ring: np.ndarray[Any, Any]) -> list[list[int]]:
    """(x, y) pairs, the first one again at the end."""
    points: list[list[int]] = ring[:, ::-1].tolist()
    return [*points, points[0]]
