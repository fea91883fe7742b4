"""Random training crops: one warp of image and labels, then the distance map."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import ndimage
from skimage import measure

from napari_dinocell.core.distance import distance_map
from napari_dinocell.core.intensity import IntensityRange, intensity_range, normalize
from napari_dinocell.core.training.augment import AugmentConfig, FloatArray, Pixels, change_pixels
from napari_dinocell.core.training.data import UNKNOWN, LabelArray, LabeledDataset

_SAMPLE_SIZE = 8192
_MIN_AREA = 4  # px; smaller pieces are slivers of the warp, and no network sees them
_SCALE_BOUNDS = (0.2, 5.0)


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
        0 is background, instances are 1..n.
    weight : (Y, X) float32 array
        0 where nobody annotated, 1 elsewhere.
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
    labels: LabelArray
    range_: IntensityRange
    sample: FloatArray  # (C, N), normalized
    centers: npt.NDArray[np.float64]  # (N, 2), y and x of the boxes of the instances


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
    before it shrinks. Labels are warped with a margin that grows until the instances in the crop
    are whole, and the distance is computed from them there, never warped itself. Parts beyond the
    image are its mirror image, as in inference, for the labels, too.
    """
    rng = np.random.default_rng(np.random.SeedSequence([seed, index]))
    image_index = int(rng.choice(len(dataset), p=dataset.probabilities))
    item = dataset[image_index]
    source: _Source = dataset.cache.get(
        (image_index, color), lambda: _prepare(dataset, image_index, color)
    )
    scale = _draw_scale(item.diameter, diameter, augment, rng)
    warp = _Warp.draw(source, size, scale, augment, rng)
    labels, distance, known = _warp_labels(source.labels, warp, lift)
    crop = warp.image(source)
    if not source.range_.is_empty:
        crop = change_pixels(Pixels(crop, source.sample), augment, rng).crop
    image = np.ascontiguousarray(np.broadcast_to(crop, (3, size, size)), dtype=np.float32)
    return Crop(image, distance, labels, known, item.set_name, image_index)


def _prepare(dataset: LabeledDataset, index: int, color: bool) -> tuple[_Source, int]:
    plane, labels = dataset.read(index)
    if plane.ndim == 3 and not color:
        plane = luminance(plane)
    range_ = intensity_range(plane)
    flat = plane.reshape(labels.size, -1)
    places = np.linspace(0, labels.size - 1, min(labels.size, _SAMPLE_SIZE)).astype(np.intp)
    sample = np.ascontiguousarray(normalize(flat[places], range_).T)
    boxes = [b for b in ndimage.find_objects(np.maximum(labels, 0)) if b is not None]
    centers = np.array([[(s.start + s.stop - 1) / 2 for s in b] for b in boxes]).reshape(-1, 2)
    source = _Source(plane, labels, range_, sample, centers)
    return source, plane.nbytes + labels.nbytes + sample.nbytes + centers.nbytes


def luminance(plane: npt.NDArray[Any]) -> FloatArray:
    """Return the luminance (Y, X) of an RGB plane (Y, X, 3), in its own units."""
    weights = np.array([0.2125, 0.7154, 0.0721], dtype=np.float32)
    return plane.astype(np.float32) @ weights


def _draw_scale(
    image_diameter: float, diameter: float | None, augment: AugmentConfig, rng: np.random.Generator
) -> float:
    scale = 1.0
    is_native = rng.random() < augment.native_scale
    if diameter is not None and np.isfinite(image_diameter) and not is_native:
        scale = diameter / image_diameter
    if rng.random() < augment.scale:
        scale *= float(np.exp(rng.uniform(*np.log(augment.scale_range))))
    return float(np.clip(scale, *_SCALE_BOUNDS))


@dataclass(frozen=True)
class _Warp:
    """Map from crop to source: source = matrix @ (crop - middle) + center + shift(crop)."""

    size: int
    matrix: npt.NDArray[np.float64]  # (2, 2)
    center: npt.NDArray[np.float64]  # (2,) source position of the middle of the crop
    shift: npt.NDArray[np.float64] | None  # (2, n, n) on a coarse grid, in source px
    spacing: int

    @staticmethod
    def draw(
        source: _Source, size: int, scale: float, augment: AugmentConfig, rng: np.random.Generator
    ) -> _Warp:
        """Draw geometry and place; with nothing enabled, an aligned piece of the scaled plane."""
        turn = np.eye(2)
        if rng.random() < augment.right_angle:
            turn = np.linalg.matrix_power(np.array([[0.0, -1.0], [1.0, 0.0]]), rng.integers(4))
        if rng.random() < augment.rotate:
            angle = rng.uniform(0, 2 * np.pi)
            turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
        for axis in range(2):
            if rng.random() < augment.flip:
                turn[axis] *= -1
        if rng.random() < augment.shear:
            limit = augment.shear_limit
            turn = turn @ (np.eye(2) + rng.uniform(-limit, limit, (2, 2)))
        matrix = turn / scale
        shift = None
        if rng.random() < augment.elastic:
            n = int(np.ceil(2 * size / augment.elastic_spacing)) + 4
            amount = augment.elastic_limit / scale * rng.uniform(0.2, 1) / 2
            shift = rng.normal(0, amount, (2, n, n))
        center = _draw_center(source, size, scale, matrix, rng)
        return _Warp(size, matrix, center, shift, augment.elastic_spacing)

    def coordinates(self, margin: int) -> npt.NDArray[np.float64]:
        """Return the source positions (2, Y, X) of the crop grown by `margin` px per side."""
        offset = np.arange(-margin, self.size + margin) - (self.size - 1) / 2
        (a, b), (c, d) = self.matrix
        column, row = offset[:, None], offset[None, :]
        points = np.stack((a * column + b * row, c * column + d * row))
        points += self.center[:, None, None]
        if self.shift is not None:
            # Position on the coarse grid does not depend on the margin, so neither does the warp.
            n = self.shift.shape[1]
            knots = np.clip(offset / self.spacing + (n - 1) / 2, 0, n - 1)
            spline = ndimage.spline_filter1d(np.eye(n), axis=1, mode="nearest")
            weights = ndimage.map_coordinates(
                spline,
                np.meshgrid(np.arange(n), knots, indexing="ij"),
                prefilter=False,
                mode="nearest",
            )
            points += weights.T @ self.shift @ weights
        return points

    def image(self, source: _Source) -> FloatArray:
        """Return the warped, normalized plane, (C, Y, X)."""
        points, window = _window(self.coordinates(0), source.labels.shape, pad=8)
        piece = normalize(source.plane[window], source.range_)
        channels = piece[None] if piece.ndim == 2 else np.moveaxis(piece, 2, 0)
        shrink = float(np.sqrt(abs(np.linalg.det(self.matrix))))
        if shrink > 1:
            sigma = (shrink - 1) / 2
            channels = ndimage.gaussian_filter(channels, (0, sigma, sigma), mode="mirror")
        return np.stack(
            [ndimage.map_coordinates(c, points, order=1, mode="nearest") for c in channels]
        )


def _draw_center(
    source: _Source,
    size: int,
    scale: float,
    matrix: npt.NDArray[np.float64],
    rng: np.random.Generator,
) -> npt.NDArray[np.float64]:
    """Draw the middle of the crop: near an instance or anywhere, inside the image if it fits."""
    shape = np.array(source.labels.shape, dtype=np.float64)
    center = rng.uniform(0, shape) - 0.5
    if len(source.centers) and rng.random() < 0.7:
        center = source.centers[rng.integers(len(source.centers))]
        center = center + matrix @ rng.uniform(-0.4 * size, 0.4 * size, 2)
    reach = np.abs(matrix).sum(axis=1) * size / 2
    center = np.where(
        2 * reach < shape, np.clip(center, reach - 0.5, shape - 0.5 - reach), shape / 2 - 0.5
    )
    # Snap to the pixel grid of the scaled plane, so that pure copies stay pure copies.
    corner = (center + 0.5) * scale - size / 2
    return (np.round(corner) + size / 2) / scale - 0.5


def _window(
    points: npt.NDArray[np.float64], shape: tuple[int, ...], pad: int
) -> tuple[npt.NDArray[np.float64], tuple[slice, slice]]:
    """Fold points beyond the image back by reflection; return them relative to a window."""
    folded, slices = [], []
    for axis_points, length in zip(points, shape, strict=False):
        low, high = axis_points.min(), axis_points.max()
        if low < 0 or high > length - 1:
            period = max(2 * (length - 1), 1)
            axis_points = np.abs((axis_points + length - 1) % period - (length - 1))
            axis_points = np.minimum(axis_points, length - 1)
            low, high = axis_points.min(), axis_points.max()
        start = max(int(low) - pad, 0)
        stop = min(int(np.ceil(high)) + 1 + pad, length)
        folded.append(axis_points - start)
        slices.append(slice(start, stop))
    return np.stack(folded), (slices[0], slices[1])


def _warp_labels(
    labels: LabelArray, warp: _Warp, lift: float
) -> tuple[LabelArray, FloatArray, FloatArray]:
    """Return labels, distance and weight of the crop, from instances that are whole."""
    size = warp.size
    for margin in (size // 8, size // 2, 2 * size):
        points, window = _window(warp.coordinates(margin), labels.shape, pad=0)
        warped = ndimage.map_coordinates(labels[window], points, order=0, mode="nearest")
        pieces = _split_pieces(warped)
        inner = np.s_[margin : margin + size, margin : margin + size]
        present = np.unique(pieces[inner])
        edge = np.concatenate((pieces[0], pieces[-1], pieces[:, 0], pieces[:, -1]))
        if not np.isin(edge[edge > 0], present).any():
            break
    lookup = np.zeros(int(pieces.max(initial=0)) + 1, dtype=np.int32)
    present = present[present > 0]
    lookup[present] = np.arange(1, len(present) + 1)
    pieces = lookup[pieces]
    distance = distance_map(pieces, lift)[inner]
    known = (warped[inner] != UNKNOWN).astype(np.float32)
    return np.ascontiguousarray(pieces[inner]), np.ascontiguousarray(distance), known


def _split_pieces(labels: LabelArray) -> LabelArray:
    """Number the 8-connected pieces of the instances from 1; drop slivers and unknown pixels."""
    pieces = measure.label(np.maximum(labels, 0), connectivity=2, background=0)
    areas = np.bincount(pieces.reshape(-1))
    is_kept = areas >= _MIN_AREA
    is_kept[0] = False
    numbers = np.cumsum(is_kept, dtype=np.int32)
    numbers[~is_kept] = 0
    return numbers[pieces]
