"""How large the cells are: as in training, estimated, typed in px or µm, or drawn."""

from __future__ import annotations

import math
import statistics
from typing import Any

from magicgui.widgets import FloatSpinBox
from qtpy.QtCore import QObject, Signal
from qtpy.QtWidgets import QBoxLayout, QPushButton, QWidget

from napari_dinocell.widgets.drawing import Sketch, drawn_diameter
from napari_dinocell.widgets.layers import pixel_size_of
from napari_dinocell.widgets.option_box import OptionBox

__all__ = ["AS_IS", "ESTIMATE", "GIVEN", "CellSize"]

AS_IS, ESTIMATE, GIVEN = "as in training", "estimate", "type or draw"

_MOST = 10000.0
_ACROSS, _DOWN = QBoxLayout.Direction.LeftToRight, QBoxLayout.Direction.TopToBottom


class CellSize(QObject):
    """The question of the cells' diameter.

    Signals
    -------
    changed()
        The answer, or which of the rows are needed, is another one.

    Attributes
    ----------
    pixels, microns : FloatSpinBox
        The diameter, twice; µm only where the image tells the size of its pixels.
    line, circle : QPushButton
        Draw across a cell, or around one; several drawings count by their median.
    """

    changed = Signal()

    def __init__(self, viewer: Any, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self.how = OptionBox(
            "Cell size",
            "The image is resized so that its cells are as large as those the model was trained "
            "on. Estimate looks at the image; or type their diameter, or draw it: that is faster "
            "and surer.",
            (ESTIMATE, AS_IS, GIVEN),
        )
        self.pixels = _length("Diameter in pixels", " px")
        self.microns = _length("Diameter in µm", " µm")
        self.line = _tool("Line", "Draw a line across a typical cell; several lines: the median.")
        self.circle = _tool("Circle", "Draw a circle around a typical cell; several: the median.")
        self.rows = (
            ("Cell size", self.how.native),
            ("Diameter", _joined(_DOWN, self.pixels.native, self.microns.native)),
            ("Measure", _joined(_ACROSS, self.line, self.circle)),
        )
        self._sketch = Sketch(viewer, "cell size", parent=self)
        self._image: Any = None
        self._axes = ""
        self._micron: float | None = None
        self.how.changed.connect(self._how_changed)
        self.pixels.changed.connect(self._typed_pixels)
        self.microns.changed.connect(self._typed_microns)
        self.line.clicked.connect(lambda: self._draw(self.line, "add_line"))
        self.circle.clicked.connect(lambda: self._draw(self.circle, "add_ellipse"))
        self._sketch.drawn.connect(self._measure)
        self._sketch.closed.connect(self._put_away)

    @property
    def is_given(self) -> bool:
        """Whether the fields for a diameter are needed."""
        return bool(self.how.value == GIVEN)

    @property
    def diameter(self) -> float | str | None:
        """What `Segmenter.predict` wants to know, in px of the full resolution."""
        typed = float(self.pixels.value)
        return {AS_IS: None, ESTIMATE: "auto", GIVEN: typed}[self.how.value]

    def give(self, diameter: float) -> None:
        """Answer with a diameter, px of the full resolution."""
        self.pixels.value = _rounded(diameter)
        self.how.value = GIVEN

    def set_image(self, image: Any, axes: str) -> None:
        """Take another image, or other axes; lengths in µm follow."""
        if image != self._image or axes != self._axes:
            self._image, self._axes = image, axes
            self.put_away()
        self._read_pixel_size()

    def put_away(self) -> None:
        """End drawing and remove its layer."""
        self._sketch.close()
        self._put_away()

    def _read_pixel_size(self) -> None:
        image, axes = self._image, self._axes
        size = pixel_size_of(image, axes) if image is not None and axes else None
        self._micron = math.sqrt(size[0] * size[1]) if size is not None else None
        self.microns.native.setVisible(self._micron is not None)
        self._typed_pixels()

    def _how_changed(self, value: Any = None) -> None:
        if not self.is_given:
            self.put_away()
        # The layer's scale or units may have been set meanwhile.
        self._read_pixel_size()

    def _typed_pixels(self, value: Any = None) -> None:
        if self._micron is not None:
            with self.microns.changed.blocked():
                self.microns.value = _rounded(float(self.pixels.value) * self._micron)
        self.changed.emit()

    def _typed_microns(self, value: Any = None) -> None:
        if self._micron is not None:
            with self.pixels.changed.blocked():
                self.pixels.value = _rounded(float(self.microns.value) / self._micron)
        self.changed.emit()

    def _draw(self, button: QPushButton, mode: str) -> None:
        if self._image is None or not self._axes or not button.isChecked():
            self.put_away()
            return
        other = self.circle if button is self.line else self.line
        other.setChecked(False)
        self._sketch.open(self._image, self._axes, mode)

    def _measure(self) -> None:
        """Take the median of all that is drawn."""
        y, x = self._axes.index("Y"), self._axes.index("X")
        scale = abs(float(self._image.scale[y])), abs(float(self._image.scale[x]))
        found = [drawn_diameter(points, kind, scale) for points, kind in self._sketch.shapes()]
        # A click without a drag draws nothing.
        found = [diameter for diameter in found if diameter >= 1]
        if found:
            self.pixels.value = _rounded(statistics.median(found))

    def _put_away(self) -> None:
        self.line.setChecked(False)
        self.circle.setChecked(False)


def _length(name: str, unit: str) -> FloatSpinBox:
    box = FloatSpinBox(min=0.01, max=_MOST, step=1, value=30, tooltip=f"{name}.")
    box.native.setSuffix(unit)
    box.native.setAccessibleName(name)
    return box


def _tool(name: str, tip: str) -> QPushButton:
    button = QPushButton(name)
    button.setCheckable(True)
    button.setToolTip(tip)
    return button


def _joined(direction: QBoxLayout.Direction, *widgets: QWidget) -> QWidget:
    field = QWidget()
    layout = QBoxLayout(direction, field)
    layout.setContentsMargins(0, 0, 0, 0)
    for widget in widgets:
        layout.addWidget(widget, 1)
    return field


def _rounded(length: float) -> float:
    """To the two decimals of the fields, inside their range."""
    return min(max(round(length, 2), 0.01), _MOST)
