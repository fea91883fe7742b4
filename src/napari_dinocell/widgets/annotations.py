"""What the user has said about cells, gathered from the layers of a viewer."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from napari.layers import Shapes
from skimage.draw import ellipse, polygon2mask
from skimage.measure import label as components

from napari_dinocell.core.axes import output_axes
from napari_dinocell.widgets.corrected import corrected_by, is_correction, origin_of
from napari_dinocell.widgets.origin import Origin
from napari_dinocell.widgets.placement import Placement
from napari_dinocell.widgets.preview import METADATA_KEY

if TYPE_CHECKING:
    from napari_dinocell.core.adapt import Example

__all__ = [
    "AnnotatedLayer",
    "Counts",
    "count",
    "examples",
    "gather",
    "known_plane",
    "rectangles",
    "region_layer",
]

_COMPLETES = "completes"
_COLOR = "#35d0ff"
_LEAST_CELLS = 3  # as `core.adapt.folds` has it, which takes torch
_AREAS = ("rectangle", "ellipse", "polygon")

Mask = npt.NDArray[np.bool_]
Points = npt.NDArray[np.floating[Any]]


@dataclass(frozen=True, eq=False)
class AnnotatedLayer:
    """One layer of corrections with what belongs to it.

    The arrays are the layers' own: read them soon, and don't write them. Copies of a large stack
    would hold up the window at every correction.

    Attributes
    ----------
    origin : Origin
    corrected : int array of the layer's shape
        As in `core.corrections`: 0 says nothing, 1 is a deleted cell, the rest are verified.
    preview : int array of the same shape, or None
        The other cells on screen.
    regions : list of ((n, ndim) float array, str)
        Vertices, px of the layer, and kind of each shape in which every cell is right.
    """

    origin: Origin
    corrected: npt.NDArray[np.integer]
    preview: npt.NDArray[np.integer] | None
    regions: list[tuple[Points, str]]


@dataclass(frozen=True)
class Counts:
    """How much is annotated."""

    images: int = 0
    cells: int = 0
    deleted: int = 0
    regions: int = 0

    def sentence(self) -> str:
        """For the user."""
        if not (self.cells or self.deleted or self.regions):
            return "Nothing is annotated yet: accept, delete or correct some cells."
        parts = [_many(self.cells, "cell"), f"{self.deleted} deleted"]
        if self.regions:
            parts.append(_many(self.regions, "complete region"))
        told = f"{', '.join(parts)} on {_many(self.images, 'image')}."
        if self.cells < _LEAST_CELLS:
            return f"{told} From {_LEAST_CELLS} cells on it can be told whether that helps."
        if not (self.deleted or self.regions):
            return f"{told} Delete what is none, too: cells alone don't teach that."
        return told


def gather(viewer: Any) -> list[AnnotatedLayer]:
    """All corrections in a viewer, with the cells and complete regions that they go with."""
    found = []
    for layer in viewer.layers:
        origin = origin_of(layer) if is_correction(layer) else None
        if origin is None:
            continue
        below = corrected_by(viewer, layer)
        regions = [
            (np.array(points, float), str(kind))
            for shapes in _regions_of(viewer, layer)
            for points, kind in zip(shapes.data, shapes.shape_type, strict=True)
            if str(kind) in _AREAS
        ]
        preview = None if below is None else np.asarray(below.data)
        found.append(AnnotatedLayer(origin, np.asarray(layer.data), preview, regions))
    return found


def region_layer(viewer: Any, correction: Any) -> Any:
    """The layer in which complete regions of an image are drawn; made if there is none yet."""
    for layer in _regions_of(viewer, correction):
        return layer
    name = correction.name.removesuffix(" corrected")
    shapes = Shapes(
        ndim=correction.ndim,
        name=f"{name} complete",
        edge_color=_COLOR,
        face_color="transparent",
        edge_width=2,
        metadata={METADATA_KEY: {_COMPLETES: str(correction.unique_id)}},
        **Placement.of(correction).options(),
    )
    return viewer.add_layer(shapes)


def count(annotated: list[AnnotatedLayer]) -> Counts:
    """How much is annotated; cells of complete regions count."""
    images = cells = deleted = regions = 0
    for one in annotated:
        before = cells, deleted, regions
        for at in _positions(one):
            labels, background, _ = _plane(one, at)
            cells += len(np.setdiff1d(labels, [0]))
            deleted += int(components(background, connectivity=2, return_num=True)[1])
        regions += len(one.regions)
        images += (cells, deleted, regions) != before
    return Counts(images, cells, deleted, regions)


def examples(annotated: list[AnnotatedLayer]) -> list[Example]:
    """What `adapt` learns from, plane by plane; the pixels are read here.

    In a complete region the cells of the preview are right, too, those that cross its edge as a
    whole.
    """
    examples_of = import_module("napari_dinocell.core.adapt").examples_of
    found: list[Example] = []
    for one in annotated:
        origin = one.origin
        parts = [np.zeros(one.corrected.shape, kind) for kind in (np.int32, bool, bool)]
        for at in _positions(one):
            for whole, part in zip(parts, _plane(one, at), strict=True):
                whole[at] = part
        found += examples_of(
            origin.part.image(),
            parts[0],
            parts[1],
            parts[2],
            channel=origin.channel,
            scale=origin.scale,
            ranges=origin.ranges,
            name=origin.part.name,
        )
    return found


def known_plane(one: AnnotatedLayer, index: dict[str, int]) -> Mask:
    """Where something is annotated on a plane.

    Parameters
    ----------
    one : AnnotatedLayer
    index : dict
        Position of the plane on T and Z.

    Returns
    -------
    (Y, X) bool array
    """
    axes = output_axes(one.origin.part.axes)
    wanted = tuple(index.get(letter, slice(None)) for letter in axes)
    labels, background, complete = _plane(one, wanted)
    known: Mask = (labels > 0) | background | complete
    return known.T if axes.index("X") < axes.index("Y") else known


def rectangles(mask: Mask) -> list[tuple[int, int, int, int]]:
    """Cover a mask exactly with rectangles that do not overlap.

    Parameters
    ----------
    mask : (Y, X) bool array

    Returns
    -------
    list of (int, int, int, int)
        First and last + 1 of rows, then of columns: top, bottom, left, right.
    """
    open_: dict[tuple[int, int], int] = {}
    done = []
    for y in range(len(mask) + 1):
        runs: set[tuple[int, int]] = set()
        if y < len(mask):
            edges = np.flatnonzero(np.diff(mask[y].astype(np.int8), prepend=0, append=0))
            runs = {(int(a), int(b)) for a, b in edges.reshape(-1, 2)}
        for run in open_.keys() - runs:
            done.append((open_.pop(run), y, *run))
        for run in runs - open_.keys():
            open_[run] = y
    return sorted(done)


def _regions_of(viewer: Any, correction: Any) -> list[Any]:
    wanted = str(correction.unique_id)
    return [
        layer
        for layer in viewer.layers
        if layer.metadata.get(METADATA_KEY, {}).get(_COMPLETES) == wanted
    ]


def _positions(one: AnnotatedLayer) -> Iterator[tuple[Any, ...]]:
    """Key of each plane in the arrays on which anything is said."""
    axes = output_axes(one.origin.part.axes)
    outer = [n if a not in "YX" else 1 for n, a in zip(one.corrected.shape, axes, strict=True)]
    for position in np.ndindex(*outer):
        at = tuple(
            slice(None) if letter in "YX" else index
            for letter, index in zip(axes, position, strict=True)
        )
        if one.corrected[at].any() or any(_is_on(points, at) for points, _ in one.regions):
            yield at


def _is_on(points: Points, at: tuple[Any, ...]) -> bool:
    """Whether a shape was drawn on a plane."""
    outer = [i for i, index in enumerate(at) if not isinstance(index, slice)]
    return all(round(float(points[0, i])) == at[i] for i in outer)


def _plane(one: AnnotatedLayer, at: tuple[Any, ...]) -> tuple[npt.NDArray[np.int32], Mask, Mask]:
    """Labels, deleted cells and complete regions of one plane."""
    corrections = import_module("napari_dinocell.core.corrections")
    corrected = one.corrected[at]
    labels = np.where(corrected >= corrections.FIRST_VERIFIED, corrected, 0).astype(np.int32)
    complete = _region_mask(one.regions, at, corrected.shape)
    if one.preview is not None and complete.any():
        preview = one.preview[at]
        inside = np.isin(preview, np.setdiff1d(preview[complete], [0])) & (corrected == 0)
        labels[inside] = preview[inside].astype(np.int32) + int(labels.max(initial=0))
    return labels, corrected == corrections.REJECTED, complete


def _region_mask(
    regions: list[tuple[Points, str]], at: tuple[Any, ...], shape: tuple[int, ...]
) -> Mask:
    mask = np.zeros(shape, bool)
    plane = [i for i, index in enumerate(at) if isinstance(index, slice)]
    for points, kind in regions:
        if not _is_on(points, at):
            continue
        corners = points[:, plane]
        if kind == "ellipse":
            (y, x), (height, width) = corners.mean(axis=0), np.ptp(corners, axis=0) / 2
            mask[ellipse(y, x, height, width, shape=shape)] = True
        else:
            mask |= polygon2mask(shape, corners)
    return mask


def _many(n: int, what: str) -> str:
    return f"{n} {what}" if n == 1 else f"{n} {what}s"
