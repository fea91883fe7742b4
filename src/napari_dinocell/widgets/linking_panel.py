"""The panel that links planes: one id per 3-D object, or per cell through time."""

from __future__ import annotations

from importlib import import_module
from typing import Any

import numpy as np
from qtpy.QtWidgets import (
    QComboBox,
    QFormLayout,
    QSpinBox,
    QVBoxLayout,
    QWidget,
)

from napari_dinocell.widgets.column import Column
from napari_dinocell.widgets.corrected import cells_of, has_cells
from napari_dinocell.widgets.jobs import Steps, Ticket
from napari_dinocell.widgets.layer_box import AxesBox, LayerBox
from napari_dinocell.widgets.placement import Placement
from napari_dinocell.widgets.preview import METADATA_KEY
from napari_dinocell.widgets.rows import add_rows, keep_narrow
from napari_dinocell.widgets.runner import Runner, Work

__all__ = ["LinkingPanel"]

_WAYS = {
    "z": "planes into 3-D objects (Z)",
    "t": "frames into tracks (T)",
    "zt": "3-D objects into tracks (Z and T)",
}


class LinkingPanel(QWidget):
    """Links the cells of neighboring planes of a labels layer into a new layer.

    Parameters
    ----------
    napari_viewer : napari.viewer.Viewer
        The viewer, given by napari.
    """

    def __init__(self, napari_viewer: Any) -> None:
        super().__init__()
        self.viewer = napari_viewer
        self.labels = LayerBox(napari_viewer, self._is_stack)
        self.labels.setToolTip("Cells found plane by plane; their corrections are used.")
        self.axes = AxesBox()
        self.along = QComboBox()
        self.along.setToolTip("What is to keep one id.")
        keep_narrow(self.along)
        self.overlap = QSpinBox()
        self.overlap.setRange(1, 100)
        self.overlap.setValue(35)
        self.overlap.setSuffix(" %")
        self.overlap.setToolTip(
            "How much of the smaller of two cells must lie on the larger one. A round cell that "
            "moves by its radius has 39 %."
        )
        self.gap = QSpinBox()
        self.gap.setRange(0, 100)
        self.gap.setSuffix(" planes")
        self.gap.setToolTip("A cell may be missing in up to so many planes and keeps its id.")
        self.runner = Runner("Link", self._plan, self._take)
        rows = QFormLayout()
        add_rows(
            rows,
            ("Cells", self.labels),
            ("Axes", self.axes),
            ("Link", self.along),
            ("Least overlap", self.overlap),
            ("Gap", self.gap),
        )
        rows.setContentsMargins(0, 0, 0, 0)
        questions = QWidget()
        questions.setLayout(rows)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(Column(questions, self.runner))
        self.labels.currentIndexChanged.connect(self._layer_changed)
        self.axes.currentIndexChanged.connect(self._axes_changed)
        self.runner.busy.connect(self._busy)
        self._layer_changed()
        self.labels.choose(napari_viewer.layers.selection.active)

    def _is_stack(self, layer: Any) -> bool:
        return has_cells(self.viewer, layer) and layer.ndim > 2

    def _layer_changed(self, *_: Any) -> None:
        self.axes.ask(self.labels.layer)
        self._axes_changed()

    def _axes_changed(self, *_: Any) -> None:
        axes = self.axes.axes
        self.along.clear()
        for way, text in _WAYS.items():
            if all(letter in axes for letter in way.upper()):
                self.along.addItem(text, way)
        if self.along.count() == len(_WAYS):
            self.along.setCurrentIndex(self.along.count() - 1)

    def _busy(self, is_busy: bool) -> None:
        for widget in (self.labels, self.axes, self.along, self.overlap, self.gap):
            widget.setEnabled(not is_busy)
        if not is_busy:
            self.axes.setEnabled(self.axes.is_open)

    def _plan(self) -> Work:
        layer = self.labels.layer
        if layer is None:
            raise ValueError("There is no labels layer with planes: segment a stack first.")
        axes = self.axes.chosen(layer)
        options = {
            "along": self.along.currentData(),
            "min_overlap": self.overlap.value() / 100,
            "gap": self.gap.value(),
        }
        read, _ = cells_of(self.viewer, layer, axes)
        name, placement = layer.name, Placement.of(layer)

        def work(ticket: Ticket) -> Steps:
            yield "Reading …"
            labels = read()
            if labels is layer.data:
                # The user may go on painting meanwhile.
                labels = np.array(labels)
            yield "Linking …"
            core = import_module("napari_dinocell.core.link")
            linked = core.link(
                labels, axes, **options, progress=ticket.progress, cancel=ticket.cancel
            )
            fits = linked.count <= np.iinfo(np.uint16).max
            shown = linked.labels.astype(np.uint16) if fits else linked.labels
            return layer, name, placement, options, shown, linked.count

        return work

    def _take(self, outcome: Any) -> str:
        source, name, placement, options, labels, count = outcome
        base = name.removesuffix(" cells")
        is_in_time = "t" in options["along"]
        kind = "tracks" if is_in_time else "objects"
        layer = self.viewer.add_labels(
            labels,
            name=f"{base} {kind}",
            metadata={METADATA_KEY: {"labels": name, "link": options}},
            **placement.options(),
        )
        # It may have been deleted meanwhile.
        if source in self.viewer.layers:
            source.visible = False
        self.viewer.layers.selection.active = layer
        noun = {"tracks": "track", "objects": "object"}[kind] if count == 1 else kind
        return f"{count:,} {noun}: one id each, in the layer {layer.name}."
