"""A combo box of magicgui whose options are set, not asked for."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from magicgui.widgets import ComboBox

from napari_dinocell.widgets.rows import keep_narrow

__all__ = ["OptionBox"]


class OptionBox(ComboBox):
    """A combo box whose options stay when napari resets those of a docked widget."""

    def __init__(self, label: str, tip: str, options: Sequence[Any] = ()) -> None:
        self._options = tuple(options)
        super().__init__(label=label, choices=self._current, nullable=False, tooltip=tip)
        self.native.setAccessibleName(label)
        keep_narrow(self.native)

    @property
    def options(self) -> Sequence[Any]:
        """Values, or pairs of text and value; the choice is kept where it is among new ones."""
        return self._options

    @options.setter
    def options(self, options: Sequence[Any]) -> None:
        self._options = tuple(options)
        self.reset_choices()

    def _current(self, widget: Any) -> Sequence[Any]:
        return self._options
