"""The geometry of a crop: one warp that image and labels share.

Positions are pixel centers, (y, x). Planes go on beyond their edges as their mirror image
(the edge pixel is not repeated), as they do in inference.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from napari_dinocell.core.intensity import IntensityRange, normalize
from napari_dinocell.core.jit import kernel
from napari_dinocell.core.training.augment import AugmentConfig

FloatArray = npt.NDArray[np.float32]
PositionArray = npt.NDArray[np.float64]
LabelArray = npt.NDArray[np.int32]


@dataclass(frozen=True)
class Warp:
    """Map from crop to source: ``source = center + matrix @ (crop - middle) + shift(crop)``.

    Attributes
    ----------
    size : int
        Side of the crop, px.
    matrix : (2, 2) float64 array
        Source px per crop px.
    center : (2,) float64 array
        Source position of the middle of the crop.
    shift : (2, K, K) float64 array
        Coefficients of a cubic spline with knots `spacing` crop px apart, in source px; zeros for
        an affine warp. It vanishes slowly beyond the crop, so that the warp has no folds there.
    spacing : int
        See `shift`.
    """

    size: int
    matrix: PositionArray
    center: PositionArray
    shift: PositionArray
    spacing: int

    def positions(self, margin: int) -> PositionArray:
        """Return the source positions (2, Y, X) of the crop grown by `margin` px per side."""
        offset = np.arange(-margin, self.size + margin) - (self.size - 1) / 2
        points = np.empty((2, offset.size, offset.size))
        for axis in range(2):
            down, across = self.matrix[axis]
            np.add.outer(down * offset + self.center[axis], across * offset, out=points[axis])
        if self.shift.any():
            weights = _spline_weights(offset / self.spacing, self.shift.shape[1])
            points += weights @ self.shift @ weights.T
        return points

    def image(self, plane: npt.NDArray[Any], range_: IntensityRange) -> FloatArray:
        """Return the normalized plane, warped bilinearly, (C, Y, X).

        Where the plane shrinks by a factor r it is blurred before, so that fine texture does not
        alias. Blur and bilinear interpolation (variance 1/6 on average) together have the variance
        r**2 / 6 of the triangle by which inference resizes planes.
        """
        points = self.positions(0)
        shrink = max(float(np.sqrt(abs(np.linalg.det(self.matrix)))), 1.0)
        sigma = float(np.sqrt((shrink**2 - 1) / 6))
        window = _window(points, plane.shape[:2], pad=int(np.ceil(4 * sigma)) + 1)
        piece = normalize(plane[window], range_)
        piece = piece[..., None] if piece.ndim == 2 else piece
        if sigma > 0:
            piece = ndimage.gaussian_filter(piece, (sigma, sigma, 0), mode="mirror")
        warped = np.empty((piece.shape[2], self.size, self.size), dtype=np.float32)
        corner = np.array([s.start for s in window])
        _sample_linear(piece, corner, np.array(plane.shape[:2]), points, warped)
        return warped

    def labels(self, labels: LabelArray, margin: int) -> LabelArray:
        """Return the labels of the nearest pixels, of the crop grown by `margin`."""
        points = self.positions(margin)
        warped = np.empty(points.shape[1:], dtype=np.int32)
        _sample_nearest(labels, points, warped)
        return warped

    def is_inside(self, shape: tuple[int, int]) -> npt.NDArray[np.bool_]:
        """Whether each pixel of the crop (Y, X) lies on the plane, and not on its mirror image."""
        y, x = self.positions(0)
        on_y: npt.NDArray[np.bool_] = (y > -0.5) & (y < shape[0] - 0.5)
        on_x: npt.NDArray[np.bool_] = (x > -0.5) & (x < shape[1] - 0.5)
        return on_y & on_x

    def margin(self, boxes: PositionArray) -> int:
        """Return the least margin that holds boxes (N, 4: first and last y, x in the source)."""
        if not len(boxes):
            return 0
        corners = boxes[:, [[0, 1], [0, 3], [2, 1], [2, 3]]].reshape(-1, 2)
        inside = (corners - self.center) @ np.linalg.inv(self.matrix).T
        largest_shift = np.abs(self.shift).max() / np.sqrt(abs(np.linalg.det(self.matrix)))
        over = np.abs(inside).max() - (self.size - 1) / 2 + largest_shift + 2
        return max(int(np.ceil(over)), 0)


def draw_warp(
    shape: tuple[int, int],
    centers: PositionArray,
    size: int,
    scale: float,
    augment: AugmentConfig,
    rng: np.random.Generator,
) -> Warp:
    """Draw geometry and place; with nothing enabled, an aligned piece of the scaled plane.

    Parameters
    ----------
    shape : (height, width)
        Of the source, px.
    centers : (N, 2) float64 array
        Middles of the instances; the crop contains one of them most of the time.
    size : int
        Side of the crop, px.
    scale : float
        Crop px per source px.
    augment : AugmentConfig
        Probabilities and ranges.
    rng : Generator
        The only source of randomness.

    Returns
    -------
    Warp
        Inside the source where that is large enough, else around its middle.
    """
    turn = np.eye(2)
    if rng.random() < augment.right_angle:
        turn = np.linalg.matrix_power(np.array([[0.0, -1.0], [1.0, 0.0]]), int(rng.integers(4)))
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
    n_knots = int(np.ceil(1.5 * size / augment.elastic_spacing)) + 4
    shift = np.zeros((2, n_knots, n_knots))
    if rng.random() < augment.elastic:
        amount = rng.uniform(0.2, 1) * augment.elastic_limit / scale
        # Uniform and not normal: no rare large step between knots that would fold the plane.
        shift = rng.uniform(-amount, amount, shift.shape)
    center = _draw_center(np.array(shape, dtype=np.float64), centers, size, scale, matrix, rng)
    return Warp(size, matrix, center, shift, augment.elastic_spacing)


def _draw_center(
    shape: PositionArray,
    centers: PositionArray,
    size: int,
    scale: float,
    matrix: PositionArray,
    rng: np.random.Generator,
) -> PositionArray:
    """Draw the middle of the crop: near an instance or anywhere, inside the plane if it fits."""
    center = rng.uniform(0, shape) - 0.5
    if len(centers) and rng.random() < 0.7:
        offset = rng.uniform(-0.4 * size, 0.4 * size, 2)
        center = centers[int(rng.integers(len(centers)))] + matrix @ offset
    reach = np.abs(matrix).sum(axis=1) * size / 2
    fits = 2 * reach <= shape
    low = np.where(fits, reach, shape / 2) - 0.5
    high = np.where(fits, shape - reach, shape / 2) - 0.5
    center = np.clip(center, low, high)
    # Snap to the pixel grid of the scaled plane, so that pure copies stay pure copies.
    corner = (center + 0.5) * scale - size / 2
    snapped: PositionArray = (np.round(corner) + size / 2) / scale - 0.5
    return snapped


def _spline_weights(knots: PositionArray, n_knots: int) -> PositionArray:
    """Values (N, K) of the cubic B-splines around the middle at positions in units of knots."""
    distance = np.abs(knots[:, None] - (np.arange(n_knots) - (n_knots - 1) / 2))
    near = 2 / 3 - distance**2 + distance**3 / 2
    far = np.clip(2 - distance, 0, None) ** 3 / 6
    weights: PositionArray = np.where(distance < 1, near, far)
    return weights


def _window(points: PositionArray, shape: tuple[int, ...], pad: int) -> tuple[slice, slice]:
    """Return the part of the plane that holds all points, reflected ones included."""
    slices = []
    for axis_points, length in zip(points, shape, strict=True):
        low, high = float(axis_points.min()), float(axis_points.max())
        last = length - 1
        if low < -last or high > 2 * last:
            low, high = 0, last
        if low < 0:
            low, high = 0, max(high, -low)
        if high > last:
            low, high = min(low, 2 * last - high), last
        slices.append(slice(max(int(low) - pad, 0), min(int(np.ceil(high)) + 1 + pad, length)))
    return slices[0], slices[1]


@kernel
def _reflect(position: float, length: int) -> float:
    """Position on a plane of `length` px that shows the same as one on its mirror images."""
    last = length - 1.0
    if 0 <= position <= last:
        return position
    if last == 0:
        return 0.0
    position = abs(position) % (2 * last)
    return min(position, 2 * last - position)


@kernel
def _sample_linear(
    piece: FloatArray,
    corner: npt.NDArray[np.int64],
    shape: npt.NDArray[np.int64],
    points: PositionArray,
    warped: FloatArray,
) -> None:
    """Fill `warped` (C, Y, X) from `piece` (Y, X, C), the window at `corner` of a plane."""
    _, height, width = points.shape
    for row in range(height):
        for column in range(width):
            y = _reflect(points[0, row, column], shape[0]) - corner[0]
            x = _reflect(points[1, row, column], shape[1]) - corner[1]
            y0, x0 = int(y), int(x)
            y1, x1 = min(y0 + 1, piece.shape[0] - 1), min(x0 + 1, piece.shape[1] - 1)
            fy, fx = np.float32(y - y0), np.float32(x - x0)
            for channel in range(piece.shape[2]):
                top = piece[y0, x0, channel] * (1 - fx) + piece[y0, x1, channel] * fx
                bottom = piece[y1, x0, channel] * (1 - fx) + piece[y1, x1, channel] * fx
                warped[channel, row, column] = top * (1 - fy) + bottom * fy


@kernel
def _sample_nearest(labels: LabelArray, points: PositionArray, warped: LabelArray) -> None:
    """Fill `warped` (Y, X) with the labels of the nearest pixels."""
    _, height, width = points.shape
    for row in range(height):
        for column in range(width):
            y = _reflect(points[0, row, column], labels.shape[0])
            x = _reflect(points[1, row, column], labels.shape[1])
            warped[row, column] = labels[int(y + 0.5), int(x + 0.5)]
