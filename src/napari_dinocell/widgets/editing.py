"""The tools that correct cells: buttons, keys, and lines drawn on the canvas."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from qtpy.QtCore import Signal
from qtpy.QtWidgets import QGridLayout, QLabel, QPushButton, QVBoxLayout, QWidget

from napari_dinocell.widgets.corrector import Corrector
from napari_dinocell.widgets.preview import Preview

__all__ = ["KEYS", "EditTools"]

ACCEPT, DELETE, MERGE, SPLIT = "Accept", "Delete", "Merge", "Split"
DRAW, REDRAW = "New cell", "Redraw"

# Good, wrong, join, cut (k), new, shape: keys that napari uses for no kind of layer.
KEYS = {ACCEPT: "G", DELETE: "W", MERGE: "J", SPLIT: "K", DRAW: "N", REDRAW: "H"}

_TIPS = {
    ACCEPT: "Keep cells as they are: click them, or draw across several.",
    DELETE: "Click cells that are none, or draw across several.",
    MERGE: "Draw from one cell into the next: they become one.",
    SPLIT: "Draw across a cell from edge to edge.",
    DRAW: "Paint a cell that was not found.",
    REDRAW: "Click a cell, then paint what it lacks or erase what is too much.",
}


class EditTools(QWidget):
    """Buttons to correct the cells of a preview.

    Signals
    -------
    said(str)
        A line for the user.
    """

    said = Signal(str)

    def __init__(self, viewer: Any, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.viewer = viewer
        self.corrector: Corrector | None = None
        self.tool = ""
        self.buttons: dict[str, QPushButton] = {}
        grid = QGridLayout()
        grid.setContentsMargins(0, 0, 0, 0)
        for number, (name, key) in enumerate(KEYS.items()):
            button = QPushButton(f"{name} ({key})")
            button.setCheckable(True)
            button.setToolTip(f"{_TIPS[name]} Ctrl+Z takes it back.")
            button.clicked.connect(self._toggler(name))
            grid.addWidget(button, number // 2, number % 2)
            self.buttons[name] = button
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        title = QLabel("Correct")
        layout.addWidget(title)
        layout.addLayout(grid)
        self.setEnabled(False)

    def attach(self, preview: Preview) -> None:
        """Correct the cells of another preview."""
        self.detach()
        self.corrector = Corrector(self.viewer, preview, self)
        self.corrector.said.connect(self.said.emit)
        self._bind(preview.layer)
        preview.closed.connect(self.detach)
        self.corrector.adopt_layer()
        if self.corrector.layer is not None:
            self._bind(self.corrector.layer)
        self.setEnabled(True)

    def detach(self) -> None:
        """Put the tools away."""
        self.put_away()
        if self.corrector is not None:
            self.corrector.close()
        self.corrector = None
        self.setEnabled(False)

    def take(self, tool: str) -> None:
        """Take a tool; the one in hand is put away, and only that if it is the same."""
        same = tool == self.tool
        self.put_away()
        if self.corrector is None or (same and tool != DRAW):
            return
        layer = self.corrector.ensure_layer()
        self._bind(layer)
        self._take_in_hand(tool)
        if tool == DRAW:
            self.corrector.draw()
            return
        for shown in (self.corrector.preview.layer, layer):
            shown.mode = "pan_zoom"
            shown.mouse_pan = False
        self.viewer.layers.selection.active = layer
        self.viewer.mouse_drag_callbacks.append(self._stroke)
        self.said.emit(f"{_TIPS[tool]} Escape ends.")

    def _take_in_hand(self, tool: str) -> None:
        assert self.corrector is not None
        self.tool = tool
        self.buttons[tool].setChecked(True)
        for layer in (self.corrector.preview.layer, self.corrector.layer):
            layer.bind_key("Escape", self.put_away, overwrite=True)

    def put_away(self, *_: Any) -> None:
        """Let the mouse move the picture again."""
        tool, self.tool = self.tool, ""
        for button in self.buttons.values():
            button.setChecked(False)
        if not tool:
            return
        if self._stroke in self.viewer.mouse_drag_callbacks:
            self.viewer.mouse_drag_callbacks.remove(self._stroke)
        if self.corrector is not None:
            self.corrector.brush.put_away()
            for layer in (self.corrector.preview.layer, self.corrector.layer):
                if layer is not None:
                    layer.mouse_pan = True
                    layer.bind_key("Escape", None)
        self.said.emit("")

    def apply(self, positions: list[Any]) -> None:
        """Use the tool in hand on a line of world coordinates."""
        if self.corrector is None:
            return
        if self.tool == REDRAW:
            self._redraw(positions)
            return
        uses: dict[str, Callable[[Any], None]] = {
            ACCEPT: self.corrector.accept,
            DELETE: self.corrector.reject,
            MERGE: self.corrector.merge,
            SPLIT: self.corrector.split,
        }
        uses[self.tool](self.corrector.path_of(positions))

    def _redraw(self, positions: list[Any]) -> None:
        """Exchange the tool for the brush, once a cell is found."""
        corrector = self.corrector
        assert corrector is not None
        cell = corrector.verified_under(corrector.path_of(positions))
        if cell is None:
            return
        self.put_away()
        self._take_in_hand(DRAW)
        corrector.redraw(cell)

    def _stroke(self, viewer: Any, event: Any) -> Iterator[None]:
        """Collect a line from press to release."""
        positions = [tuple(event.position)]
        yield
        while event.type == "mouse_move":
            positions.append(tuple(event.position))
            yield
        self.apply(positions)

    def _toggler(self, name: str) -> Callable[..., None]:
        def toggle(*_: Any) -> None:
            self.take(name)

        return toggle

    def _bind(self, layer: Any) -> None:
        """Give a layer the keys of the tools."""
        for name, key in KEYS.items():
            layer.bind_key(key, self._toggler(name), overwrite=True)
