"""What can be done with the cells of a run: slide, correct, export; and their figures."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from qtpy.QtCore import Qt, Signal
from qtpy.QtWidgets import QLabel, QSizePolicy, QVBoxLayout, QWidget

from napari_dinocell.widgets.editing import EditTools
from napari_dinocell.widgets.export import ExportButton, Shown, export
from napari_dinocell.widgets.figures import figures_text
from napari_dinocell.widgets.jobs import Job
from napari_dinocell.widgets.preview import Preview
from napari_dinocell.widgets.sliders import ThresholdSliders

__all__ = ["ResultPanel", "text_line"]


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
        self.preview: Preview | None = None
        self.sliders = ThresholdSliders()
        self.figures = text_line("Figures")
        self.tools = EditTools(viewer)
        self.export_button = ExportButton(self.export, self._name)
        self._writing: Job | None = None
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        for widget in (self.sliders, self.figures, self.tools, self.export_button):
            layout.addWidget(widget)
        self.tools.said.connect(self.said.emit)
        self.sliders.moved.connect(self._moved)
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
        self._show_thresholds()
        self.sliders.setEnabled(True)
        self.export_button.setEnabled(True)

    def export(self, kind: str, path: Path) -> None:
        """Begin to write a file of what is on screen."""
        if self.preview is None:
            return
        preview = self.preview
        labels = np.array(preview.layer.data)
        corrected = np.zeros_like(labels)
        if preview.corrected is not None:
            corrected = np.array(preview.corrected.data)
        shown = Shown(preview.result, labels, corrected, preview.values())
        self._writing = Job(lambda ticket: export(ticket, shown, kind, path), self)
        self._writing.step.connect(self.said.emit)
        self._writing.succeeded.connect(self.said.emit)
        self._writing.failed.connect(self.failed.emit)
        self._writing.start()

    def _name(self) -> str:
        return self.preview.layer.name if self.preview is not None else "cells"

    def _show_thresholds(self) -> None:
        assert self.preview is not None
        preview = self.preview
        scale = preview.prediction.scale
        typical = np.pi / 4 * (preview.prediction.model_card.diameter / scale) ** 2
        self.sliders.show_values(preview.peak, preview.fill, preview.min_area, int(typical))

    def _moved(self, peak: float, fill: float, min_area: int) -> None:
        if self.preview is not None:
            self.preview.move(peak, fill, min_area)

    def _reset(self) -> None:
        if self.preview is not None:
            values = self.preview.defaults
            self.preview.move(values.peak, values.fill, values.min_area)
            self._show_thresholds()

    def _show_figures(self, areas: Any) -> None:
        if self.preview is None:
            return
        part = self.preview.result.part
        self.figures.setText(figures_text(areas, part.plane_shape, part.pixel_size_um))
        self.sliders.histogram.show_areas(areas, self.preview.min_area)

    def _detach(self) -> None:
        self.preview = None
        self.sliders.setEnabled(False)
        self.export_button.setEnabled(False)
        self.figures.setText("")


def text_line(name: str) -> QLabel:
    """A label that wraps, can be copied, and has a name for screen readers."""
    label = QLabel()
    label.setWordWrap(True)
    label.setAccessibleName(name)
    label.setTextInteractionFlags(Qt.TextInteractionFlag.TextSelectableByMouse)
    label.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Minimum)
    return label
