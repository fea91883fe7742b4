"""Corrections of a preview: a second layer that only the user changes."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from qtpy.QtCore import QObject, QTimer, Signal

from napari_dinocell.widgets.brush import Brush
from napari_dinocell.widgets.corrected import (
    OUTLINE,
    adopt,
    corrected_layer,
    is_correction,
    origin_of,
)
from napari_dinocell.widgets.origin import Origin
from napari_dinocell.widgets.placement import Placement
from napari_dinocell.widgets.planes import plane_view
from napari_dinocell.widgets.preview import Preview

if TYPE_CHECKING:
    from napari_dinocell.core.corrections import Cells, Edit

__all__ = ["Corrector", "Path"]

Path = list[tuple[float, float]]
Indices = npt.NDArray[np.intp]


class Corrector(QObject):
    """Writes the user's decisions into the corrected layer, one undo step each.

    Signals
    -------
    said(str)
        What was done, or why it could not be.
    edited(object)
        The corrected layer is another one than a moment ago.
    """

    said = Signal(str)
    edited = Signal(object)

    def __init__(self, viewer: Any, preview: Preview, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self.viewer = viewer
        self.preview = preview
        self._rules = import_module("napari_dinocell.core.corrections")
        self._next = self._rules.FIRST_VERIFIED
        self._later = QTimer(self)
        self._later.setSingleShot(True)
        self._later.setInterval(0)
        self._later.timeout.connect(self._follow)
        self._painted = QTimer(self)
        self._painted.setSingleShot(True)
        self._painted.setInterval(0)
        self._painted.timeout.connect(self._take_strokes)
        # Outlines of a large layer take a while: not in the same breath as the layer itself.
        self._outlines = QTimer(self)
        self._outlines.setSingleShot(True)
        self._outlines.setInterval(0)
        self._outlines.timeout.connect(self._outline)
        self.brush = Brush(viewer, lambda: self._planes()[1], self._write, self)
        preview.layer.events.paint.connect(self._preview_painted)
        viewer.layers.events.removed.connect(self._layer_removed)

    @property
    def layer(self) -> Any:
        """The corrected layer; None before the first correction."""
        return self.preview.corrected

    def ensure_layer(self) -> Any:
        """The corrected layer, made if there is none yet."""
        if self.layer is not None:
            return self.layer
        below = self.preview.layer
        name = below.name.removesuffix(" cells")
        data = np.zeros(self.preview.prediction.shape, np.uint16)
        origin = Origin.of(self.preview.result)
        layer = corrected_layer(data, f"{name} corrected", Placement.of(below), origin, below)
        self._take(self.viewer.add_layer(layer))
        return self.layer

    def adopt_layer(self) -> None:
        """Go on with corrections of the same pixels, made before this run or read from a file."""
        part = self.preview.result.part
        for layer in self.viewer.layers:
            origin = origin_of(layer) if is_correction(layer) else None
            if (
                origin is not None
                and origin.is_same_grid(part)
                and layer.data.shape == self.preview.prediction.shape
            ):
                adopt(layer, self.preview.layer)
                layers = self.viewer.layers
                layers.move(layers.index(layer), len(layers))
                self._take(layer)
                self._follow()
                return

    def _take(self, layer: Any) -> None:
        """Write corrections into a layer, and listen to what the user does with it."""
        self.preview.corrected = layer
        layer.selected_label = self._new_id()
        layer.events.paint.connect(self._changed)
        layer.events.set_data.connect(self._changed)
        self._outlines.start()

    # -- decisions --------------------------------------------------------------------------------

    def accept(self, path: Path) -> None:
        """Verify the cells that a line touches."""
        cells = self._under(path)
        if not cells.preview:
            self.said.emit("No cell to accept there.")
            return
        self._apply(self._rules.accept(cells, *self._planes(), self._new_id()))
        self.said.emit(f"Accepted {_count(len(cells.preview))}.")

    def reject(self, path: Path) -> None:
        """Delete the cells that a line touches."""
        cells = self._under(path)
        if not len(cells):
            self.said.emit("No cell to delete there.")
            return
        self._apply(self._rules.reject(cells, *self._planes()))
        self.said.emit(f"Deleted {_count(len(cells))}.")

    def merge(self, path: Path) -> None:
        """Make one of the cells that a line touches."""
        cells = self._under(path)
        try:
            self._apply(self._rules.merge(cells, *self._planes(), self._new_id()))
        except ValueError as error:
            self.said.emit(str(error))
            return
        self.said.emit(f"Merged {_count(len(cells))} into one.")

    def split(self, path: Path) -> None:
        """Cut the cell that a line crosses."""
        plane = self.preview.plane
        distance = self.preview.prediction.maps[plane]
        try:
            edit = self._rules.split(path, *self._planes(), distance, self._new_id())
        except ValueError as error:
            self.said.emit(str(error))
            return
        self._apply(edit)
        self.said.emit(f"Split a cell into {len(np.unique(edit.values))}.")

    def draw(self) -> None:
        """Let the user paint a new cell with napari's own brush."""
        self._paint(self._new_id())
        self.said.emit("Paint one cell; press N for the next. Escape ends.")

    def redraw(self, cell: int) -> None:
        """Let the user change the shape of a verified cell."""
        self._paint(cell)
        self.said.emit("Paint what the cell lacks; 1 takes the eraser, 2 the brush. Escape ends.")

    def verified_under(self, path: Path) -> int | None:
        """Id of the first cell that a line touches, which is verified if it was not yet."""
        cells = self._under(path)
        if not len(cells):
            self.said.emit("No cell to redraw there.")
            return None
        if cells.verified:
            return int(cells.verified[0])
        cell = self._new_id()
        first = type(cells)(preview=cells.preview[:1])
        self._apply(self._rules.accept(first, *self._planes(), cell))
        return cell

    def _paint(self, cell: int) -> None:
        layer = self.ensure_layer()
        self.viewer.layers.selection.active = layer
        self.brush.take(layer, cell)

    def restore(self, corrected: npt.NDArray[np.integer]) -> None:
        """Take corrections that were made before, as one undo step; those of now come first."""
        layer = self.ensure_layer()
        at = np.nonzero((corrected > 0) & (layer.data == 0))
        values = corrected[at].astype(layer.data.dtype)
        layer.data_setitem(at, values)
        layer.selected_label = self._new_id()
        self._follow()
        n_cells = int(np.count_nonzero(np.unique(values) >= self._rules.FIRST_VERIFIED))
        self.said.emit(f"Restored {_count(n_cells)}, and what was deleted.")

    def path_of(self, positions: list[Any]) -> Path:
        """(y, x) pixels of the plane in view, of world coordinates."""
        axes = self.preview.prediction.axes
        points = [self.preview.layer.world_to_data(position) for position in positions]
        return [(float(p[axes.index("Y")]), float(p[axes.index("X")])) for p in points]

    # -- layers -----------------------------------------------------------------------------------

    def _under(self, path: Path) -> Cells:
        cells: Cells = self._rules.cells_under(path, *self._planes())
        return cells

    def _planes(self) -> tuple[npt.NDArray[np.integer], npt.NDArray[np.integer]]:
        """Preview and corrected plane in view."""
        plane, prediction = self.preview.plane, self.preview.prediction
        shown = plane_view(self.preview.layer.data, prediction, plane)
        return shown, plane_view(self.ensure_layer().data, prediction, plane)

    def _new_id(self) -> int:
        """First id that no cell of the corrected layer has."""
        self._next = max(self._next, int(self.ensure_layer().data.max()) + 1)
        return int(self._next)

    def _apply(self, edit: Edit) -> None:
        """Write an edit as one step of napari's history, and let the preview give way."""
        if not len(edit):
            return
        layer = self.ensure_layer()
        if int(edit.values.max()) > np.iinfo(layer.data.dtype).max:
            self.said.emit("The corrected layer is full (65 535 cells); export it and go on anew.")
            return
        self._write(edit.y, edit.x, edit.values)
        layer.selected_label = self._new_id()
        self.viewer.layers.selection.active = layer
        self._follow()

    def _write(self, y: Indices, x: Indices, values: npt.NDArray[np.integer]) -> None:
        """Change pixels of the corrected plane in view."""
        prediction = self.preview.prediction
        index = prediction.indices[self.preview.plane]
        at = {"Y": y, "X": x} | {axis: np.full(len(y), n) for axis, n in index.items()}
        layer = self.ensure_layer()
        indices = tuple(at[axis] for axis in prediction.axes)
        layer.data_setitem(indices, values.astype(layer.data.dtype))

    def _changed(self, event: Any = None) -> None:
        """The user painted, undid or redid: follow when the event loop comes to it."""
        self._later.start()

    def _follow(self) -> None:
        # An edit of ours tells of itself, too: once is enough.
        self._later.stop()
        self.preview.redraw()
        if self.layer is not None:
            self.edited.emit(self.layer)

    def _outline(self) -> None:
        if self.layer is not None:
            self.layer.contour = OUTLINE

    def _preview_painted(self, event: Any = None) -> None:
        self._painted.start()

    def _take_strokes(self) -> None:
        """Move what was painted into the preview to the corrected layer, and the brush with it."""
        preview = self.preview
        if not preview.is_following:
            return
        shown, corrected = self._planes()
        before = preview.shown_plane(preview.plane)
        edit = self._rules.painted(before, shown, corrected, self._new_id())
        brush = preview.layer
        mode, size = str(brush.mode), brush.brush_size
        brush.mode = "pan_zoom"
        self._apply(edit)
        self.layer.brush_size, self.layer.mode = size, mode
        self.said.emit("Your drawing is kept in the corrected layer: sliders don't change it.")

    def _layer_removed(self, event: Any) -> None:
        if self.layer is not None and event.value == self.layer:
            self.brush.put_away()
            self.preview.corrected = None
            self._later.start()

    def close(self) -> None:
        """Stop listening."""
        self.brush.put_away()
        self._later.stop()
        self._painted.stop()
        self._outlines.stop()
        if self.layer is not None:
            self.layer.events.paint.disconnect(self._changed)
            self.layer.events.set_data.disconnect(self._changed)
        self.viewer.layers.events.removed.disconnect(self._layer_removed)


def _count(n: int) -> str:
    return "1 cell" if n == 1 else f"{n} cells"
