"""Sliders that cut the last prediction again while they move."""

from __future__ import annotations

from qtpy.QtCore import Qt, QTimer, Signal
from qtpy.QtWidgets import (
    QCheckBox,
    QFormLayout,
    QHBoxLayout,
    QPushButton,
    QVBoxLayout,
    QWidget,
)
from superqt import QLabeledDoubleSlider, QLabeledSlider

from napari_dinocell.widgets.histogram import Histogram

__all__ = ["ThresholdSliders"]

_GAP = 0.01
_LOW, _HIGH = 0.01, 0.98


class ThresholdSliders(QWidget):
    """Peak, fill, minimum area and confidence, with the sizes of the cells below.

    Signals
    -------
    moved(float, float, int, float)
        Peak, fill, minimum area and confidence; as often as the event loop can follow.
    colored(bool)
        Whether colors shall tell the confidence.
    reset_asked()
        Back to the model's own values.
    """

    moved = Signal(float, float, int, float)
    colored = Signal(bool)
    reset_asked = Signal()

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.peak = _double("Peak", "How sure a cell must be at its center: higher gives fewer.")
        self.fill = _double("Fill", "Where a cell ends: lower makes cells larger.")
        self.min_area = QLabeledSlider(Qt.Orientation.Horizontal)
        self.min_area.setAccessibleName("Minimum area")
        self.min_area.setToolTip("Smaller cells are left out (pixels of the image).")
        self.min_area.setRange(0, 1000)
        self.confidence = _double(
            "Confidence", "Cells that are right with less probability than this are left out."
        )
        self.confidence.setRange(0, 1)
        self.color = QCheckBox("Color by confidence")
        self.color.setToolTip("Orange cells are likely wrong, blue ones right: look at orange.")
        self.reset = QPushButton("Reset")
        self.reset.setToolTip("Back to the values that the model was tuned to.")
        self.histogram = Histogram()
        form = self._form = QFormLayout()
        form.setFieldGrowthPolicy(QFormLayout.FieldGrowthPolicy.AllNonFixedFieldsGrow)
        form.addRow("Peak", self.peak)
        form.addRow("Fill", self.fill)
        form.addRow("Min. area", self.min_area)
        form.addRow("Confidence", self.confidence)
        below = QHBoxLayout()
        below.addWidget(self.color)
        below.addStretch(1)
        below.addWidget(self.reset)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addLayout(form)
        layout.addWidget(self.histogram)
        layout.addLayout(below)
        self._later = QTimer(self)
        self._later.setSingleShot(True)
        self._later.setInterval(0)
        self._later.timeout.connect(self._emit)
        self.peak.valueChanged.connect(self._peak_moved)
        self.fill.valueChanged.connect(self._fill_moved)
        self.min_area.valueChanged.connect(self._move)
        self.confidence.valueChanged.connect(self._move)
        self.color.toggled.connect(self.colored.emit)
        self.reset.clicked.connect(self.reset_asked.emit)
        self.setEnabled(False)

    @property
    def values(self) -> tuple[float, float, int]:
        """Peak, fill and minimum area."""
        return float(self.peak.value()), float(self.fill.value()), int(self.min_area.value())

    def offer_confidence(self, is_known: bool) -> None:
        """Show what needs the confidence of cells only where the model tells it."""
        self.confidence.setVisible(is_known)
        self._form.labelForField(self.confidence).setVisible(is_known)
        self.color.setVisible(is_known)

    def show_values(
        self, peak: float, fill: float, min_area: int, largest: int, confidence: float = 0.0
    ) -> None:
        """Set the sliders without cutting.

        Parameters
        ----------
        peak, fill : float
        min_area : int
        largest : int
            Right end of the slider of the minimum area, px.
        confidence : float
        """
        sliders = (self.peak, self.fill, self.min_area, self.confidence)
        for slider in sliders:
            slider.blockSignals(True)
        self.min_area.setRange(0, max(largest, min_area, 10))
        self.peak.setValue(peak)
        self.fill.setValue(fill)
        self.min_area.setValue(min_area)
        self.confidence.setValue(confidence)
        for slider in sliders:
            slider.blockSignals(False)

    def _peak_moved(self, value: float) -> None:
        # Whichever is moved leads; the other one gives way.
        if self.fill.value() > value - _GAP:
            self.fill.setValue(max(value - _GAP, _LOW))
        self._move()

    def _fill_moved(self, value: float) -> None:
        if self.peak.value() < value + _GAP:
            self.peak.setValue(min(value + _GAP, _HIGH))
        self._move()

    def _move(self) -> None:
        # Moves that arrive while a cut runs become one.
        if not self._later.isActive():
            self._later.start()

    def _emit(self) -> None:
        self.moved.emit(*self.values, float(self.confidence.value()))


def _double(name: str, tip: str) -> QLabeledDoubleSlider:
    slider = QLabeledDoubleSlider(Qt.Orientation.Horizontal)
    slider.setRange(_LOW, _HIGH)
    slider.setSingleStep(0.01)
    slider.setDecimals(2)
    slider.setAccessibleName(name)
    slider.setToolTip(tip)
    return slider
