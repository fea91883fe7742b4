"""Drawings that answer a question: a line across a cell, an ellipse around one, a rectangle."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from napari.layers import Shapes
from qtpy.QtCore import QObject, QTimer, Signal

from napari_dinocell.widgets.layers import camera_of
from napari_dinocell.widgets.placement import Placement

__all__ = ["Sketch", "drawn_diameter", "drawn_region"]

Points = npt.NDArray[np.floating[Any]]

_COLOR = "#ffb000"
_WIDTH = 2
_FINAL = ("added", "changed", "removed")


def drawn_diameter(points: Points, kind: str, scale: tuple[float, float] = (1.0, 1.0)) -> float:
    """Diameter of a cell that a shape was drawn across or around.

    Parameters
    ----------
    points : (n, 2) float array
        Vertices (y, x) in px; the corners of its box for an ellipse.
    kind : str
        Of shape, as napari calls it. A line is as long as the cell is wide, all others enclose it.
    scale : (float, float)
        Height and width of a pixel, in any unit.

    Returns
    -------
    float
        Px. Of an outline it is the diameter of the disc of the same area. Where pixels are not
        square, one pixel stands for the square of its area.
    """
    pixel = np.abs(np.asarray(scale, float)) / np.sqrt(abs(scale[0] * scale[1]))
    vertices = np.asarray(points, float) * pixel
    if kind == "line" or len(vertices) < 3:
        return float(np.hypot(*(vertices[-1] - vertices[0])))
    y, x = vertices.T
    area = 0.5 * abs(float(np.dot(y, np.roll(x, -1)) - np.dot(x, np.roll(y, -1))))
    if kind == "ellipse":
        area *= np.pi / 4
    return float(2 * np.sqrt(area / np.pi))


def drawn_region(points: Points, shape: Sequence[int]) -> tuple[slice, slice]:
    """Rows and columns of a plane that a drawn shape touches.

    Parameters
    ----------
    points : (n, 2) float array
        Vertices (y, x) in px; pixel centers are at whole numbers.
    shape : (int, int)
        Of the plane.

    Raises
    ------
    ValueError
        If the shape lies beside the plane.
    """
    low = np.maximum(np.floor(np.min(points, axis=0) + 0.5).astype(int), 0)
    high = np.minimum(np.floor(np.max(points, axis=0) + 0.5).astype(int) + 1, shape)
    if np.any(high <= low):
        raise ValueError("The rectangle lies beside the image; draw it on the image.")
    return slice(int(low[0]), int(high[0])), slice(int(low[1]), int(high[1]))


class Sketch(QObject):
    """A Shapes layer over an image, there for as long as a question needs it.

    Parameters
    ----------
    viewer : napari viewer
    name : str
        Of the layer.
    only_last : bool
        Whether a new shape replaces the one before.

    Signals
    -------
    drawn()
        A shape was added, changed or removed; told when the hand has let go.
    closed()
        The user removed the layer.
    """

    drawn = Signal()
    closed = Signal()

    def __init__(
        self, viewer: Any, name: str, *, only_last: bool = False, parent: QObject | None = None
    ) -> None:
        super().__init__(parent)
        self._viewer = viewer
        self._name = name
        self._only_last = only_last
        self._axes: tuple[int, int] = (0, 1)
        self.layer: Any = None
        # napari is still busy with a new shape when it tells of it.
        self._later = QTimer(self)
        self._later.setSingleShot(True)
        self._later.setInterval(0)
        self._later.timeout.connect(self._settle)

    def open(self, image: Any, axes: str, mode: str) -> None:
        """Let the user draw over an image.

        Parameters
        ----------
        image : napari Image layer
        axes : str
            Of its array.
        mode : str
            Tool of napari's to begin with.
        """
        if self.layer is None:
            self._axes = axes.index("Y"), axes.index("X")
            layer = Shapes(
                ndim=image.ndim,
                name=self._name,
                edge_color=_COLOR,
                face_color="transparent",
                edge_width=self._pen(image),
                **Placement.of(image).options(),
            )
            self.layer = self._viewer.add_layer(layer)
            self.layer.events.data.connect(self._changed)
            self._viewer.layers.events.removed.connect(self._removed)
        self._viewer.layers.selection.active = self.layer
        self.layer.mode = mode

    def close(self) -> None:
        """Remove the layer, if it is there."""
        if self.layer is None:
            return
        layer = self._forget()
        if layer in self._viewer.layers:
            self._viewer.layers.remove(layer)

    def shapes(self) -> list[tuple[Points, str]]:
        """Vertices (n, 2), in px (y, x) of the image, and kind of each shape."""
        if self.layer is None:
            return []
        kinds = self.layer.shape_type
        return [
            (np.asarray(points)[:, self._axes], str(kind))
            for points, kind in zip(self.layer.data, kinds, strict=True)
        ]

    def _pen(self, image: Any) -> float:
        """Width of a line that is thin on the screen, in px of the image."""
        pixel = abs(float(image.scale[self._axes[0]])) * float(camera_of(self._viewer).zoom)
        return float(_WIDTH / max(pixel, 1e-6))

    def _changed(self, event: Any) -> None:
        if str(event.action) in _FINAL:
            self._later.start()

    def _settle(self) -> None:
        if self.layer is None:
            return
        if self._only_last and len(self.layer.data) > 1:
            mode = self.layer.mode
            self.layer.selected_data = set(range(len(self.layer.data) - 1))
            self.layer.remove_selected()
            self.layer.mode = mode
            self._later.stop()
        self.drawn.emit()

    def _removed(self, event: Any) -> None:
        if self.layer is not None and event.value == self.layer:
            self._forget()
            self.closed.emit()

    def _forget(self) -> Any:
        layer, self.layer = self.layer, None
        self._later.stop()
        layer.events.data.disconnect(self._changed)
        self._viewer.layers.events.removed.disconnect(self._removed)
        return layer
