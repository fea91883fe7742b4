"""A small histogram of cell sizes that follows the sliders."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from qtpy.QtCore import QRectF, QSize
from qtpy.QtGui import QColor, QPainter, QPaintEvent, QPalette
from qtpy.QtWidgets import QSizePolicy, QWidget

__all__ = ["Histogram", "size_bins"]

_BINS = 32
_OCTAVES = 12
_FAINT = 150  # of 255: bars stand out from dark and light themes alike


def size_bins(
    areas: npt.ArrayLike, octaves: int = _OCTAVES, bins: int = _BINS
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float64]]:
    """Count cells by area, on a logarithmic axis from 4 px to 4 * 2**octaves px.

    Parameters
    ----------
    areas : (n,) array
        Pixels. What lies outside counts in the first or last bin.
    octaves, bins : int

    Returns
    -------
    counts : (bins,) int64 array
    edges : (bins + 1,) float64 array
        Pixels.
    """
    edges = 4.0 * 2.0 ** np.linspace(0, octaves, bins + 1)
    clipped = np.clip(np.asarray(areas, float), edges[0], edges[-1])
    return np.histogram(clipped, edges)[0].astype(np.int64), edges


class Histogram(QWidget):
    """Bars of the cells per size, with the minimum area as a line."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)
        self.setAccessibleName("Histogram of cell areas")
        self.setToolTip("Cells by area, small ones to the left; the line is the minimum area.")
        self.counts, self._edges = size_bins([])
        self._min_area = 0

    def sizeHint(self) -> QSize:  # noqa: N802, D102 (Qt's name)
        line = self.fontMetrics().height()
        return QSize(12 * line, 3 * line)

    def show_areas(self, areas: npt.ArrayLike, min_area: int) -> None:
        """Draw other cells."""
        self.counts, self._edges = size_bins(areas)
        self._min_area = min_area
        self.update()

    def paintEvent(self, event: QPaintEvent) -> None:  # noqa: N802, D102 (Qt's name)
        painter = QPainter(self)
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        palette = self.palette()
        ink = palette.color(QPalette.ColorRole.WindowText)
        faint = QColor(ink)
        faint.setAlpha(_FAINT)
        width, height = float(self.width()), float(self.height()) - 1
        painter.setPen(faint)
        painter.drawLine(0, int(height), int(width), int(height))
        top = max(int(self.counts.max()), 1)
        step = width / len(self.counts)
        for i, count in enumerate(self.counts):
            tall = (height - 2) * float(count) / top
            painter.fillRect(QRectF(i * step + 0.5, height - tall, step - 1, tall), faint)
        if self._min_area > self._edges[0]:
            at = np.log2(self._min_area / self._edges[0]) / _OCTAVES * width
            painter.setPen(ink)
            painter.drawLine(int(at), 0, int(at), int(height))
        painter.end()
