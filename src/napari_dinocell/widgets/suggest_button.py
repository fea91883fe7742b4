"""The button that leads to the part of a plane in which the model is least sure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from napari.layers import Shapes
from qtpy.QtCore import Signal
from qtpy.QtWidgets import QPushButton, QWidget

from napari_dinocell.widgets.adapt_work import suggestion
from napari_dinocell.widgets.annotations import gather
from napari_dinocell.widgets.jobs import Job
from napari_dinocell.widgets.layers import camera_of
from napari_dinocell.widgets.placement import Placement

if TYPE_CHECKING:
    from napari_dinocell.core.adapt import Suggestion
    from napari_dinocell.widgets.preview import Preview

__all__ = ["SuggestButton"]

_TIP = "Go to the part of the plane on screen in which the model is least sure."
_SEGMENT_FIRST = "Segment an image first: its cells tell where the model is least sure."
_COLOR = "#ffb000"
_SIDE = 400.0  # screen px that the suggested window takes


class SuggestButton(QPushButton):
    """Jumps to where an annotation teaches most, and draws a frame around it.

    Signals
    -------
    said(str)
        A line for the user.
    """

    said = Signal(str)

    def __init__(self, viewer: Any, parent: QWidget | None = None) -> None:
        super().__init__("Where next?", parent)
        self._viewer = viewer
        self._preview: Preview | None = None
        self._job: Job | None = None
        self.frame: Any = None
        self.clicked.connect(self._look)
        self.follow(None)

    def follow(self, preview: Preview | None) -> None:
        """Look at the cells of another preview; None while there is none."""
        self._preview = preview
        self.setEnabled(preview is not None)
        self.setToolTip(_SEGMENT_FIRST if preview is None else _TIP)

    def _look(self, *_: Any) -> None:
        preview = self._preview
        if preview is None:
            return
        mine = preview.result.part
        marked = [one for one in gather(self._viewer) if one.origin.is_same_grid(mine)]
        annotated = marked[-1] if marked else None
        plane, thresholds = preview.plane, preview.values()
        self.setEnabled(False)
        self._job = Job(
            lambda _: suggestion(preview.prediction, thresholds, plane, annotated), self
        )
        self._job.step.connect(self.said.emit)
        self._job.succeeded.connect(lambda found: self._go(preview, plane, found))
        self._job.failed.connect(self.said.emit)
        self._job.ended.connect(lambda: self.setEnabled(self._preview is not None))
        self._job.start()

    def _go(self, preview: Preview, plane: int, found: Suggestion | None) -> None:
        if preview is not self._preview:
            return
        if found is None:
            self.said.emit("Nothing on this plane is in doubt.")
            return
        axes, index = preview.prediction.axes, preview.prediction.indices[plane]
        y, x = ((part.start - 0.5, part.stop - 0.5) for part in found.window)
        corners = [(y[0], x[0]), (y[0], x[1]), (y[1], x[1]), (y[1], x[0])]
        points = np.array([[{"Y": v, "X": u, **index}[a] for a in axes] for v, u in corners])
        self._draw(preview.layer, points)
        self._move(preview.layer, points)
        doubts = [
            f"{n} {one if n == 1 else many} that may be {what}"
            for n, one, many, what in (
                (found.n_markers, "cell", "cells", "none"),
                (found.n_saddles, "pair of cells", "pairs of cells", "one"),
            )
            if n
        ]
        what = " and ".join(doubts) or "cells near a threshold"
        self.said.emit(f"Look here: {what}.")

    def _draw(self, layer: Any, points: Any) -> None:
        """A frame; the one before goes."""
        if self.frame is not None and self.frame in self._viewer.layers:
            self._viewer.layers.remove(self.frame)
        active = self._viewer.layers.selection.active
        frame = Shapes(
            [points],
            shape_type="rectangle",
            name="look here",
            edge_color=_COLOR,
            face_color="transparent",
            edge_width=2,
            **Placement.of(layer).options(),
        )
        self.frame = self._viewer.add_layer(frame)
        # The user goes on with the tool that he had.
        self._viewer.layers.selection.active = active

    def _move(self, layer: Any, points: Any) -> None:
        """Center the window, large enough to work on."""
        shown = list(self._viewer.dims.displayed)
        world = np.array([layer.data_to_world(point) for point in points])
        offset = self._viewer.dims.ndim - world.shape[1]
        columns = [i - offset for i in shown if i >= offset]
        low, high = world[:, columns].min(axis=0), world[:, columns].max(axis=0)
        camera = camera_of(self._viewer)
        center = list(camera.center)
        center[-len(columns) :] = ((low + high) / 2).tolist()
        camera.center = tuple(center)
        camera.zoom = float(_SIDE / max((high - low).max(), 1e-9))
