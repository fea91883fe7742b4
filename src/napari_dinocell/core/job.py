"""One image on its way through the network: its planes, their normalization, their maps."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from napari_dinocell.core.axes import Plane, planes
from napari_dinocell.core.axis_names import check_axes
from napari_dinocell.core.images import Image, check_pixel_size, image_from_array, read_image
from napari_dinocell.core.inference import Cancel, PlaneTask
from napari_dinocell.core.intensity import IntensityRange, intensity_range, luminance, normalize
from napari_dinocell.core.mapstore import MEMORY_BYTES, MapStore
from napari_dinocell.core.model.card import ModelCard
from napari_dinocell.core.prediction import Scaling
from napari_dinocell.core.rescale import RowRestorer, ScaledPlane
from napari_dinocell.core.tiles import Blender, RowSink, TileGrid

__all__ = ["Diameter", "ImageJob", "ImageSource", "NormalizedPlane", "Options", "open_image"]

ImageSource = Image | npt.NDArray[Any] | str | Path
Diameter = float | str | Scaling | None
"""px, "auto", the scaling of another prediction, or None to resize nothing."""


class GrayPlane:
    """A (Y, X, 3) plane as its luminance, computed window by window."""

    def __init__(self, plane: Plane) -> None:
        self._plane = plane
        self.shape: tuple[int, ...] = plane.shape[:2]

    def __getitem__(self, window: tuple[slice, slice]) -> npt.NDArray[Any]:
        return luminance(self._plane[window])


class NormalizedPlane:
    """A plane normalized by one range, window by window.

    Parameters
    ----------
    plane : Plane or GrayPlane
    range_ : IntensityRange
        Of the whole plane.
    """

    def __init__(self, plane: Plane | GrayPlane, range_: IntensityRange) -> None:
        self._plane = plane
        self._range = range_
        self.shape: tuple[int, ...] = plane.shape

    def __getitem__(self, window: tuple[slice, slice]) -> npt.NDArray[np.float32]:
        return normalize(self._plane[window], self._range)


@dataclass(frozen=True)
class Options:
    """What a caller may say about images: arguments of `Segmenter.predict`."""

    channel: int | str | None
    diameter: Diameter
    ranges: Sequence[IntensityRange] | None
    cancel: Cancel | None


class ImageJob:
    """Makes a task of each plane, and takes the maps that come out.

    Parameters
    ----------
    card : ModelCard
    image : Image
    channel : int, str or None
        See `axes.find_channel`.
    ranges : sequence of IntensityRange, optional
        One per plane, instead of the planes' own.
    memory_bytes : int
        Maps above this go to a temporary file.

    Attributes
    ----------
    indices, planes : lists, one entry per plane
    ranges : list of IntensityRange or None
        None where a plane was not looked at yet.
    scaling : Scaling
        To be set before the first task.
    maps_folder : Path or None
        For the temporary file; to be set before the first task.
    n_done : int
        Planes whose maps are complete.

    Raises
    ------
    ValueError
        If the channel is not clear, or there are not as many ranges as planes.
    """

    def __init__(
        self,
        card: ModelCard,
        image: Image,
        channel: int | str | None = None,
        ranges: Sequence[IntensityRange] | None = None,
        memory_bytes: int = MEMORY_BYTES,
    ) -> None:
        found = list(planes(image, channel))
        self.card = card
        self.image = image
        self.indices = [index for index, _ in found]
        self.planes = [plane for _, plane in found]
        if ranges is not None and len(ranges) != len(found):
            raise ValueError(
                f"{len(ranges)} intensity ranges were given for {len(found)} planes; "
                "give one per plane."
            )
        self.ranges: list[IntensityRange | None] = list(ranges) if ranges else [None] * len(found)
        self.scaling = Scaling()
        self._memory_bytes = memory_bytes
        self.maps_folder: Path | None = None
        self.n_done = 0

    @property
    def plane_shape(self) -> tuple[int, int]:
        """Height and width of every plane, px."""
        return self.planes[0].shape[0], self.planes[0].shape[1]

    @cached_property
    def store(self) -> MapStore:
        """Where the maps go."""
        return MapStore(len(self.planes), self.plane_shape, self._memory_bytes, self.maps_folder)

    @cached_property
    def grid(self) -> TileGrid:
        """Tiles of every plane, at the network's scale."""
        if self.scaling.scale == 1.0:
            shape = self.plane_shape
        else:
            scaled = ScaledPlane(self.planes[0], self.scaling.scale).shape
            shape = (scaled[0], scaled[1])
        return TileGrid(*shape, self.card.tile, self.card.overlap)

    def range_of(self, number: int) -> IntensityRange:
        """Range of one plane, determined when first asked for."""
        known = self.ranges[number]
        if known is None:
            settings = self.card.input
            known = intensity_range(
                self._view(number), settings.percentiles, settings.contrast_floor
            )
            self.ranges[number] = known
        return known

    def normalized(self, number: int) -> NormalizedPlane | None:
        """One plane at its own scale, as the network wants it; None where it is empty."""
        range_ = self.range_of(number)
        return None if range_.is_empty else NormalizedPlane(self._view(number), range_)

    def task(self, number: int) -> PlaneTask:
        """One plane for `run_tiles`; its map goes to the store."""
        visible = self.normalized(number)
        sink: RowSink = partial(self._write, number)
        if self.scaling.scale != 1.0:
            scaled = (self.grid.height, self.grid.width)
            sink = RowRestorer(scaled, self.plane_shape, sink)
        if visible is None or self.scaling.scale == 1.0:
            return PlaneTask(visible, self.grid, Blender(self.grid, sink))
        shrunk = ScaledPlane(visible, self.scaling.scale)
        return PlaneTask(shrunk, self.grid, Blender(self.grid, sink))

    def notes(self) -> list[str]:
        """Sentences about what the user may want to know."""
        notes = []
        known = [range_ for range_ in self.ranges if range_ is not None]
        n_ignored = sum(range_.n_ignored for range_ in known)
        if n_ignored:
            notes.append(
                f"{n_ignored} of the pixels looked at are NaN, infinite or transparent; "
                "they were taken as background."
            )
        n_empty = sum(range_.is_empty for range_ in known)
        if n_empty:
            notes.append(f"{n_empty} of {len(known)} planes show no contrast above their noise.")
        if self.scaling.reason == "no cells found" and n_empty < len(known):
            notes.append("No cells were found to estimate the diameter from; nothing was resized.")
        return notes

    def _view(self, number: int) -> Plane | GrayPlane:
        plane = self.planes[number]
        is_color = len(plane.shape) == 3
        return GrayPlane(plane) if is_color and not self.card.input.color else plane

    def _write(self, number: int, top: int, rows: npt.NDArray[Any]) -> None:
        plane = self.planes[number]
        if plane.dtype.kind == "f":
            finite = np.isfinite(plane[top : top + len(rows), 0 : plane.shape[1]])
            rows[~(finite.all(axis=2) if finite.ndim == 3 else finite)] = 0.0
        self.store.write(number, top, rows)


def open_image(
    source: ImageSource, axes: str | None, pixel_size_um: float | tuple[float, float] | None
) -> Image:
    """Image of whatever `Segmenter.predict` takes; what is given overrides what it says itself."""
    if isinstance(source, str | Path):
        return read_image(source, axes, pixel_size_um)
    if not isinstance(source, Image):
        return image_from_array(source, axes, pixel_size_um)
    if axes is not None:
        source = replace(source, axes=check_axes(axes, len(source.axes)))
    if pixel_size_um is not None:
        source = replace(source, pixel_size_um=check_pixel_size(pixel_size_um))
    return source
