"""Rows of questions that have a name for eyes and for screen readers."""

from __future__ import annotations

from qtpy.QtWidgets import QFormLayout, QWidget

__all__ = ["add_rows"]


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
