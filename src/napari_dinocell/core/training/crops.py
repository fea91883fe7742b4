"""Random training crops: one warp of image and labels, then the distance map."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import ndimage
from skimage import measure

from napari_dinocell.core.distance import distance_map
from napari_dinocell.core.intensity import (
    IntensityRange,
    intensity_range,
    luminance,
    normalize,
)
from napari_dinocell.core.training.augment import AugmentConfig, FloatArray, Pixels, change_pixels
from napari_dinocell.core.training.data import UNKNOWN, LabelArray, LabeledDataset
from napari_dinocell.core.training.warp import PositionArray, Warp, draw_warp

_SAMPLE_SIZE = 8192
_MIN_AREA = 4  # px; smaller pieces are slivers of the warp, and no network sees them
_SCALE_BOUNDS = (0.2, 5.0)
_MAX_MARGIN = 2  # sides of the crop: what bounds the cost of an instance that fills the plane
_LEAST_COVER = 0.75  # of the side of the crop by the shorter side of the scaled plane


@dataclass(frozen=True)
class Crop:
    """One training sample.

    Attributes
    ----------
    image : (3, Y, X) float32 array
        Normalized as in inference, about [0, 1]; gray is repeated.
    distance : (Y, X) float32 array
        Target in [0, 1]. Instances cut by the edge of the crop have the values that they have
        when seen whole.
    labels : (Y, X) int32 array
        Instances are 1..n; 0 is background and what nobody annotated.
    weight : (Y, X) float32 array
        0 where nobody annotated and beyond the image, 1 elsewhere.
    set_name : str
        Set of the image.
    image_index : int
        Index of the image in the data set.
    """

    image: FloatArray
    distance: FloatArray
    labels: LabelArray
    weight: FloatArray
    set_name: str
    image_index: int


@dataclass(frozen=True)
class _Source:
    """A decoded image with what is computed once for all of its crops."""

    plane: npt.NDArray[Any]  # (Y, X) or (Y, X, 3), raw
    labels: LabelArray  # pieces of the instances, 1..N, or UNKNOWN
    range_: IntensityRange
    sample: FloatArray  # (C, N), normalized
    boxes: PositionArray  # (N, 4): first and last y, x of each piece
    centers: PositionArray  # (N, 2): y, x of the middles of the boxes


def draw_crop(
    dataset: LabeledDataset,
    index: int,
    *,
    seed: int,
    size: int,
    diameter: float | None,
    lift: float,
    augment: AugmentConfig,
    color: bool = True,
) -> Crop:
    """Draw the training crop number `index`.

    A pure function of its arguments: order, workers and restarts change nothing.

    Parameters
    ----------
    dataset : LabeledDataset
        Images are drawn by its probabilities.
    index : int
        Number of the crop, >= 0.
    seed : int
        Seed of the run, >= 0.
    size : int
        Side of the crop, px.
    diameter : float or None
        Median diameter (px) to which each image is scaled before the random factor; None leaves
        the images at their own scale.
    lift : float
        See `distance_map`.
    augment : AugmentConfig
        With `AugmentConfig.off()` the crop is a piece of the normalized, rescaled plane.
    color : bool
        Keep color; else RGB becomes luminance first.

    Returns
    -------
    Crop

    Notes
    -----
    Image and labels are warped once, bilinearly and by nearest neighbor; the image is blurred
    before it shrinks. Labels are warped with the margin that makes the instances in the crop whole,
    and the distance is computed from them there, never warped itself. Parts beyond the image are
    its mirror image, as in inference, and have no weight. Pieces below 4 px are dropped.
    """
    rng = np.random.default_rng(np.random.SeedSequence([seed, index]))
    image_index = int(rng.choice(len(dataset), p=dataset.probabilities))
    item = dataset[image_index]
    source: _Source = dataset.cache.get(
        (image_index, color), lambda: _prepare(dataset, image_index, color)
    )
    scale = _draw_scale(source.labels.shape, item.diameter, size, diameter, augment, rng)
    warp = draw_warp(source.labels.shape, source.centers, size, scale, augment, rng)
    labels, distance, weight = _warp_labels(source, warp, lift)
    crop = warp.image(source.plane, source.range_)
    if not source.range_.is_empty:
        crop = change_pixels(Pixels(crop, source.sample), augment, rng).crop
    image = np.ascontiguousarray(np.broadcast_to(crop, (3, size, size)), dtype=np.float32)
    return Crop(image, distance, labels, weight, item.set_name, image_index)


def _prepare(dataset: LabeledDataset, index: int, color: bool) -> tuple[_Source, int]:
    plane, labels = dataset.read(index)
    if plane.ndim == 3 and not color:
        plane = luminance(plane)
    range_ = intensity_range(plane)
    flat = plane.reshape(labels.size, -1)
    places = np.linspace(0, labels.size - 1, min(labels.size, _SAMPLE_SIZE)).astype(np.intp)
    sample = np.ascontiguousarray(normalize(flat[places], range_).T)
    pieces = split_pieces(labels)
    found = [(y.start, x.start, y.stop - 1, x.stop - 1) for y, x in ndimage.find_objects(pieces)]
    boxes = np.array(found, dtype=np.float64).reshape(-1, 4)
    centers = (boxes[:, :2] + boxes[:, 2:]) / 2
    pieces[labels == UNKNOWN] = UNKNOWN
    source = _Source(plane, pieces, range_, sample, boxes, centers)
    return source, sum(a.nbytes for a in (plane, pieces, sample, boxes, centers))


def _draw_scale(
    shape: tuple[int, ...],
    image_diameter: float,
    size: int,
    diameter: float | None,
    augment: AugmentConfig,
    rng: np.random.Generator,
) -> float:
    """Draw crop px per source px."""
    nominal = 1.0
    is_native = rng.random() < augment.native_scale
    if diameter is not None and np.isfinite(image_diameter) and not is_native:
        nominal = diameter / image_diameter
    scale = nominal
    if rng.random() < augment.scale:
        scale *= float(np.exp(rng.uniform(*np.log(augment.scale_range))))
    # A small plane shall not shrink further than needed: the rest would be mirror images.
    scale = max(scale, min(nominal, _LEAST_COVER * size / min(shape)))
    return float(np.clip(scale, *_SCALE_BOUNDS))


def _warp_labels(
    source: _Source, warp: Warp, lift: float
) -> tuple[LabelArray, FloatArray, FloatArray]:
    """Return labels, distance and weight of the crop, from instances that are whole."""
    size = warp.size
    warped = warp.labels(source.labels, 0)
    weight = (warp.is_inside(source.labels.shape) & (warped != UNKNOWN)).astype(np.float32)
    present = np.unique(warped)
    boxes = source.boxes[present[present > 0] - 1]
    margin = min(warp.margin(_with_mirror_images(boxes, source.labels.shape)), _MAX_MARGIN * size)
    if margin:
        warped = warp.labels(source.labels, margin)
    pieces = split_pieces(warped, min_area=_MIN_AREA)
    inner = np.s_[margin : margin + size, margin : margin + size]
    present = np.unique(pieces[inner])
    present = present[present > 0]
    numbers = np.zeros(int(pieces.max(initial=0)) + 1, dtype=np.int32)
    numbers[present] = np.arange(1, len(present) + 1)
    pieces = numbers[pieces]
    distance = np.ascontiguousarray(distance_map(pieces, lift)[inner])
    return np.ascontiguousarray(pieces[inner]), distance, weight


def _with_mirror_images(boxes: PositionArray, shape: tuple[int, ...]) -> PositionArray:
    """Grow the boxes of instances that touch the edge of the plane by their mirror images."""
    grown = boxes.copy()
    for axis, length in enumerate(shape):
        low, high = boxes[:, axis], boxes[:, axis + 2]
        grown[:, axis] = np.where(low <= 0, -high, low)
        grown[:, axis + 2] = np.where(high >= length - 1, 2 * (length - 1) - low, high)
    return grown


def split_pieces(labels: LabelArray, min_area: int = 1) -> LabelArray:
    """Number the 8-connected pieces of the instances from 1.

    Parameters
    ----------
    labels : (Y, X) int32 array
        Ids above 0 are instances, all else is background.
    min_area : int
        Pieces below become background, px.

    Returns
    -------
    (Y, X) int32 array
        Consecutive ids; a label in two pieces has two.
    """
    pieces = measure.label(np.maximum(labels, 0), connectivity=2, background=0)
    is_kept = np.bincount(pieces.reshape(-1)) >= min_area
    is_kept[0] = False
    numbers = np.cumsum(is_kept, dtype=np.int32)
    numbers[~is_kept] = 0
    split: LabelArray = numbers[pieces]
    return split
