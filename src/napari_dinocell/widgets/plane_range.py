"""From which plane to which a stack or a movie is segmented."""

from __future__ import annotations

from magicgui.widgets import SpinBox
from qtpy.QtCore import QObject, Signal
from qtpy.QtWidgets import QHBoxLayout, QLabel, QSizePolicy, QWidget

__all__ = ["PlaneRange"]

_NAMES = {"T": "Time", "Z": "Depth"}


class PlaneRange(QObject):
    """The question of the first and the last plane, for each axis that may have several.

    Signals
    -------
    changed()
        The answer is another one.

    Attributes
    ----------
    first, last : dict of str to SpinBox
        By axis, numbered from 0 as napari's own sliders; both are part of the range.
    rows : dict of str to (str, QWidget)
        Name and field of each axis.
    """

    changed = Signal()

    def __init__(self, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self.first = {axis: _box(f"{name}: first plane") for axis, name in _NAMES.items()}
        self.last = {axis: _box(f"{name}: last plane") for axis, name in _NAMES.items()}
        self.rows = {
            axis: (name, _joined(self.first[axis].native, self.last[axis].native))
            for axis, name in _NAMES.items()
        }
        self._lengths: dict[str, int] = {}
        for axis in _NAMES:
            self.first[axis].changed.connect(lambda value, axis=axis: self._moved(axis, "first"))
            self.last[axis].changed.connect(lambda value, axis=axis: self._moved(axis, "last"))

    def set_lengths(self, lengths: dict[str, int]) -> None:
        """Take another image: how many planes it has along each of its axes T and Z."""
        if lengths == self._lengths:
            return
        self._lengths = dict(lengths)
        for axis, length in lengths.items():
            for box, value in ((self.first[axis], 0), (self.last[axis], length - 1)):
                with box.changed.blocked():
                    box.max = max(length - 1, 0)
                    box.value = value

    def slices(self) -> dict[str, slice]:
        """Planes along each axis that the image has."""
        return {
            axis: slice(int(self.first[axis].value), int(self.last[axis].value) + 1)
            for axis in self._lengths
        }

    def _moved(self, axis: str, end: str) -> None:
        """Whichever end is moved leads; the other one gives way."""
        first, last = self.first[axis], self.last[axis]
        if first.value > last.value:
            follower, leader = (last, first) if end == "first" else (first, last)
            with follower.changed.blocked():
                follower.value = leader.value
        self.changed.emit()


def _box(name: str) -> SpinBox:
    box = SpinBox(min=0, max=0, value=0, tooltip=f"{name}, counted from 0.")
    box.native.setAccessibleName(name)
    return box


def _joined(first: QWidget, last: QWidget) -> QWidget:
    field = QWidget()
    layout = QHBoxLayout(field)
    layout.setContentsMargins(0, 0, 0, 0)
    for box in (first, last):
        # Both fit into a narrow dock, where napari's theme makes each as wide as a form.
        box.setStyleSheet("min-width: 60px")
        box.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Fixed)
    layout.addWidget(first, 1)
    layout.addWidget(QLabel("to"))
    layout.addWidget(last, 1)
    return field
