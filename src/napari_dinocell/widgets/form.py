"""What is to be segmented, and how: the questions of the segment panel."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from magicgui.widgets import ComboBox, FloatSpinBox
from napari.layers import Image
from qtpy.QtCore import Signal
from qtpy.QtWidgets import QFormLayout, QWidget

from napari_dinocell.core.axes import SAMPLE_NAMES
from napari_dinocell.core.axis_names import UNNAMED
from napari_dinocell.widgets.engine import Choice
from napari_dinocell.widgets.layers import (
    LayerPart,
    axes_of,
    axes_options,
    layer_part,
    pixels_of,
    plane_index,
    visible_region,
)

__all__ = ["SegmentForm"]

WHOLE, VIEW = "whole image", "current view"
ALL_PLANES, THIS_PLANE = "all planes", "this plane"
AS_IS, ESTIMATE, TYPED = "as in training", "estimate", "give it"
_ASK = "choose …"


class SegmentForm(QWidget):
    """The questions, each with an answer that is never guessed where the image leaves it open.

    Parameters
    ----------
    viewer : napari viewer

    Signals
    -------
    changed()
        An answer is another one.
    """

    changed = Signal()

    def __init__(self, viewer: Any) -> None:
        super().__init__()
        self._viewer = viewer
        self.image = OptionBox("Image", "The image layer to segment.")
        self.axes = OptionBox(
            "Axes", "What the dimensions are: T time, Z depth, C channel, Y, X, S color samples."
        )
        self.channel = OptionBox("Channel", "Which channel shows the cells.")
        self.planes = OptionBox("Planes", "Segment only the plane in view, or the whole stack.")
        self.planes.options = (ALL_PLANES, THIS_PLANE)
        self.region = OptionBox("Region", "The whole image, or what the canvas shows.")
        self.region.options = (WHOLE, VIEW)
        self.model = OptionBox("Model", "Installed models.")
        self.device = OptionBox("Device", "Where the model runs.")
        self.size = OptionBox(
            "Cell size",
            "The image is resized so that its cells are as large as those the model was trained "
            "on. Estimate looks at the image; or type their diameter.",
        )
        self.size.options = (AS_IS, ESTIMATE, TYPED)
        self.diameter = FloatSpinBox(
            label="Diameter", min=1, max=10000, step=1, value=30, tooltip="Of the cells, in pixels."
        )
        self._rows = QFormLayout(self)
        self._rows.setContentsMargins(0, 0, 0, 0)
        self._rows.setFieldGrowthPolicy(QFormLayout.FieldGrowthPolicy.AllNonFixedFieldsGrow)
        for question in (
            self.image,
            self.axes,
            self.channel,
            self.planes,
            self.region,
            self.model,
            self.size,
            self.diameter,
            self.device,
        ):
            self._rows.addRow(question.label, question.native)
        self.image.changed.connect(self._image_changed)
        self.axes.changed.connect(self._axes_changed)
        self.size.changed.connect(self._show_needed)
        for question in (self.channel, self.planes, self.region, self.model, self.diameter):
            question.changed.connect(self._tell)
        self.device.changed.connect(self._tell)
        self.refresh_layers()

    @property
    def layer(self) -> Any:
        """The chosen layer, or None."""
        for layer in self._viewer.layers:
            if str(layer.unique_id) == self.image.value:
                return layer
        return None

    @property
    def chosen_channel(self) -> int | None:
        """Number of the chosen channel; None where there is one, or color is used whole."""
        value = self.channel.value
        return None if value is None or value < 0 else int(value)

    @property
    def chosen_diameter(self) -> float | str | None:
        """What `Segmenter.predict` wants to know."""
        typed = float(self.diameter.value)
        return {AS_IS: None, ESTIMATE: "auto", TYPED: typed}[self.size.value]

    def part(self) -> LayerPart:
        """What is to be segmented.

        Raises
        ------
        ValueError
            One sentence about what is missing.
        """
        layer = self.layer
        if layer is None:
            raise ValueError("Open an image first (File menu, or drop it into the window).")
        axes = self.axes.value
        if not axes:
            shape = " x ".join(str(n) for n in pixels_of(layer).shape)
            raise ValueError(f"Shape {shape} does not tell which axis is which: choose the axes.")
        if "C" in axes and self.channel.value is None:
            raise ValueError("Choose the channel that shows the cells.")
        planes = None
        if self.planes.value == THIS_PLANE:
            planes = plane_index(layer, self._viewer.dims.point, axes)
        region = visible_region(layer, axes) if self.region.value == VIEW else None
        return layer_part(layer, axes, planes=planes, region=region)

    def refresh_layers(self, event: Any = None) -> None:
        """Offer the image layers that are there now, keeping the choice."""
        layers = [layer for layer in self._viewer.layers if isinstance(layer, Image)]
        before = self.image.value
        self.image.options = [(layer.name, str(layer.unique_id)) for layer in layers]
        if before is None or self.image.value != before:
            self._image_changed()

    def choose_layer(self, layer: Any) -> None:
        """Take a layer, if it is one of the images."""
        if layer is not None and str(layer.unique_id) in self.image.choices:
            self.image.value = str(layer.unique_id)

    def offer_models(self, models: Sequence[Choice], devices: Sequence[str], default: str) -> None:
        """Fill in what the computer has."""
        self.model.options = [(model.name, model.name) for model in models]
        if default:
            self.model.value = default
        self.device.options = tuple(devices)

    def _image_changed(self, value: Any = None) -> None:
        layer = self.layer
        if layer is None:
            self.axes.options = ()
        else:
            options = list(axes_options(layer))
            is_open = UNNAMED in axes_of(layer)
            self.axes.options = [(_ASK, ""), *((o, o) for o in options)] if is_open else options
        self._axes_changed()

    def _axes_changed(self, value: Any = None) -> None:
        layer, axes = self.layer, self.axes.value or ""
        if layer is not None and "C" in axes:
            count = pixels_of(layer).shape[axes.index("C")]
            self.channel.options = [(_ASK, None), *((str(i), i) for i in range(count))]
        elif layer is not None and "S" in axes:
            names = enumerate(SAMPLE_NAMES)
            self.channel.options = [("all (color)", -1), *((name, i) for i, name in names)]
        else:
            self.channel.options = ()
        self._show_needed()

    def _show_needed(self, value: Any = None) -> None:
        """Hide the questions that this image does not raise."""
        axes = self.axes.value or ""
        is_stack = self.layer is not None and len(pixels_of(self.layer).shape) > 2
        self._show(self.axes, is_stack)
        self._show(self.channel, "C" in axes or "S" in axes)
        self._show(self.planes, "T" in axes or "Z" in axes)
        self._show(self.diameter, self.size.value == TYPED)
        self._tell()

    def _show(self, question: Any, is_needed: bool) -> None:
        question.native.setVisible(is_needed)
        self._rows.labelForField(question.native).setVisible(is_needed)

    def _tell(self, value: Any = None) -> None:
        self.changed.emit()


class OptionBox(ComboBox):
    """A combo box whose options stay when napari resets those of a docked widget."""

    def __init__(self, label: str, tip: str) -> None:
        self._options: Sequence[Any] = ()
        super().__init__(label=label, choices=self._current, nullable=False, tooltip=tip)
        self.native.setAccessibleName(label)

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
