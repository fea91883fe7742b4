"""What can be done with the cells of a run: slide, correct, export; and their figures."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from qtpy.QtCore import Signal
from qtpy.QtWidgets import QHBoxLayout, QPushButton, QVBoxLayout, QWidget

from napari_dinocell.widgets.autosave import Autosaver
from napari_dinocell.widgets.editing import EditTools
from napari_dinocell.widgets.export import ExportButton, Shown, export
from napari_dinocell.widgets.figures import figures_text
from napari_dinocell.widgets.further import FurtherSteps
from napari_dinocell.widgets.jobs import Job, Steps, Ticket
from napari_dinocell.widgets.planes import map_stack
from napari_dinocell.widgets.preview import DISTANCE_MAP, METADATA_KEY, Preview
from napari_dinocell.widgets.restore import RestoreButton
from napari_dinocell.widgets.rows import text_line
from napari_dinocell.widgets.sliders import ThresholdSliders

__all__ = ["ResultPanel"]


class ResultPanel(QWidget):
    """Lower half of the segment panel, for the preview of the last run.

    Signals
    -------
    said(str), failed(str)
        A line for the user.
    """

    said = Signal(str)
    failed = Signal(str)

    def __init__(self, viewer: Any, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.viewer = viewer
        self.preview: Preview | None = None
        self.sliders = ThresholdSliders()
        self.figures = text_line("Figures")
        self.tools = EditTools(viewer)
        self.export_button = ExportButton(self.export, self._name)
        self.further = FurtherSteps(viewer)
        self._writing: Job | None = None
        self.map_button = QPushButton("Distance map")
        self.map_button.setToolTip("Show what the thresholds cut: 0 outside, highest amid a cell.")
        self.map_button.clicked.connect(self._show_map)
        self.map_button.setEnabled(False)
        self._mapping: Job | None = None
        self.restore_button = RestoreButton()
        self.restore_button.found.connect(self._restore)
        self.restore_button.failed.connect(self.failed.emit)
        self.autosaver: Autosaver | None = None
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        for widget in (
            self.sliders,
            self.figures,
            self.tools,
            self.restore_button,
            _side_by_side(self.map_button, self.export_button),
            self.further,
        ):
            layout.addWidget(widget)
        self.tools.said.connect(self.said.emit)
        self.sliders.moved.connect(self._moved)
        self.sliders.colored.connect(self._colored)
        self.sliders.reset_asked.connect(self._reset)

    def attach(self, preview: Preview) -> None:
        """Work on another preview; the layer of the one before stays, as it is and hidden."""
        if self.preview is not None:
            self.preview.layer.visible = False
            self.preview.close()
        self.preview = preview
        preview.shown.connect(self._show_figures)
        preview.failed.connect(self.failed.emit)
        preview.closed.connect(self._detach)
        self.tools.attach(preview)
        self._autosave(preview)
        self._show_thresholds()
        self.sliders.offer_confidence(bool(preview.coefficients))
        self._colored(self.sliders.color.isChecked())
        self.sliders.setEnabled(True)
        self.map_button.setEnabled(True)
        self.export_button.setEnabled(True)
        self.further.follow(preview, self.tools.corrector)
        self.show()

    def export(self, kind: str, path: Path) -> None:
        """Begin to write a file of what is on screen."""
        if self.preview is None:
            return
        preview = self.preview
        labels = np.array(preview.layer.data)
        corrected = np.zeros_like(labels)
        if preview.corrected is not None:
            corrected = np.array(preview.corrected.data)
        shown = Shown(preview.result, labels, corrected, preview.values(), preview.min_confidence)
        self._writing = Job(lambda ticket: export(ticket, shown, kind, path), self)
        self._writing.step.connect(self.said.emit)
        self._writing.succeeded.connect(self.said.emit)
        if kind in ("labels", "zarr") and self.autosaver is not None:
            self._writing.succeeded.connect(self.autosaver.discard)
        self._writing.failed.connect(self.failed.emit)
        self._writing.start()

    def _autosave(self, preview: Preview) -> None:
        """Keep corrections on disk from now on, and offer those that a crash left there."""
        name, shape = preview.result.part.name, preview.prediction.shape
        self.autosaver = Autosaver(name, self)
        self.autosaver.failed.connect(self.failed.emit)
        assert self.tools.corrector is not None
        self.tools.corrector.edited.connect(self.autosaver.changed)
        self.restore_button.look(name, shape)

    def _restore(self, corrected: npt.NDArray[np.integer], path: Path) -> None:
        if self.tools.corrector is None or self.autosaver is None:
            return
        self.tools.corrector.restore(corrected)
        # The old file goes only after the new one is there.
        self.autosaver.replaces(path)

    def _show_map(self) -> None:
        """Add the distance map of all planes as an image, below the cells."""
        if self.preview is None:
            return
        preview = self.preview

        def work(ticket: Ticket) -> Steps:
            yield None
            return map_stack(preview.prediction)

        self.map_button.setEnabled(False)
        self._mapping = Job(work, self)
        self._mapping.succeeded.connect(lambda stack: self._add_map(preview, stack))
        self._mapping.failed.connect(self.failed.emit)
        self._mapping.ended.connect(lambda: self.map_button.setEnabled(self.preview is not None))
        self._mapping.start()

    def _add_map(self, preview: Preview, stack: npt.NDArray[np.uint16]) -> None:
        if preview is not self.preview:
            return
        viewer = self.viewer
        layer = viewer.add_image(
            stack,
            name=preview.layer.name.removesuffix(" cells") + " distance map",
            contrast_limits=(0, 65535),
            colormap="magma",
            metadata={METADATA_KEY: {DISTANCE_MAP: preview.layer.name}},
            **preview.result.part.placement.options(),
        )
        viewer.layers.move(viewer.layers.index(layer), viewer.layers.index(preview.layer))
        viewer.layers.selection.active = preview.layer

    def _name(self) -> str:
        return self.preview.layer.name if self.preview is not None else "cells"

    def _show_thresholds(self) -> None:
        assert self.preview is not None
        preview = self.preview
        scale = preview.prediction.scale
        typical = np.pi / 4 * (preview.prediction.model_card.diameter / scale) ** 2
        self.sliders.show_values(
            preview.peak, preview.fill, preview.min_area, int(typical), preview.min_confidence
        )

    def _moved(self, peak: float, fill: float, min_area: int, confidence: float) -> None:
        if self.preview is not None:
            self.preview.move(peak, fill, min_area, confidence)

    def _colored(self, is_wanted: bool) -> None:
        if self.preview is not None:
            self.preview.color_by_confidence(is_wanted)

    def _reset(self) -> None:
        if self.preview is not None:
            values = self.preview.defaults
            self.preview.move(values.peak, values.fill, values.min_area)
            self._show_thresholds()

    def _show_figures(self, areas: Any) -> None:
        if self.preview is None:
            return
        part = self.preview.result.part
        self.figures.setText(
            figures_text(areas, part.plane_shape, part.pixel_size_um, part.n_planes)
        )
        self.sliders.histogram.show_areas(areas, self.preview.min_area)

    def _detach(self) -> None:
        self.preview = None
        self.sliders.setEnabled(False)
        self.map_button.setEnabled(False)
        self.export_button.setEnabled(False)
        self.further.follow(None, None)
        self.figures.setText("")


def _side_by_side(*widgets: QWidget) -> QWidget:
    row = QWidget()
    layout = QHBoxLayout(row)
    layout.setContentsMargins(0, 0, 0, 0)
    for widget in widgets:
        layout.addWidget(widget, 1)
    return row
