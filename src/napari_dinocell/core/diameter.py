"""How large the cells of an image are, and by how much to resize it for a model."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Any, cast

import numpy as np
import numpy.typing as npt

from napari_dinocell.core.instances import Cut, flood
from napari_dinocell.core.intensity import PlaneLike
from napari_dinocell.core.model.card import ModelCard
from napari_dinocell.core.prediction import Scaling
from napari_dinocell.core.rescale import ScaledPlane

__all__ = ["estimate_scaling", "scaling_for_diameter", "scaling_for_pixel_size"]

MapOf = Callable[[PlaneLike], npt.NDArray[np.floating[Any]]]

_SCALES = (2.0, 1.0, 0.5, 0.25)
_OVERVIEW = 256
_NOT_WORTH_IT = 1.2  # an estimate nearer to the model's diameter than this changes nothing
_LEAST_SCALE, _LARGEST_SCALE = 1 / 64, 16.0
_EXACT = 0.05  # relative difference of scale that no network notices


def scaling_for_diameter(card: ModelCard, diameter: float) -> Scaling:
    """Scaling at which cells of a diameter (px of the image) look as in training.

    Raises
    ------
    ValueError
        If the diameter is not positive, or so far from the model's that it must be a mistake.
    """
    if not diameter > 0 or not math.isfinite(diameter):
        raise ValueError(f"Diameter is {diameter}; it must be a positive number of pixels.")
    scale = card.diameter / diameter
    _check_scale(scale, f"Diameter {diameter:g} px", card)
    return Scaling(_snap(scale), float(diameter), "diameter")


def scaling_for_pixel_size(card: ModelCard, pixel_size_um: tuple[float, float] | None) -> Scaling:
    """Scaling from µm per pixel of image and model; none where one of them is not known."""
    if pixel_size_um is None or card.pixel_size_um is None:
        return Scaling()
    scale = math.sqrt(pixel_size_um[0] * pixel_size_um[1]) / card.pixel_size_um
    _check_scale(scale, f"Pixel size {pixel_size_um} um", card)
    return Scaling(_snap(scale), card.diameter / scale, "pixel size")


def estimate_scaling(planes: Iterable[PlaneLike], card: ModelCard, map_of: MapOf) -> Scaling:
    """Scaling from the cells that the model itself finds at several scales.

    Parameters
    ----------
    planes : iterable of (Y, X) or (Y, X, C) array-likes
        Normalized. The first in which cells are found decides.
    card : ModelCard
    map_of : callable
        Distance map of a whole normalized plane.

    Returns
    -------
    Scaling
        `reason` is "estimate", or "no cells found" with scale 1.

    Notes
    -----
    Looks at the part with most structure, at 2, 1, 1/2 and 1/4 of the size, in windows of one tile
    of the network. A scale counts by the area of its cells times their mean map, and less
    the more their median diameter differs from the model's. The winner's diameter is measured
    again at the scale that it implies, if that is off by more than a fifth.
    """
    for plane in planes:
        found = _search(plane, card, map_of)
        if found is not None:
            diameter, n_cells = found
            scale = card.diameter / diameter
            if max(scale, 1 / scale) < _NOT_WORTH_IT:
                scale = 1.0
            return Scaling(scale, diameter, "estimate", n_cells)
    return Scaling(1.0, None, "no cells found")


def _search(plane: PlaneLike, card: ModelCard, map_of: MapOf) -> tuple[float, int] | None:
    center = _busiest_point(plane)
    best: tuple[float, float, int] | None = None
    best_score = 0.0
    for scale in _SCALES:
        if scale < 1 and min(plane.shape[:2]) * scale < 32:
            continue
        score, diameter, n_cells = _look(plane, scale, center, card, map_of)
        if score > best_score:
            best_score, best = score, (scale, diameter, n_cells)
    if best is None:
        return None
    scale, diameter, n_cells = best
    implied = float(np.clip(card.diameter / diameter, _LEAST_SCALE, 4.0))
    if max(implied / scale, scale / implied) > _NOT_WORTH_IT:
        score, again, n_again = _look(plane, implied, center, card, map_of)
        if score > 0:
            return again, n_again
    return diameter, n_cells


def _look(
    plane: PlaneLike, scale: float, center: tuple[float, float], card: ModelCard, map_of: MapOf
) -> tuple[float, float, int]:
    """Score of a scale, and the median diameter (px of the image) and number of its cells."""
    scaled = ScaledPlane(plane, scale)
    window = _window(scaled.shape[:2], center, card.tile)
    cut = flood(map_of(cast(PlaneLike, scaled[window]))).cut(
        card.peak, card.fill, min_area=card.min_area, min_prominence=card.min_prominence
    )
    diameters = _diameters(cut)
    if len(diameters) == 0:
        return 0.0, 0.0, 0
    median = float(np.median(diameters))
    share = float((cut.areas * cut.means).sum()) / cut.labels.size
    octaves = math.log2(median / card.diameter)
    return share * math.exp(-0.5 * octaves**2), median / scale, len(diameters)


def _diameters(cut: Cut) -> npt.NDArray[np.float64]:
    """Diameters (px) of discs as large as the cells; those that the window cuts do not count."""
    edge = [cut.labels[0], cut.labels[-1], cut.labels[:, 0], cut.labels[:, -1]]
    inside = ~np.isin(cut.ids, np.concatenate(edge))
    areas = cut.areas[inside] if inside.any() else cut.areas
    return 2.0 * np.sqrt(areas / np.pi)


def _window(shape: tuple[int, ...], center: tuple[float, float], tile: int) -> tuple[slice, slice]:
    parts = []
    for length, middle in zip(shape, center, strict=True):
        side = min(length, tile)
        start = round(min(max(middle * length - side / 2, 0), length - side))
        parts.append(slice(start, start + side))
    return parts[0], parts[1]


def _busiest_point(plane: PlaneLike) -> tuple[float, float]:
    """Where most structure is, as fractions of height and width."""
    overview = ScaledPlane(plane, min(1.0, _OVERVIEW / max(plane.shape[:2])))
    pixels = overview[:, :]
    gray = pixels.mean(axis=2) if pixels.ndim == 3 else pixels
    weight = np.abs(gray - np.median(gray)) + 1e-6
    return tuple(  # type: ignore[return-value]
        float((weight.sum(axis=1 - axis) * (np.arange(n) + 0.5)).sum() / weight.sum() / n)
        for axis, n in enumerate(gray.shape)
    )


def _snap(scale: float) -> float:
    return 1.0 if abs(scale - 1.0) < _EXACT else scale


def _check_scale(scale: float, given: str, card: ModelCard) -> None:
    if not _LEAST_SCALE <= scale <= _LARGEST_SCALE:
        raise ValueError(
            f"{given} would resize the image by {scale:.3g} for cells of {card.diameter:g} px; "
            "check it, or leave it out."
        )
