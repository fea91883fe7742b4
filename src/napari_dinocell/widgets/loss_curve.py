"""The loss of a training while it runs, as a small picture."""

from __future__ import annotations

from collections.abc import Sequence

from qtpy.QtCore import QPointF, QSize, Qt
from qtpy.QtGui import QColor, QPainter, QPaintEvent, QPalette, QPen, QPolygonF
from qtpy.QtWidgets import QSizePolicy, QWidget

__all__ = ["LossCurve"]

_HELD_OUT = QColor("#ffb000")


class LossCurve(QWidget):
    """Loss by steps: faint on what is trained on, bright on annotation that is held out."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)
        self.setAccessibleName("Curve of the loss")
        self.setToolTip(
            "Error on the cells that are trained on (gray) and on those held out (orange), by "
            "training steps. Training stops when the orange one no longer falls."
        )
        self.steps: tuple[int, ...] = ()
        self.loss: tuple[float, ...] = ()
        self.held_out: tuple[float, ...] = ()

    def sizeHint(self) -> QSize:  # noqa: N802, D102 (Qt's name)
        line = self.fontMetrics().height()
        return QSize(12 * line, 5 * line)

    def show_curve(
        self, steps: Sequence[int], loss: Sequence[float], held_out: Sequence[float]
    ) -> None:
        """Draw other values; both losses are by `steps`, the second one may be empty."""
        self.steps, self.loss, self.held_out = tuple(steps), tuple(loss), tuple(held_out)
        self.update()

    def paintEvent(self, event: QPaintEvent) -> None:  # noqa: N802, D102 (Qt's name)
        painter = QPainter(self)
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        faint = QColor(self.palette().color(QPalette.ColorRole.WindowText))
        faint.setAlpha(110)
        painter.setPen(faint)
        bottom = self.height() - 1
        painter.drawLine(0, bottom, self.width(), bottom)
        values = (*self.loss, *self.held_out)
        if values:
            top = max(values) or 1.0
            self._line(painter, self.loss, top, QPen(faint, 1.5))
            self._line(painter, self.held_out, top, QPen(_HELD_OUT, 2))
            painter.setPen(faint)
            shown, last = (self.held_out or self.loss)[-1], self.steps[-1]
            painter.drawText(
                self.rect().adjusted(0, 0, -2, 0),
                Qt.AlignmentFlag.AlignRight | Qt.AlignmentFlag.AlignTop,
                f"loss {shown:.4f} after {last} step{'s' * (last != 1)}",
            )
        painter.end()

    def _line(self, painter: QPainter, values: Sequence[float], top: float, pen: QPen) -> None:
        head = self.fontMetrics().height()  # the text stands above the curves
        width, height = max(self.width() - 2, 1), max(self.height() - 2 - head, 1)
        last = max(self.steps[-1], 1)
        points = [
            QPointF(1 + step / last * width, head + height * (1 - value / top))
            for step, value in zip(self.steps, values, strict=False)
        ]
        painter.setPen(pen)
        painter.drawPolyline(QPolygonF(points))
