"""The panel that measures the cells of any labels layer: napari's table, or a CSV file."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from napari.layers import Image
from qtpy.QtWidgets import (
    QCheckBox,
    QFileDialog,
    QFormLayout,
    QPushButton,
    QVBoxLayout,
    QWidget,
)

from napari_dinocell.core.axis_names import POSITION_COLUMNS
from napari_dinocell.core.exports import write_table
from napari_dinocell.widgets.column import Column
from napari_dinocell.widgets.corrected import cells_of, has_cells
from napari_dinocell.widgets.jobs import Job, Steps, Ticket
from napari_dinocell.widgets.layer_box import AxesBox, LayerBox
from napari_dinocell.widgets.placement import Placement
from napari_dinocell.widgets.preview import METADATA_KEY
from napari_dinocell.widgets.rows import add_rows
from napari_dinocell.widgets.runner import Runner, Work
from napari_dinocell.widgets.table import dense_rows

__all__ = ["MeasurePanel"]

Table = dict[str, npt.NDArray[Any]]


class MeasurePanel(QWidget):
    """Measures size, shape and intensity of every cell, in µm too where the layer tells the scale.

    Parameters
    ----------
    napari_viewer : napari.viewer.Viewer
        The viewer, given by napari.
    """

    def __init__(self, napari_viewer: Any) -> None:
        super().__init__()
        self.viewer = napari_viewer
        self.table: Table | None = None
        self._writing: Job | None = None
        self._is_stretched = False
        self.labels = LayerBox(napari_viewer, lambda layer: has_cells(napari_viewer, layer))
        self.labels.setToolTip("The cells to be measured, with their corrections.")
        self.image = LayerBox(napari_viewer, self._fits, none="none")
        self.image.setToolTip("Gives their intensities; an image of the same shape.")
        self.axes = AxesBox()
        self.objects = QCheckBox("One row per 3-D object")
        self.objects.setToolTip(
            "Volume and place of cells that have one id through all planes, as Link planes gives it."
        )
        self.runner = Runner("Measure", self._plan, self._take)
        self.save = QPushButton("Save table …")
        self.save.setToolTip("One row per cell, in a stack per cell and plane, as CSV.")
        self.save.clicked.connect(self._ask)
        self.save.setEnabled(False)
        rows = QFormLayout()
        add_rows(rows, ("Cells", self.labels), ("Image", self.image), ("Axes", self.axes))
        rows.setContentsMargins(0, 0, 0, 0)
        questions = QWidget()
        questions.setLayout(rows)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(Column(questions, self.objects, self.runner, self.save))
        self.labels.currentIndexChanged.connect(self._layer_changed)
        self.axes.currentIndexChanged.connect(self._axes_changed)
        self.labels.choose(napari_viewer.layers.selection.active)
        self._layer_changed()

    def save_table(self, path: Path) -> None:
        """Begin to write the last table as CSV."""
        assert self.table is not None
        table = self.table
        self._writing = Job(lambda ticket: _write(path, table), self)
        self._writing.succeeded.connect(self.runner.say)
        self._writing.failed.connect(self.runner.say_wrong)
        self._writing.start()

    def _fits(self, layer: Any) -> bool:
        cells = self.labels.layer
        if cells is None or not isinstance(layer, Image) or layer.multiscale:
            return False
        shape = layer.data.shape[:-1] if layer.rgb else layer.data.shape
        return tuple(shape) == tuple(cells.data.shape)

    def _layer_changed(self, *_: Any) -> None:
        self.image.refresh()
        if self.image.count() > 1 and self.image.layer is None:
            self.image.setCurrentIndex(1)
        self.axes.ask(self.labels.layer)
        self.objects.setChecked(_is_linked(self.labels.layer))
        self._axes_changed()

    def _axes_changed(self, *_: Any) -> None:
        self.objects.setVisible("Z" in self.axes.axes)

    def _plan(self) -> Work:
        layer, image = self.labels.layer, self.image.layer
        if layer is None:
            raise ValueError("There is no labels layer: segment an image first.")
        axes = self.axes.chosen(layer)
        place, y, x = Placement.of(layer), axes.index("Y"), axes.index("X")
        size, self._is_stretched = place.pixel_size_um(y, x), place.is_stretched(y, x)
        voxel: tuple[float, float, float] | None = None
        is_by_object = "Z" in axes and self.objects.isChecked()
        depth = place.step_um(axes.index("Z")) if is_by_object else None
        if depth is not None and size is not None:
            voxel = (depth, *size)
        read, is_corrected = cells_of(self.viewer, layer, axes)
        if is_by_object and METADATA_KEY in layer.metadata and not _is_linked(layer):
            raise ValueError("These cells have other ids in each plane: link the planes first.")
        pixels = None if image is None else image.data

        def work(ticket: Ticket) -> Steps:
            yield "Measuring …"
            table = _measure(ticket, read(), pixels, axes, size, shape=not is_by_object)
            if is_by_object:
                table = import_module("napari_dinocell.core.objects").measure_objects(table, voxel)
            return layer, is_corrected, table

        return work

    def _take(self, outcome: tuple[Any, bool, Table]) -> str:
        layer, is_corrected, self.table = outcome
        self.save.setEnabled(True)
        count = len(self.table["label"])
        noun = "3-D object" if "volume" in self.table else "cell"
        found = f"{count:,} {noun}{'' if count == 1 else 's'} measured"
        if is_corrected:
            found += " with the corrections"
        if self._is_stretched:
            found += " (⚠ by the layer's scale alone, though it is sheared or stretched besides)"
        if set(self.table) & set(POSITION_COLUMNS.values()):
            steps = "plane by plane" if "z" in self.table else "frame by frame"
            return f"{found}, {steps}; the table can be saved."
        if is_corrected:
            # Its rows are those of other ids than the layer has.
            return f"{found}; the table can be saved."
        dense = dense_rows(self.table)
        if layer not in self.viewer.layers or dense is None:
            return f"{found}; the table can be saved."
        layer.features = dense
        return f"{found}; napari shows them in Layers > Metadata > Features table."

    def _ask(self, *_: Any) -> None:
        layer = self.labels.layer
        proposed = f"{layer.name if layer is not None else 'cells'}.csv"
        chosen, _ = QFileDialog.getSaveFileName(self, "Save table", proposed, "Table (*.csv)")
        if chosen:
            self.save_table(Path(chosen if chosen.endswith(".csv") else f"{chosen}.csv"))


def _is_linked(layer: Any) -> bool:
    """Whether the cells of a layer have one id through its planes, as far as is known."""
    how = {} if layer is None else layer.metadata.get(METADATA_KEY, {})
    return "z" in how.get("link", {}).get("along", "")


def _write(path: Path, table: Table) -> Steps:
    yield f"Writing {path.name} …"
    write_table(path, table)
    return f"Wrote {path.name}."


def _measure(
    ticket: Ticket,
    labels: Any,
    image: Any,
    axes: str,
    pixel_size_um: tuple[float, float] | None,
    *,
    shape: bool,
) -> Table:
    """Table of all planes, with the position of each on T and Z."""
    measure = import_module("napari_dinocell.core.measure").measure
    cancelled = import_module("napari_dinocell.core.errors").Cancelled
    outer = [letter for letter in axes if letter in "TZ"]
    is_turned = axes.index("X") < axes.index("Y")
    lengths = [labels.shape[axes.index(letter)] for letter in outer]
    tables = []
    for done, position in enumerate(np.ndindex(*lengths)):
        if ticket.cancel():
            raise cancelled("Cancelled.")
        at = dict(zip(outer, position, strict=True))
        key = tuple(at.get(letter, slice(None)) for letter in axes)
        plane = np.asarray(labels[key])
        pixels = None if image is None else np.asarray(image[key])
        if pixels is not None and pixels.ndim == 3:
            pixels = pixels[..., :3]  # alpha is no intensity
        if is_turned:
            plane = plane.T
            pixels = None if pixels is None else pixels.swapaxes(0, 1)
        table = measure(plane, pixels, pixel_size_um, shape=shape)
        n = len(table["label"])
        tables.append({POSITION_COLUMNS[k]: np.full(n, v) for k, v in at.items()} | table)
        ticket.progress(done + 1, int(np.prod(lengths, dtype=int)))
    return {name: np.concatenate([t[name] for t in tables]) for name in tables[0]}
