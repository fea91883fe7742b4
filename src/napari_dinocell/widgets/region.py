"""Which part of the planes is segmented: all, what the canvas shows, or a drawn rectangle."""

from __future__ import annotations

from typing import Any

import numpy as np
from qtpy.QtCore import QObject, Signal
from superqt.utils import QSignalDebouncer

from napari_dinocell.widgets.drawing import Sketch, drawn_region
from napari_dinocell.widgets.layers import camera_of, pixels_of, visible_region
from napari_dinocell.widgets.option_box import OptionBox

__all__ = ["DRAWN", "VIEW", "WHOLE", "Region"]

WHOLE, VIEW, DRAWN = "whole image", "current view", "drawn rectangle"

_REST_MS = 200


class Region(QObject):
    """The question of the region.

    Signals
    -------
    changed()
        The answer is another one; a moving canvas is told of when it rests.
    """

    changed = Signal()

    def __init__(self, viewer: Any, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self.box = OptionBox(
            "Region",
            "The whole image, what the canvas shows, or a rectangle that you draw. Gray values are "
            "normalized by the whole image all the same, so that the cells are the same.",
            (WHOLE, VIEW, DRAWN),
        )
        self._viewer = viewer
        self._image: Any = None
        self._axes = ""
        self._sketch = Sketch(viewer, "region", only_last=True, parent=self)
        self._rest = QSignalDebouncer(parent=self)
        self._rest.setTimeout(_REST_MS)
        self._rest.triggered.connect(self.changed.emit)
        self.box.changed.connect(self._chosen)
        self._sketch.drawn.connect(self.changed.emit)
        self._sketch.closed.connect(self._forget)
        camera = camera_of(viewer)
        camera.events.zoom.connect(self._moved)
        camera.events.center.connect(self._moved)

    def set_image(self, image: Any, axes: str) -> None:
        """Take another image, or other axes; a rectangle drawn on the one before goes."""
        if image == self._image and axes == self._axes:
            return
        self._image, self._axes = image, axes
        self._sketch.close()
        self._chosen()

    def slices(self) -> tuple[slice, slice] | None:
        """Rows and columns, in px of the full resolution; None for all.

        Raises
        ------
        ValueError
            If nothing is drawn yet, or beside the image.
        """
        if self.box.value == VIEW:
            return visible_region(self._image, self._axes)
        if self.box.value == DRAWN:
            drawn = self._sketch.shapes()
            if not drawn:
                raise ValueError("Draw a rectangle on the image.")
            size = pixels_of(self._image).shape
            shape = tuple(int(size[self._axes.index(letter)]) for letter in "YX")
            return drawn_region(np.asarray(drawn[-1][0]), shape)
        return None

    def _chosen(self, value: Any = None) -> None:
        if self.box.value != DRAWN:
            self._sketch.close()
        elif self._image is not None and self._axes:
            self._sketch.open(self._image, self._axes, "add_rectangle")
        self.changed.emit()

    def _forget(self) -> None:
        """The user removed the rectangle's layer."""
        self.box.value = WHOLE

    def _moved(self, event: Any = None) -> None:
        if self.box.value == VIEW:
            self._rest.throttle()
