"""Examples: images with partial labels, and what of them is known at the network's scale.

Unlabeled is unknown. Known are labeled cells, what the user marked as empty (deleted cells above
all), and everything inside of regions that he declared complete.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from napari_dinocell.core.adapt.numbering import empty_units, numbered
from napari_dinocell.core.axes import output_axes, output_shape, planes
from napari_dinocell.core.diameter import (
    scaling_for_cells,
    scaling_for_diameter,
    scaling_for_pixel_size,
)
from napari_dinocell.core.images import Image, image_from_array
from napari_dinocell.core.intensity import IntensityRange, PlaneLike
from napari_dinocell.core.job import ImageJob
from napari_dinocell.core.model.card import ModelCard
from napari_dinocell.core.rescale import ScaledPlane, scaled_shape

LabelArray = npt.NDArray[np.int32]

_KINDS = ("Labels", "Background marks", "Complete regions")


@dataclass(frozen=True, eq=False)
class Example:
    """One plane with what the user knows about it.

    Attributes
    ----------
    image : Image or (Y, X) array
        A single plane; see `examples_of` for stacks. (Y, X, 3) arrays need `Image` with axes YXS.
    labels : (Y, X) int array
        Cells that are right. 0 is *unknown*, not background.
    background : (Y, X) bool or int array, optional
        Nonzero where there is surely no cell: footprints of deleted cells, marked background.
    complete_regions : (Y, X) bool or int array, optional
        Nonzero where every cell is labeled, so that 0 is background there.
    channel : int or str, optional
        See `axes.find_channel`.
    scale : float, optional
        Pixels of the network per pixel of the image, `Prediction.scale` of the prediction that was
        corrected.
    diameter : float, optional
        Median diameter of the cells, px of the image, where no scale is given; that of the labeled
        cells if this isn't, either.
    intensity : IntensityRange, optional
        Normalization, `Prediction.ranges[i]`; by default that of the plane.
    name : str
        For messages and the report.
    """

    image: Image | npt.NDArray[Any]
    labels: npt.NDArray[np.integer]
    background: npt.NDArray[Any] | None = None
    complete_regions: npt.NDArray[Any] | None = None
    channel: int | str | None = None
    scale: float | None = None
    diameter: float | None = None
    intensity: IntensityRange | None = None
    name: str = "image"

    def __post_init__(self) -> None:
        image = self.image
        if not isinstance(image, Image):
            image = image_from_array(image)
            object.__setattr__(self, "image", image)
        shape = output_shape(image)
        if len(shape) != 2:
            raise ValueError(
                f"{self.name} has the axes {image.axes}; an example is one plane, take examples_of."
            )
        if np.asarray(self.labels).dtype.kind not in "iu":
            raise TypeError(f"Labels of {self.name} are {self.labels.dtype}; give integers.")
        given = (self.labels, self.background, self.complete_regions)
        for what, array in zip(_KINDS, given, strict=True):
            if array is not None and array.shape != shape:
                raise ValueError(_misfit(what, self.name, array.shape, shape))
        if self.labels.size and self.labels.min() < 0:
            raise ValueError(f"Labels of {self.name} hold negative ids; use ids from 1.")


def examples_of(
    image: Image,
    labels: npt.NDArray[np.integer],
    background: npt.NDArray[Any] | None = None,
    complete_regions: npt.NDArray[Any] | None = None,
    *,
    channel: int | str | None = None,
    scale: float | None = None,
    diameter: float | None = None,
    ranges: Sequence[IntensityRange] | None = None,
    name: str | None = None,
) -> list[Example]:
    """Examples of all planes of a stack on which anything is annotated.

    Parameters
    ----------
    image : Image
        Of any T, Z, C, S axes.
    labels, background, complete_regions : arrays
        One axis per letter of `output_axes(image.axes)`; see `Example`.
    channel, scale, diameter
        See `Example`.
    ranges : sequence of IntensityRange, optional
        Normalization, one per plane.
    name : str, optional
        For messages; by default the image's source.

    Raises
    ------
    ValueError
        If the shapes or the channel do not fit.
    """
    axes, shape = output_axes(image.axes), output_shape(image)
    name = name or image.source or "image"
    given = (labels, background, complete_regions)
    for what, array in zip(_KINDS, given, strict=True):
        if array is not None and array.shape != shape:
            raise ValueError(_misfit(what, name, array.shape, shape))
    is_transposed = axes.index("X") < axes.index("Y")
    examples = []
    for number, (index, plane) in enumerate(planes(image, channel)):
        where = tuple(index.get(axis, slice(None)) for axis in axes)
        parts = [None if array is None else array[where] for array in given]
        if not any(part is not None and part.any() for part in parts):
            continue
        if is_transposed:
            parts = [None if part is None else part.T for part in parts]
        assert parts[0] is not None
        pixels = plane[:, :]
        place = " ".join(f"{axis} {n}" for axis, n in index.items())
        examples.append(
            Example(
                Image(pixels, "YXS" if pixels.ndim == 3 else "YX", image.pixel_size_um),
                parts[0],
                parts[1],
                parts[2],
                scale=scale,
                diameter=diameter,
                intensity=None if ranges is None else ranges[number],
                name=f"{name} {place}".strip(),
            )
        )
    return examples


@dataclass(frozen=True, eq=False)
class Annotation:
    """An example at the network's scale.

    Units of evidence are cells and empty places; folds hold out whole units.

    Attributes
    ----------
    name : str
    plane : (Y, X) or (Y, X, 3) float32 array-like
        Normalized; None where the plane shows nothing.
    scale : float
        Pixels of the network per pixel of the image.
    labels : (Y, X) int32 array
        Cells 1..n.
    empty : (Y, X) int32 array
        Places known to be background, 1..m; 0 elsewhere and on cells.
    complete : (Y, X) bool array
        Where every cell is labeled.
    diameters : (n + 1,) float array
        Of the cells by id, px; entry 0 is 0.
    """

    name: str
    plane: PlaneLike | None
    scale: float
    labels: LabelArray
    empty: LabelArray
    complete: npt.NDArray[np.bool_]
    diameters: npt.NDArray[np.float64] = field(repr=False)

    @property
    def n_cells(self) -> int:
        """Number of labeled cells."""
        return len(self.diameters) - 1

    @property
    def n_empty(self) -> int:
        """Number of places that are known to be empty."""
        return int(self.empty.max(initial=0))

    @property
    def shape(self) -> tuple[int, int]:
        """Height and width, px of the network."""
        height, width = self.labels.shape
        return height, width


def annotate(example: Example, card: ModelCard) -> Annotation:
    """Bring an example to the network's scale and number its units.

    The scale is the example's; else it follows from its diameter, else from the pixel sizes of
    image and model, else from the median diameter of its labeled cells; without any it is 1.

    Parameters
    ----------
    example : Example
    card : ModelCard
        Of the base: its input and its diameter, px.

    Returns
    -------
    Annotation
        Its `plane` is None where the image shows no contrast above its noise.

    Raises
    ------
    ValueError
        If the channel is absent, or the scale so far from 1 that it must be a mistake.
    """
    image = example.image
    assert isinstance(image, Image)
    ranges = None if example.intensity is None else [example.intensity]
    job = ImageJob(card, image, example.channel, ranges)
    scale = _scale_of(example, image, card)
    visible: PlaneLike | None = job.normalized(0)
    if visible is not None and scale != 1.0:
        visible = ScaledPlane(visible, scale)
    is_transposed = image.axes.index("X") < image.axes.index("Y")
    height, width = job.plane_shape
    shape = scaled_shape(height, width, scale)

    def scaled(array: npt.NDArray[Any] | None) -> npt.NDArray[Any]:
        if array is None:
            return np.zeros(shape, bool)
        return _nearest(array.T if is_transposed else array, shape)

    given = scaled(example.labels)
    labels, diameters = numbered(given)
    complete = scaled(example.complete_regions).astype(bool)
    marked = scaled(example.background).astype(bool) & (given == 0)
    return Annotation(
        name=example.name,
        plane=visible,
        scale=scale,
        labels=labels,
        empty=empty_units(marked, complete & (given == 0) & ~marked),
        complete=complete,
        diameters=diameters,
    )


def _scale_of(example: Example, image: Image, card: ModelCard) -> float:
    if example.scale is not None:
        return example.scale
    if example.diameter is not None:
        return scaling_for_diameter(card, example.diameter).scale
    scaling = scaling_for_pixel_size(card, image.pixel_size_um)
    if scaling is None:
        diameters = numbered(example.labels)[1][1:]
        if not len(diameters):
            return 1.0
        scaling = scaling_for_cells(card, float(np.median(diameters)), len(diameters))
    return scaling.scale


def _misfit(what: str, name: str, given: tuple[int, ...], wanted: tuple[int, ...]) -> str:
    return f"{what} of {name} have the shape {given}, the image has {wanted}; give one size."


def _nearest(array: npt.NDArray[Any], shape: tuple[int, int]) -> npt.NDArray[Any]:
    """Array of another size without new values."""
    if array.shape == shape:
        return array
    rows, columns = (
        np.minimum(((np.arange(n) + 0.5) * full / n).astype(np.intp), full - 1)
        for full, n in zip(array.shape, shape, strict=True)
    )
    return np.asarray(array[rows[:, None], columns[None, :]])
