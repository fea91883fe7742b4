"""napari's brush for one cell at a time: it may paint over deleted cells, never over others."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from importlib import import_module
from typing import Any

import numpy as np
import numpy.typing as npt
from qtpy.QtCore import QObject, QTimer

__all__ = ["Brush"]

Plane = npt.NDArray[np.integer]


class Brush(QObject):
    """Lets the user paint or erase one verified cell in a layer of corrections.

    napari's own *preserve labels* would keep the mark of a deleted cell, too, and nothing could be
    painted there. So it is off while the brush is in hand, and a stroke that went over another
    verified cell is taken back and made again without those pixels, as one step of the history.

    Parameters
    ----------
    viewer : napari viewer
    plane : callable
        Gives the (Y, X) view of the corrected plane on screen.
    write : callable
        `write(y, x, values)` changes pixels of that plane in one undo step.
    """

    def __init__(
        self,
        viewer: Any,
        plane: Callable[[], Plane],
        write: Callable[[Any, Any, Any], None],
        parent: QObject | None = None,
    ) -> None:
        super().__init__(parent)
        self._viewer, self._plane, self._write = viewer, plane, write
        rules = import_module("napari_dinocell.core.corrections")
        self._rejected, self._first = rules.REJECTED, rules.FIRST_VERIFIED
        self._layer: Any = None
        self._before: Plane | None = None
        self._step: tuple[int, ...] = ()
        self._strokes = 0
        # napari is still busy with a stroke when it tells of it.
        self._later = QTimer(self)
        self._later.setSingleShot(True)
        self._later.setInterval(0)
        self._later.timeout.connect(self._settle)

    def take(self, layer: Any, cell: int) -> None:
        """Paint a cell of a layer from now on."""
        self.put_away()
        self._layer = layer
        layer.selected_label = cell
        layer.preserve_labels = False
        layer.mode = "paint"
        self._remember()
        layer.events.paint.connect(self._painted)
        self._viewer.mouse_drag_callbacks.append(self._press)

    def put_away(self) -> None:
        """Let the mouse move the picture again."""
        if self._layer is None:
            return
        self._settle()
        layer, self._layer, self._before = self._layer, None, None
        self._later.stop()
        layer.events.paint.disconnect(self._painted)
        self._viewer.mouse_drag_callbacks.remove(self._press)
        layer.preserve_labels = True
        layer.mode = "pan_zoom"

    def _press(self, viewer: Any, event: Any) -> Iterator[None]:
        """Before a stroke: the viewer is told before the layer is."""
        if not self._strokes:
            self._remember()
        yield

    def _remember(self) -> None:
        self._before = self._plane().copy()
        self._step = tuple(self._viewer.dims.current_step)

    def _painted(self, event: Any = None) -> None:
        self._strokes += 1
        self._later.start()

    def _settle(self) -> None:
        """Keep other verified cells, and remember that what was erased is no cell."""
        strokes, self._strokes = self._strokes, 0
        before = self._before
        if not strokes or before is None or tuple(self._viewer.dims.current_step) != self._step:
            return
        now = self._plane()
        y, x = np.nonzero(now != before)
        old, new = before[y, x], now[y, x]
        wanted = np.where(new == 0, self._rejected, new)
        is_other = (old >= self._first) & (old != self._layer.selected_label)
        wanted = np.where(is_other, old, wanted)
        if np.any(wanted != new):
            for _ in range(strokes):
                self._layer.undo()
            is_changed = wanted != old
            self._write(y[is_changed], x[is_changed], wanted[is_changed])
        # What is written tells of itself like any stroke.
        self._later.stop()
        self._strokes = 0
        self._remember()
