"""Which other layers show the same cells: channels that napari holds as layers of their own."""

from __future__ import annotations

from typing import Any

from napari.layers import Image
from qtpy.QtCore import QObject, Signal

from napari_dinocell.widgets.layers import pixels_of
from napari_dinocell.widgets.option_box import OptionBox
from napari_dinocell.widgets.placement import Placement
from napari_dinocell.widgets.preview import DISTANCE_MAP, METADATA_KEY

__all__ = ["Combine", "is_distance_map"]

ALONE = ""


class Combine(QObject):
    """The question of the other layers.

    Signals
    -------
    changed()
        The answer is another one.
    """

    changed = Signal()

    def __init__(self, viewer: Any, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self._viewer = viewer
        self._image: Any = None
        self.box = OptionBox(
            "With",
            "Other layers of the same place and size that show these cells, such as nuclei and "
            "cytoplasm. Each is normalized by itself, then their mean is segmented.",
            [("no other layer", ALONE)],
        )
        self.box.changed.connect(lambda value: self.changed.emit())

    @property
    def is_open(self) -> bool:
        """Whether there is something to choose."""
        return len(self.box.options) > 1

    def set_image(self, image: Any, axes: str) -> None:
        """Offer the layers that go with an image; none with one that has channels itself."""
        self._image = image
        others = []
        if image is not None and not set(axes) & set("CS"):
            others = [layer for layer in self._viewer.layers if goes_with(image, layer)]
        ids = [str(layer.unique_id) for layer in others]
        options = [("no other layer", ALONE)]
        options += [(layer.name, one) for layer, one in zip(others, ids, strict=True)]
        if len(ids) > 1:
            options.append((f"all {len(ids)} others", " ".join(ids)))
        self.box.options = options

    def layers(self) -> list[Any]:
        """The chosen layers.

        Raises
        ------
        ValueError
            If one of them was moved, replaced or removed since it was chosen.
        """
        wanted = str(self.box.value).split()
        found = [layer for layer in self._viewer.layers if str(layer.unique_id) in wanted]
        if len(found) < len(wanted) or not all(goes_with(self._image, one) for one in found):
            raise ValueError(
                f"The layers that go together with {self._image.name} have another size or place "
                "now; choose them again."
            )
        return found


def goes_with(image: Any, layer: Any) -> bool:
    """Whether a layer is another gray image of the same size and at the same place."""
    if layer == image or not isinstance(layer, Image) or is_distance_map(layer):
        return False
    if layer.rgb or layer.multiscale != image.multiscale:
        return False
    n_levels = len(image.data) if image.multiscale else 1
    if layer.multiscale and len(layer.data) != n_levels:
        return False
    shapes = [[tuple(pixels_of(one, n).shape) for n in range(n_levels)] for one in (image, layer)]
    return shapes[0] == shapes[1] and Placement.of(image).is_same(Placement.of(layer))


def is_distance_map(layer: Any) -> bool:
    """Whether a layer is no image, but what the sliders cut."""
    return DISTANCE_MAP in layer.metadata.get(METADATA_KEY, {})
