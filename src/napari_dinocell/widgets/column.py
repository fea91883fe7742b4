"""A column of widgets that scrolls where the window is too low for it."""

from __future__ import annotations

from qtpy.QtCore import QEvent, QObject, QSize, Qt
from qtpy.QtWidgets import QFrame, QScrollArea, QVBoxLayout, QWidget

__all__ = ["Column"]

_LINES = 12
_MARGIN = 5


class Column(QScrollArea):
    """Widgets below each other, never cut on the right.

    Parameters
    ----------
    widgets : QWidget
        From top to bottom.
    """

    def __init__(self, *widgets: QWidget) -> None:
        super().__init__()
        self.setFrameShape(QFrame.Shape.NoFrame)
        self.setWidgetResizable(True)
        self.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        self._content = QWidget()
        layout = QVBoxLayout(self._content)
        layout.setContentsMargins(*(_MARGIN,) * 4)
        for widget in widgets:
            layout.addWidget(widget)
        layout.addStretch(1)
        self.setWidget(self._content)
        self._content.installEventFilter(self)

    def minimumSizeHint(self) -> QSize:  # noqa: N802, D102 (Qt's name)
        bar = self.verticalScrollBar().sizeHint().width()
        width = self._content.minimumSizeHint().width() + bar
        return QSize(width, _LINES * self.fontMetrics().height())

    def sizeHint(self) -> QSize:  # noqa: N802, D102 (Qt's name)
        return self._content.sizeHint().expandedTo(self.minimumSizeHint())

    def eventFilter(self, watched: QObject, event: QEvent) -> bool:  # noqa: N802, D102 (Qt's name)
        if event.type() == QEvent.Type.LayoutRequest:
            # A row that appears may be wider than those before.
            self.updateGeometry()
        return bool(super().eventFilter(watched, event))
