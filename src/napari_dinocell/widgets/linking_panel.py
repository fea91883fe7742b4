"""The panel that links planes: one id per 3-D object, or per cell through time."""

from __future__ import annotations

from importlib import import_module
from typing import Any

import numpy as np
import numpy.typing as npt
from napari.layers import Labels
from qtpy.QtWidgets import (
    QComboBox,
    QFormLayout,
    QSpinBox,
    QVBoxLayout,
    QWidget,
)

from napari_dinocell.core.axis_names import UNNAMED
from napari_dinocell.widgets.jobs import Steps, Ticket
from napari_dinocell.widgets.layer_box import LayerBox
from napari_dinocell.widgets.layers import axes_of, axes_options
from napari_dinocell.widgets.placement import Placement
from napari_dinocell.widgets.preview import METADATA_KEY
from napari_dinocell.widgets.runner import Runner, Work

__all__ = ["LinkingPanel"]

IntArray = npt.NDArray[np.integer]

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
        self.labels = LayerBox(napari_viewer, _is_stack)
        self.labels.setToolTip("Cells found plane by plane; their corrections are used.")
        self.axes = QComboBox()
        self.axes.setToolTip("What the dimensions are: T time, Z depth, Y, X.")
        self.along = QComboBox()
        self.along.setToolTip("What is to keep one id.")
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
        self._rows = QFormLayout()
        self._rows.setFieldGrowthPolicy(QFormLayout.FieldGrowthPolicy.AllNonFixedFieldsGrow)
        for text, widget in (
            ("Cells", self.labels),
            ("Axes", self.axes),
            ("Link", self.along),
            ("Least overlap", self.overlap),
            ("Gap", self.gap),
        ):
            widget.setAccessibleName(text)
            self._rows.addRow(text, widget)
        layout = QVBoxLayout(self)
        layout.addLayout(self._rows)
        layout.addWidget(self.runner)
        layout.addStretch(1)
        self.labels.currentIndexChanged.connect(self._layer_changed)
        self.axes.currentIndexChanged.connect(self._axes_changed)
        self.runner.busy.connect(self._busy)
        self._layer_changed()
        self.labels.choose(napari_viewer.layers.selection.active)

    def _layer_changed(self, *_: Any) -> None:
        layer = self.labels.layer
        self.axes.clear()
        if layer is not None:
            options = [o for o in axes_options(layer) if not set(o) & set("CS")]
            if UNNAMED in axes_of(layer):
                self.axes.addItem("choose …", "")
            for option in options:
                self.axes.addItem(option, option)
        self.axes.setEnabled(self.axes.count() > 1)
        self._axes_changed()

    def _axes_changed(self, *_: Any) -> None:
        axes = self.axes.currentData() or ""
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
            self.axes.setEnabled(self.axes.count() > 1)

    def _plan(self) -> Work:
        layer = self.labels.layer
        if layer is None:
            raise ValueError("There is no labels layer with planes: segment a stack first.")
        axes = self.axes.currentData()
        if not axes:
            shape = " x ".join(str(n) for n in layer.data.shape)
            raise ValueError(f"Shape {shape} does not tell which axis is which: choose the axes.")
        options = {
            "along": self.along.currentData(),
            "min_overlap": self.overlap.value() / 100,
            "gap": self.gap.value(),
        }
        over = self._corrected(layer)
        data, corrected = layer.data, None if over is None else over.data
        name, placement = layer.name, Placement.of(layer)

        def work(ticket: Ticket) -> Steps:
            yield "Reading …"
            labels = _combined(data, corrected)
            yield "Linking …"
            core = import_module("napari_dinocell.core.link")
            linked = core.link(
                labels, axes, **options, progress=ticket.progress, cancel=ticket.cancel
            )
            fits = linked.count <= np.iinfo(np.uint16).max
            shown = linked.labels.astype(np.uint16) if fits else linked.labels
            return name, placement, options, shown, linked.count

        return work

    def _corrected(self, layer: Any) -> Any:
        """The layer with the user's corrections of a preview, or None."""
        for other in self.viewer.layers:
            about = other.metadata.get(METADATA_KEY, {})
            if about.get("corrects") == layer.name and other.data.shape == layer.data.shape:
                return other
        return None

    def _take(self, outcome: Any) -> str:
        name, placement, options, labels, count = outcome
        before = self.labels.layer
        base = name.removesuffix(" cells")
        is_in_time = "t" in options["along"]
        kind = "tracks" if is_in_time else "objects"
        layer = self.viewer.add_labels(
            labels,
            name=f"{base} {kind}",
            metadata={METADATA_KEY: {"labels": name, "link": options}},
            **placement.options(),
        )
        if before is not None:
            before.visible = False
            self.labels.choose(before)
        self.viewer.layers.selection.active = layer
        noun = {"tracks": "track", "objects": "object"}[kind] if count == 1 else kind
        return f"{count:,} {noun}: one id each, in the layer {layer.name}."


def _is_stack(layer: Any) -> bool:
    is_correction = "corrects" in layer.metadata.get(METADATA_KEY, {})
    return (
        isinstance(layer, Labels) and layer.ndim > 2 and not layer.multiscale and not is_correction
    )


def _combined(labels: Any, corrected: Any) -> IntArray:
    """Corrections over cells, as one array that the user no longer writes to."""
    if corrected is None:
        return np.array(labels)
    combine = import_module("napari_dinocell.core.corrections").combine
    # Ids mean something within a plane only, and part by part less memory is needed.
    pairs = zip(labels, corrected, strict=True)
    return np.stack([combine(np.array(a), np.array(b)) for a, b in pairs])
