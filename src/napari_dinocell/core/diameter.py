"""How large the cells of an image are, and by how much to resize it for a model."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cache
from typing import Any, cast

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from napari_dinocell.core.confidence import confidence
from napari_dinocell.core.instances import Cut, flood
from napari_dinocell.core.intensity import PlaneLike
from napari_dinocell.core.model.card import ModelCard
from napari_dinocell.core.prediction import Scaling
from napari_dinocell.core.rescale import ScaledPlane

__all__ = [
    "choose_scaling",
    "estimate_scaling",
    "scaling_for_cells",
    "scaling_for_diameter",
    "scaling_for_pixel_size",
]

FloatArray = npt.NDArray[np.float32]
MapOf = Callable[[PlaneLike], npt.NDArray[np.floating[Any]]]

# Steps of scale are half octaves: the scale is 2 ** (step / 2).
_FIRST_LOOKS = (-2, 1)
_SURE = 0.4  # score: from here on the cells that were found tell enough
_LOOKS_IN_DOUBT = range(-3, 4)
_LAST_LOOK = 8
_LEAST_SIDE = 32  # px: smaller pictures of a plane show nothing
_WRONG_CELLS = 4
_OVERVIEW = 256
_SURROUNDINGS = 4.0  # px of the overview
_NOT_WORTH_IT = 1.2  # an estimate nearer to the model's diameter than this changes nothing
_LEAST_SCALE, _LARGEST_SCALE = 1 / 64, 16.0
_EXACT = 0.05  # relative difference of scale that no network notices


def choose_scaling(
    card: ModelCard,
    diameter: float | str | Scaling | None,
    pixel_size_um: tuple[float, float] | None,
    estimate: Callable[[], Scaling],
) -> Scaling:
    """Scaling for what a caller says about the diameter of the cells.

    Parameters
    ----------
    card : ModelCard
    diameter : float, "auto", Scaling or None
        As in `Segmenter.predict`.
    pixel_size_um : (float, float) or None
        Of the image.
    estimate : callable
        Looks at the image; called for "auto" where the pixel size tells nothing.

    Raises
    ------
    ValueError
        If it is another word, or not a possible diameter.
    """
    if diameter is None:
        return Scaling()
    if isinstance(diameter, Scaling):
        return diameter
    if diameter == "auto":
        return scaling_for_pixel_size(card, pixel_size_um) or estimate()
    if isinstance(diameter, str):
        raise ValueError(f"Diameter is {diameter!r}; give a number of pixels, or 'auto'.")
    return scaling_for_diameter(card, float(diameter))


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


def scaling_for_pixel_size(
    card: ModelCard, pixel_size_um: tuple[float, float] | None
) -> Scaling | None:
    """Scaling from µm per pixel of image and model; None where one of them is not known."""
    if pixel_size_um is None or card.pixel_size_um is None:
        return None
    scale = math.sqrt(pixel_size_um[0] * pixel_size_um[1]) / card.pixel_size_um
    _check_scale(scale, f"Pixel size {pixel_size_um} um", card)
    return Scaling(_snap(scale), card.diameter / scale, "pixel size")


def scaling_for_cells(card: ModelCard, diameter: float, n_cells: int) -> Scaling:
    """Scaling for the median diameter (px of the image) of a few cells; small changes are left out."""
    scale = float(np.clip(card.diameter / diameter, _LEAST_SCALE, _LARGEST_SCALE))
    if max(scale, 1 / scale) < _NOT_WORTH_IT:
        scale = 1.0
    return Scaling(scale, diameter, "estimate", n_cells)


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
    Looks at windows of one tile of the network, where the plane has most detail: at two sizes, then
    at the one to which the cells of the better look point, as long as that is better still. If the
    best is in doubt then, at seven sizes, half an octave apart, and further if the smallest or the
    largest is the best. A size counts by the mean confidence of its cells, as if a few wrong ones
    were among them (the only cell of a window is no proof), and less the more their median diameter
    differs from the model's.
    """
    for plane in planes:
        found = _search(plane, card, map_of)
        if found.score > 0:
            return scaling_for_cells(card, found.diameter, found.n_cells)
    return Scaling(1.0, None, "no cells found")


@dataclass(frozen=True)
class _Look:
    """The cells of a plane at one scale: how sure they are, and their diameter in px of the image."""

    score: float = 0.0
    diameter: float = 0.0
    n_cells: int = 0


def _search(plane: PlaneLike, card: ModelCard, map_of: MapOf) -> _Look:
    """The best look; its score is 0 where no scale shows a cell."""
    detail = _detail(plane)

    @cache
    def look(step: int) -> _Look:
        return _look(plane, detail, 2.0 ** (step / 2), card, map_of)

    def best_of(steps: Iterable[int]) -> int:
        return max(steps, key=lambda step: look(step).score)

    best = best_of(_FIRST_LOOKS)
    while look(best).score > 0:
        pointed = round(2 * math.log2(card.diameter / look(best).diameter))
        pointed = min(max(pointed, -_LAST_LOOK), _LAST_LOOK)
        if look(pointed).score <= look(best).score:
            break
        best = pointed
    if look(best).score >= _SURE:
        return look(best)
    best = best_of((best, *_LOOKS_IN_DOUBT))
    for direction in (-1, 1):
        while abs(best + direction) <= _LAST_LOOK and best_of((best, best + direction)) != best:
            best += direction
    return look(best)


def _look(
    plane: PlaneLike, detail: FloatArray, scale: float, card: ModelCard, map_of: MapOf
) -> _Look:
    if scale < 1 and min(plane.shape[:2]) * scale < _LEAST_SIDE:
        return _Look()
    scaled = ScaledPlane(plane, scale)
    center = _busiest_point(detail, card.tile / max(scaled.shape[:2]))
    window = _window(scaled.shape[:2], center, card.tile)
    cut = flood(map_of(cast(PlaneLike, scaled[window]))).cut(
        card.peak, card.fill, min_area=card.min_area, min_prominence=card.min_prominence
    )
    if len(cut.ids) == 0:
        return _Look()
    # A model without a fit of its confidence has the means of the map instead.
    chances = confidence(cut, card.confidence) if card.confidence else cut.means
    median = float(np.median(_diameters(cut)))
    octaves = math.log2(median / card.diameter)
    score = chances.sum() / (len(chances) + _WRONG_CELLS) * math.exp(-(octaves**2))
    return _Look(float(score), median / scale, len(cut.ids))


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


def _detail(plane: PlaneLike) -> FloatArray:
    """What differs from its surroundings, of a plane shrunk to (Y, X) of at most `_OVERVIEW` px.

    An even haze has none, however bright it is.
    """
    overview = ScaledPlane(plane, min(1.0, _OVERVIEW / max(plane.shape[:2])))
    pixels = np.asarray(overview[:, :], np.float32)
    gray = pixels.mean(axis=2) if pixels.ndim == 3 else pixels
    detail: FloatArray = np.abs(gray - ndimage.gaussian_filter(gray, _SURROUNDINGS))
    return detail


def _busiest_point(detail: FloatArray, side: float) -> tuple[float, float]:
    """Center of the square with most detail, as fractions of height and width.

    `side` is that of the square as a fraction of the longer one of the plane.
    """
    reach = max(1, round(side * max(detail.shape)))
    density = ndimage.uniform_filter(detail, min(reach, 2 * max(detail.shape)), mode="constant")
    y, x = np.unravel_index(int(density.argmax()), detail.shape)
    return (y + 0.5) / detail.shape[0], (x + 0.5) / detail.shape[1]


def _snap(scale: float) -> float:
    return 1.0 if abs(scale - 1.0) < _EXACT else scale


def _check_scale(scale: float, given: str, card: ModelCard) -> None:
    if not _LEAST_SCALE <= scale <= _LARGEST_SCALE:
        raise ValueError(
            f"{given} would resize the image by {scale:.3g} for cells of {card.diameter:g} px; "
            "check it, or leave it out."
        )
