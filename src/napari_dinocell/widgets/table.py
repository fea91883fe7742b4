"""Figures of every cell: napari's own table, and the columns of a CSV file."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import numpy.typing as npt

from napari_dinocell.core.axis_names import POSITION_COLUMNS
from napari_dinocell.widgets.engine import Result
from napari_dinocell.widgets.planes import plane_view

if TYPE_CHECKING:
    from napari_dinocell.core.instances import Cut

__all__ = ["dense_rows", "measure_plane", "measure_stack"]

Table = dict[str, npt.NDArray[Any]]


class Origin(Protocol):
    """What labels on screen were made of; see `export.Shown`."""

    @property
    def preview(self) -> npt.NDArray[np.integer]:
        """Cells of the thresholds."""

    @property
    def corrected(self) -> npt.NDArray[np.integer]:
        """Cells of the user."""

    @property
    def thresholds(self) -> dict[str, Any]:
        """Of the preview."""


_MOST_ROWS = 200_000


def measure_plane(
    result: Result, plane: int, labels: npt.NDArray[np.integer], cut: Cut | None
) -> Table:
    """Table of one plane: sizes, shapes, intensities, confidence. Reads the image.

    Parameters
    ----------
    result : Result
    plane : int
        Position in `prediction.indices`.
    labels : (Y, X) int array
    cut : Cut, optional
        Where the labels come from; gives the confidence.
    """
    measure = import_module("napari_dinocell.core.measure").measure
    axes = import_module("napari_dinocell.core.axes")
    channel = result.provenance.get("channel")
    image = result.part.measured_image()
    pixels = next(
        getter() for n, (_, getter) in enumerate(axes.planes(image, channel)) if n == plane
    )
    coefficients = result.prediction.model_card.confidence or None
    table: Table = measure(
        labels,
        pixels,
        result.part.pixel_size_um,
        cut,
        coefficients=coefficients if cut is not None else None,
    )
    return table


def measure_stack(result: Result, labels: npt.NDArray[np.integer], shown: Origin) -> Table:
    """Table of all planes, with the position of each on T and Z.

    Parameters
    ----------
    result : Result
    labels : int array of `result.part.shape`
        Preview and corrected cells in one id space.
    shown : Origin
        What they were made of: adds `verified`, 1 for cells that a person corrected or accepted,
        and the confidence of the others where the model tells it.
    """
    prediction = result.prediction
    tables = []
    for plane, index in enumerate(prediction.indices):
        view = plane_view(labels, prediction, plane)
        table = measure_plane(result, plane, view, None)
        n = len(table["label"])
        position = {POSITION_COLUMNS[axis]: np.full(n, at) for axis, at in index.items()}
        tables.append({**position, **table, **_origins(result, plane, view, shown)})
    return {name: np.concatenate([t[name] for t in tables]) for name in tables[0]}


def _origins(result: Result, plane: int, labels: npt.NDArray[np.integer], shown: Origin) -> Table:
    """Columns that tell where each cell comes from, in the order of increasing labels."""
    prediction = result.prediction
    first_verified = import_module("napari_dinocell.core.corrections").FIRST_VERIFIED
    ids, at = np.unique(labels, return_index=True)
    at = at[ids > 0]
    own = plane_view(shown.preview, prediction, plane).ravel()[at]
    is_verified = plane_view(shown.corrected, prediction, plane).ravel()[at] >= first_verified
    columns: Table = {"verified": is_verified.astype(np.int32)}
    coefficients = prediction.model_card.confidence
    if coefficients:
        confidence = import_module("napari_dinocell.core.confidence").confidence
        cut = prediction.cut(plane, **shown.thresholds)
        known = np.full(max(int(own.max(initial=0)), int(cut.ids.max(initial=0))) + 1, np.nan)
        known[cut.ids] = confidence(cut, coefficients)
        columns["confidence"] = np.where(is_verified, np.nan, known[own])
    return columns


def dense_rows(table: Mapping[str, npt.NDArray[Any]]) -> Table | None:
    """The same table with one row for each id from 0 on, not-a-number where there is no cell.

    napari's own table takes the number of a row for the label. None where the ids are too large
    for that.
    """
    ids = np.asarray(table["label"])
    n = int(ids.max(initial=0)) + 1
    if n > _MOST_ROWS:
        return None
    dense: Table = {}
    for name, column in table.items():
        wide = np.full(n, np.nan)
        wide[ids] = column
        dense[name] = wide
    dense["label"] = np.arange(n)
    return dense
