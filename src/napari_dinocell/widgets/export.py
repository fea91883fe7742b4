"""Write what is on screen: labels, outlines, table, settings."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from qtpy.QtWidgets import QFileDialog, QMenu, QPushButton, QWidget

from napari_dinocell.widgets.engine import Result
from napari_dinocell.widgets.jobs import Steps, Ticket
from napari_dinocell.widgets.table import measure_stack

__all__ = ["KINDS", "ExportButton", "Shown", "export"]

KINDS = {
    "labels": ("Labels (OME-TIFF)", ".ome.tif"),
    "zarr": ("Labels (OME-Zarr)", ".zarr"),
    "rois": ("Outlines (ImageJ)", ".zip"),
    "table": ("Table (CSV)", ".csv"),
    "run": ("Settings (JSON)", ".json"),
}


@dataclass(frozen=True, eq=False)
class Shown:
    """What is on screen, copied so that the user may go on.

    Attributes
    ----------
    result : Result
    preview, corrected : int arrays of the result's shape
        The latter all 0 where nothing was corrected.
    thresholds : dict
        Of the preview.
    min_confidence : float
        That its cells have.
    """

    result: Result
    preview: npt.NDArray[np.integer]
    corrected: npt.NDArray[np.integer]
    thresholds: dict[str, Any]
    min_confidence: float = 0.0


def export(ticket: Ticket, shown: Shown, kind: str, path: Path) -> Steps:
    """Steps that write one file; give a line about it.

    Parameters
    ----------
    kind : str
        Of `KINDS`.
    path : Path
        With the ending of its kind.
    """
    yield f"Writing {path.name} …"
    result, axes = shown.result, shown.result.prediction.axes
    exports = import_module("napari_dinocell.core.exports")
    corrections = import_module("napari_dinocell.core.corrections")
    if kind == "run":
        record = result.prediction.provenance(**shown.thresholds)
        verified = np.unique(shown.corrected[shown.corrected >= corrections.FIRST_VERIFIED])
        record |= {"min_confidence": shown.min_confidence, "verified_cells": len(verified)}
        exports.write_json(path, result.provenance | record)
        return f"Wrote {path.name}."
    # One id space; planes of a stack that were not linked have ids of their own all the same.
    labels = corrections.combine(shown.preview, shown.corrected)
    size = result.part.pixel_size_um
    note = ""
    if kind == "labels":
        exports.write_labels(path, labels, axes, size)
    elif kind == "zarr":
        import_module("napari_dinocell.core.ngff").write_labels(path, labels, axes, size)
    elif kind == "rois":
        count = import_module("napari_dinocell.core.regions").write_rois(path, labels, axes)
        note = (
            f" {count.dropped} outlines beyond pixel 32767 are left out." if count.dropped else ""
        )
    elif kind == "table":
        exports.write_table(path, measure_stack(result, labels, shown))
    return f"Wrote {path.name}.{note}"


class ExportButton(QPushButton):
    """A button with a menu of what can be written.

    Parameters
    ----------
    start : callable
        `start(kind, path)` begins to write.
    name : callable
        Gives the file name to propose, without ending.
    """

    def __init__(
        self,
        start: Callable[[str, Path], None],
        name: Callable[[], str],
        parent: QWidget | None = None,
    ) -> None:
        super().__init__("Export …", parent)
        self.setToolTip("Write corrected and other cells as they are on screen.")
        self._start = start
        self._name = name
        menu = QMenu(self)
        for kind, (title, _) in KINDS.items():
            menu.addAction(f"{title} …").triggered.connect(self._asker(kind))
        self.setMenu(menu)
        self.setEnabled(False)

    def _asker(self, kind: str) -> Callable[..., None]:
        def ask(*_: Any) -> None:
            title, ending = KINDS[kind]
            chosen, _ = QFileDialog.getSaveFileName(
                self, title, f"{self._name()}{ending}", f"{title} (*{ending})"
            )
            if chosen:
                whole = chosen if chosen.endswith(ending) else chosen + ending
                self._start(kind, Path(whole))

        return ask
