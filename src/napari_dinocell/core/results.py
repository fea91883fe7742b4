"""Everything that is written about one segmented image."""

from __future__ import annotations

import logging
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any

import numpy as np
import numpy.typing as npt

from napari_dinocell.core.axes import planes
from napari_dinocell.core.axis_names import POSITION_COLUMNS
from napari_dinocell.core.confidence import drop_uncertain
from napari_dinocell.core.exports import write_labels, write_table
from napari_dinocell.core.images import Image
from napari_dinocell.core.instances import Cut
from napari_dinocell.core.link import link
from napari_dinocell.core.measure import Table, measure, summary
from napari_dinocell.core.overlay import write_overlay
from napari_dinocell.core.regions import write_geojson, write_rois
from napari_dinocell.core.segmenter import Prediction
from napari_dinocell.core.worklist import Job
from napari_dinocell.core.writing import make_folder

_log = logging.getLogger("napari_dinocell.results")

__all__ = ["Figures", "write_results"]


@dataclass(frozen=True)
class Figures:
    """Numbers of one image, over all its planes.

    Attributes
    ----------
    count : int
        Cells; in a stack cells of all planes together, or objects where planes were linked.
    summary : dict of str to float
        As `measure.summary`.
    """

    count: int
    summary: dict[str, float]


def write_results(
    job: Job,
    image: Image,
    prediction: Prediction,
    kinds: Collection[str],
    thresholds: Mapping[str, Any],
    channel: int | str | None = None,
    linking: Mapping[str, Any] | None = None,
    min_confidence: float | None = None,
) -> Figures:
    """Cut the prediction, measure it and write the wanted files, the labels last.

    Ids in the files are 1, 2, ... in each plane, in the order of the cells' heights; where planes
    are linked, those of `link.link`, and a table has one row for each cell in each plane.

    Parameters
    ----------
    job : Job
        Where each file goes; folders are made.
    image : Image
        What was segmented.
    prediction : Prediction
    kinds : collection of str
        Of `worklist.KINDS`.
    thresholds : mapping
        Keywords of `Prediction.cut`.
    channel : int, str or None
        The channel that was segmented; drawn in the overlay.
    linking : mapping, optional
        Keywords of `link.link`; nothing is linked without.
    min_confidence : float, optional
        In [0, 1]. Cells of a lower confidence are left out, before planes are linked.

    Raises
    ------
    ValueError
        If planes are to be linked along an axis that the image does not have, or the model does
        not tell the confidence that cells must have.
    OutputFileError
        If a file cannot be written; those before it are complete.
    """
    labels = np.zeros(prediction.shape, np.int32)
    tables = []
    for number, index in enumerate(prediction.indices):
        cut = prediction.cut(number, **thresholds)
        if min_confidence is not None:
            cut = drop_uncertain(cut, prediction.model_card.confidence, min_confidence)
        cut = _consecutive(cut)
        _plane_view(labels, prediction, number)[...] = cut.labels
        table = _all_columns(cut, image, number, prediction) if "table" in kinds else _area(cut)
        position = {POSITION_COLUMNS[axis]: np.full(len(cut.ids), at) for axis, at in index.items()}
        tables.append({**position, **table})
    count = sum(len(table["label"]) for table in tables)
    if linking:
        labels, count = _linked(labels, prediction, tables, linking)
    whole: Table = {name: np.concatenate([t[name] for t in tables]) for name in tables[0]}
    make_folder(job.labels.parent)
    if "table" in kinds:
        write_table(job.table, whole)
    if "overlay" in kinds:
        middle = prediction.n_planes // 2
        plane = _plane(image, channel, middle)
        write_overlay(job.overlay, plane, _plane_view(labels, prediction, middle))
    if "rois" in kinds:
        dropped = write_rois(job.rois, labels, prediction.axes).dropped
        if dropped:
            _log.warning("%s: %d outlines beyond pixel 32767 are left out.", job.rois, dropped)
    if "geojson" in kinds:
        write_geojson(job.geojson, labels, prediction.axes, whole)
    write_labels(job.labels, labels, prediction.axes, image.pixel_size_um, image.z_step_um)
    height, width = (image.shape[image.axes.index(letter)] for letter in "YX")
    figures = summary(whole, (prediction.n_planes * height, width), image.pixel_size_um)
    return Figures(count, figures | {"count": float(count)})


def _linked(
    labels: npt.NDArray[np.int32],
    prediction: Prediction,
    tables: Sequence[Table],
    linking: Mapping[str, Any],
) -> tuple[npt.NDArray[np.int32], int]:
    """Linked labels and the number of objects; the tables' ids are changed in place."""
    linked = link(labels, prediction.axes, **linking)
    for number, table in enumerate(tables):
        names = np.zeros(int(table["label"].max(initial=0)) + 1, np.int32)
        before, after = (_plane_view(x, prediction, number) for x in (labels, linked.labels))
        names[before] = after
        table["label"] = names[table["label"]]
    return linked.labels, linked.count


def _consecutive(cut: Cut) -> Cut:
    """The same cells with the ids 1, 2, ..."""
    ids = np.arange(1, len(cut.ids) + 1, dtype=np.int32)
    new = np.zeros(int(cut.ids.max(initial=0)) + 1, np.int32)
    new[cut.ids] = ids
    return replace(cut, labels=new[cut.labels], ids=ids)


def _plane_view(
    labels: npt.NDArray[np.int32], prediction: Prediction, number: int
) -> npt.NDArray[np.int32]:
    """(Y, X) view of one plane of the labels."""
    axes, index = prediction.axes, prediction.indices[number]
    view = labels[tuple(index.get(axis, slice(None)) for axis in axes)]
    return view if axes.index("Y") < axes.index("X") else view.T


def _plane(image: Image, channel: int | str | None, number: int) -> npt.NDArray[Any]:
    """(Y, X) or (Y, X, 3) pixels of one plane."""
    _, plane = next(islice(planes(image, channel), number, None))
    return plane()


def _area(cut: Cut) -> Table:
    return {"label": cut.ids, "area": cut.areas}


def _all_columns(cut: Cut, image: Image, number: int, prediction: Prediction) -> Table:
    """Everything that is known about each cell; intensities in all channels."""
    channels = range(image.shape[image.axes.index("C")]) if "C" in image.axes else [None]
    pixels = [_plane(image, channel, number) for channel in channels]
    return measure(
        cut.labels,
        pixels[0] if len(pixels) == 1 else np.stack(pixels, axis=-1),
        image.pixel_size_um,
        cut,
        coefficients=prediction.model_card.confidence or None,
        shape=True,
    )
