"""Rows of questions and lines of text that have a name for eyes and for screen readers."""

from __future__ import annotations

from qtpy.QtCore import Qt
from qtpy.QtWidgets import QComboBox, QFormLayout, QLabel, QSizePolicy, QWidget

__all__ = ["add_rows", "keep_narrow", "text_line"]

_LETTERS = 10


def add_rows(form: QFormLayout, *rows: tuple[str, QWidget]) -> None:
    """Add widgets below each other, each as wide as there is room, with its name on the left.

    Parameters
    ----------
    form : QFormLayout
    rows : pairs of str and QWidget
        Without a name where the widget shows its own.
    """
    form.setFieldGrowthPolicy(QFormLayout.FieldGrowthPolicy.AllNonFixedFieldsGrow)
    for name, widget in rows:
        if name:
            widget.setAccessibleName(name)
        form.addRow(name, widget)


def keep_narrow(box: QComboBox) -> None:
    """Let long texts, such as names of files, be cut rather than make the dock wider."""
    box.setSizeAdjustPolicy(QComboBox.SizeAdjustPolicy.AdjustToMinimumContentsLengthWithIcon)
    box.setMinimumContentsLength(_LETTERS)
    box.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)


def text_line(name: str) -> QLabel:
    """A label that wraps, can be copied, and has a name for screen readers."""
    label = QLabel()
    label.setWordWrap(True)
    label.setAccessibleName(name)
    label.setTextInteractionFlags(Qt.TextInteractionFlag.TextSelectableByMouse)
    label.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Minimum)
    return label
