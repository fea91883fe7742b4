"""Combo boxes that ask for a layer of a viewer, and for the axes of one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from qtpy.QtWidgets import QComboBox, QWidget

from napari_dinocell.core.axis_names import UNNAMED
from napari_dinocell.widgets.layers import axes_of, axes_options
from napari_dinocell.widgets.rows import keep_narrow

__all__ = ["AxesBox", "LayerBox"]


class LayerBox(QComboBox):
    """Offers the layers that are there now; the choice outlives other layers and new names.

    Parameters
    ----------
    viewer : napari viewer
    is_wanted : callable
        Whether a layer is offered.
    none : str, optional
        Text of a choice that stands for no layer.
    """

    def __init__(
        self,
        viewer: Any,
        is_wanted: Callable[[Any], bool],
        none: str | None = None,
        parent: QWidget | None = None,
    ) -> None:
        super().__init__(parent)
        self._viewer, self._is_wanted, self._none = viewer, is_wanted, none
        keep_narrow(self)
        events = viewer.layers.events
        for event in (events.inserted, events.removed, events.reordered):
            event.connect(self.refresh)
        for layer in viewer.layers:
            layer.events.name.connect(self.refresh)
        self.refresh()

    @property
    def layer(self) -> Any:
        """The chosen layer, or None."""
        chosen = self.currentData()
        for layer in self._viewer.layers:
            if str(layer.unique_id) == chosen:
                return layer
        return None

    def choose(self, layer: Any) -> None:
        """Take a layer, if it is offered."""
        at = -1 if layer is None else self.findData(str(layer.unique_id))
        if at >= 0:
            self.setCurrentIndex(at)

    def refresh(self, event: Any = None) -> None:
        """Offer what is there now."""
        if event is not None and getattr(event, "type", "") == "inserted":
            event.value.events.name.connect(self.refresh)
        before = self.currentData()
        self.blockSignals(True)
        self.clear()
        if self._none is not None:
            self.addItem(self._none, "")
        for layer in self._viewer.layers:
            if self._is_wanted(layer):
                self.addItem(layer.name, str(layer.unique_id))
        at = self.findData(before)
        if at < 0 and self.count():
            at = self.count() - 1 if self._none is None else 0
        self.setCurrentIndex(at)
        self.blockSignals(False)
        if self.currentData() != before:
            self.currentIndexChanged.emit(self.currentIndex())


class AxesBox(QComboBox):
    """Asks what the dimensions of a labels layer are; never guesses where the layer is silent."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setToolTip("What the dimensions are: T time, Z depth, Y, X.")

    def ask(self, layer: Any) -> None:
        """Offer what the axes of a layer may be; nothing if there is none."""
        self.clear()
        if layer is not None:
            if UNNAMED in axes_of(layer):
                self.addItem("choose …", "")
            for option in axes_options(layer):
                if not set(option) & set("CS"):
                    self.addItem(option, option)
        self.setEnabled(self.is_open)

    @property
    def is_open(self) -> bool:
        """Whether there is something to choose."""
        return bool(self.count() > 1)

    @property
    def axes(self) -> str:
        """One letter per dimension; empty while they are not chosen."""
        return self.currentData() or ""

    def chosen(self, layer: Any) -> str:
        """The axes of the layer that was asked about.

        Raises
        ------
        ValueError
            While they are not chosen.
        """
        if not self.axes:
            shape = " x ".join(str(n) for n in layer.data.shape)
            raise ValueError(f"Shape {shape} does not tell which axis is which: choose the axes.")
        return self.axes
