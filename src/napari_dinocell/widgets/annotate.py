"""Cells painted by hand: an empty labels layer that lies exactly on an image."""

from __future__ import annotations

import numpy as np
from napari.layers import Image
from napari.utils.notifications import show_warning
from napari.viewer import Viewer

from napari_dinocell.widgets.layers import axes_of, pixels_of
from napari_dinocell.widgets.placement import Placement

__all__ = ["paint_cells"]


def paint_cells(viewer: Viewer) -> None:
    """Add an empty labels layer to the chosen image, with the brush in hand.

    It has the image's scale, units and every other place in the world, no channels, and paints in
    one plane at a time.

    Parameters
    ----------
    viewer : napari.viewer.Viewer
        Given by napari. The active layer is taken if it is an image, else the topmost image.
    """
    active = viewer.layers.selection.active
    images = [layer for layer in viewer.layers if isinstance(layer, Image)]
    if isinstance(active, Image):
        images.append(active)
    if not images:
        show_warning("Open an image first; cells are painted on it.")
        return
    image = images[-1]
    axes = axes_of(image)
    shape = pixels_of(image).shape
    kept = [i for i, letter in enumerate(axes) if letter not in "CS"]
    try:
        placement = Placement.of(image).keep(kept)
    except ValueError as error:
        show_warning(str(error))
        return
    layer = viewer.add_labels(
        np.zeros([shape[i] for i in kept], np.uint16),
        name=f"{image.name} painted cells",
        **placement.options(),
    )
    layer.n_edit_dimensions = 2
    layer.preserve_labels = True
    layer.mode = "paint"
    viewer.layers.selection.active = layer
    viewer.status = "Paint a cell, press M, paint the next one."
