"""What is to be segmented, and how: the questions of the segment panel."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from napari.layers import Image
from qtpy.QtCore import Signal
from qtpy.QtWidgets import QFormLayout, QWidget

from napari_dinocell.core.axes import SAMPLE_NAMES
from napari_dinocell.core.axis_names import UNNAMED
from napari_dinocell.widgets.cell_size import CellSize
from napari_dinocell.widgets.combine import Combine, is_distance_map
from napari_dinocell.widgets.engine import Choice
from napari_dinocell.widgets.layers import (
    axes_of,
    axes_options,
    layer_part,
    level_factors,
    level_for,
    pixel_size_of,
    pixels_of,
    plane_index,
)
from napari_dinocell.widgets.option_box import OptionBox
from napari_dinocell.widgets.parts import LayerPart
from napari_dinocell.widgets.plane_range import PlaneRange
from napari_dinocell.widgets.preferences import preferences
from napari_dinocell.widgets.region import Region

__all__ = ["ALL_PLANES", "BY_SIZE", "RANGE", "THIS_PLANE", "SegmentForm"]

ALL_PLANES, THIS_PLANE, RANGE = "all planes", "this plane", "from … to …"
BY_SIZE = -1
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
        self._models: dict[str, Choice] = {}
        self.image = OptionBox("Image", "The image layer to segment.")
        self.combine = Combine(viewer, self)
        self.axes = OptionBox(
            "Axes", "What the dimensions are: T time, Z depth, C channel, Y, X, S color samples."
        )
        self.channel = OptionBox("Channel", "Which channel shows the cells.")
        self.planes = OptionBox(
            "Planes",
            "Segment the whole stack, only the plane in view, or some planes.",
            (ALL_PLANES, THIS_PLANE, RANGE),
        )
        self.range = PlaneRange(self)
        self.region = Region(viewer, self)
        self.model = OptionBox("Model", "Installed models.")
        self.cell_size = CellSize(viewer, self)
        self.level = OptionBox(
            "Level",
            "Of the image's pyramid. By cell size: the coarsest on which cells are as large as "
            "the model wants them; full resolution where their size is not known.",
        )
        self.device = OptionBox("Device", "Where the model runs.")
        self._rows = QFormLayout(self)
        self._rows.setContentsMargins(0, 0, 0, 0)
        self._rows.setFieldGrowthPolicy(QFormLayout.FieldGrowthPolicy.AllNonFixedFieldsGrow)
        for question in (self.image, self.combine.box, self.axes, self.channel, self.planes):
            self._rows.addRow(question.label, question.native)
        for name, row in self.range.rows.values():
            self._rows.addRow(name, row)
        self._rows.addRow(self.region.box.label, self.region.box.native)
        self._rows.addRow(self.model.label, self.model.native)
        for label, row in self.cell_size.rows:
            self._rows.addRow(label, row)
        for question in (self.level, self.device):
            self._rows.addRow(question.label, question.native)
        self.image.changed.connect(self._image_changed)
        self.axes.changed.connect(self._axes_changed)
        for question in (self.channel, self.model, self.level, self.device):
            question.changed.connect(self._tell)
        for needs in (self.planes, self.cell_size):
            needs.changed.connect(self._show_needed)
        for other in (self.combine, self.range, self.region):
            other.changed.connect(self._tell)
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
    def is_on_cpu(self) -> bool:
        """Whether the chosen device is the CPU; `auto` takes the first of the others."""
        value, devices = self.device.value, self.device.options
        return bool(value == "cpu" or (value == "auto" and devices[1] == "cpu"))

    def diameter_of(self, part: LayerPart) -> float | str | None:
        """What `Segmenter.predict` wants to know of the cells' size, in px of a part."""
        diameter = self.cell_size.diameter
        return diameter / part.factor if isinstance(diameter, float) else diameter

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
        planes: Mapping[str, int | slice] | None = None
        if self.planes.value == THIS_PLANE:
            planes = plane_index(layer, self._viewer.dims.point, axes)
        elif self.planes.value == RANGE:
            planes = self.range.slices()
        return layer_part(
            layer,
            axes,
            planes=planes,
            region=self.region.slices(),
            level=self._chosen_level(layer, axes),
            others=self.combine.layers(),
        )

    def refresh_layers(self, event: Any = None) -> None:
        """Offer the image layers that are there now, keeping the choice."""
        layers = [
            layer
            for layer in self._viewer.layers
            if isinstance(layer, Image) and not is_distance_map(layer)
        ]
        before = self.image.value
        self.image.options = [(layer.name, str(layer.unique_id)) for layer in layers]
        if before is None or self.image.value != before:
            self._image_changed()
        else:
            self.combine.set_image(self.layer, self.axes.value or "")
            self._show_needed()

    def choose_layer(self, layer: Any) -> None:
        """Take a layer, if it is one of the images."""
        if layer is not None and str(layer.unique_id) in self.image.choices:
            self.image.value = str(layer.unique_id)

    def offer_models(self, models: Sequence[Choice], devices: Sequence[str], default: str) -> None:
        """Fill in what the computer has."""
        is_first, before = not self._models, self.model.value
        self._models = {model.name: model for model in models}
        self.model.options = [(model.name, model.name) for model in models]
        if default and before not in self._models:
            self.model.value = default
        if is_first:
            # What is preferred but not there is tried all the same: loading says what is wrong.
            wanted = preferences().device
            self.device.options = tuple(dict.fromkeys([*devices, wanted]))
            self.device.value = wanted

    def _chosen_level(self, layer: Any, axes: str) -> int:
        """Of a pyramid; the one that suits the size of the cells, if the user leaves it open."""
        level = self.level.value if layer.multiscale else 0
        if level != BY_SIZE:
            return int(level)
        model = self._models.get(self.model.value)
        diameter = self.cell_size.diameter
        if model is None or diameter is None:
            return 0
        if diameter == "auto":
            size = pixel_size_of(layer, axes)
            if size is None or model.pixel_size_um is None:
                return 0
            diameter = model.diameter * model.pixel_size_um / math.sqrt(size[0] * size[1])
        return level_for(level_factors(layer, axes), float(diameter), model.diameter)

    def _image_changed(self, value: Any = None) -> None:
        layer = self.layer
        if layer is None:
            self.axes.options = ()
        else:
            options = list(axes_options(layer))
            is_open = UNNAMED in axes_of(layer)
            self.axes.options = [(_ASK, ""), *((o, o) for o in options)] if is_open else options
            if not is_open:
                # Not what was chosen for the image before.
                self.axes.value = options[0]
        self._axes_changed()

    def _axes_changed(self, value: Any = None) -> None:
        layer, axes = self.layer, self.axes.value or ""
        self.combine.set_image(layer, axes)
        self.channel.options = _channels(layer, axes)
        self.range.set_lengths(_lengths(layer, axes))
        self.level.options = _levels(layer, axes)
        self.cell_size.set_image(layer, axes)
        self.region.set_image(layer, axes)
        self._show_needed()

    def _show_needed(self, value: Any = None) -> None:
        """Hide the questions that this image does not raise."""
        axes, layer = self.axes.value or "", self.layer
        self._show(self.combine.box.native, self.combine.is_open)
        self._show(self.axes.native, len(self.axes.options) > 1)
        self._show(self.channel.native, "C" in axes or "S" in axes)
        self._show(self.planes.native, "T" in axes or "Z" in axes)
        for letter, (_, row) in self.range.rows.items():
            self._show(row, letter in axes and self.planes.value == RANGE)
        self._show(self.level.native, layer is not None and layer.multiscale)
        for _, row in self.cell_size.rows[1:]:
            self._show(row, self.cell_size.is_given)
        self._tell()

    def _show(self, field: QWidget, is_needed: bool) -> None:
        field.setVisible(is_needed)
        self._rows.labelForField(field).setVisible(is_needed)

    def _tell(self, value: Any = None) -> None:
        self.changed.emit()


def _channels(layer: Any, axes: str) -> list[tuple[str, int | None]]:
    """Options of the channel; none where there is only one."""
    if layer is not None and "C" in axes:
        count = pixels_of(layer).shape[axes.index("C")]
        return [(_ASK, None), *((str(i), i) for i in range(count))]
    if layer is not None and "S" in axes:
        return [("all (color)", -1), *((name, i) for i, name in enumerate(SAMPLE_NAMES))]
    return []


def _lengths(layer: Any, axes: str) -> dict[str, int]:
    """Planes along each of T and Z."""
    if layer is None:
        return {}
    shape = pixels_of(layer).shape
    return {letter: int(shape[axes.index(letter)]) for letter in "TZ" if letter in axes}


def _levels(layer: Any, axes: str) -> list[tuple[str, int]]:
    """Options of the level, with the size of each; none where there is only one."""
    if layer is None or not layer.multiscale or not axes:
        return []
    y, x = axes.index("Y"), axes.index("X")
    sizes = [(level.shape[y], level.shape[x]) for level in layer.data]
    return [
        ("by cell size", BY_SIZE),
        *((f"{i}: {height} x {width} px", i) for i, (height, width) in enumerate(sizes)),
    ]
