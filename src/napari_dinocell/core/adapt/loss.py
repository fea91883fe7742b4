"""What partial annotation says about each pixel, and the loss that follows from it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import ndimage
from torch import Tensor

from napari_dinocell.core.instances import Cut, ThresholdTree, confidence, flood
from napari_dinocell.core.prediction import Thresholds

LabelArray = npt.NDArray[np.int32]
MapArray = npt.NDArray[np.float32]
Mask = npt.NDArray[np.bool_]

_RING_END = 0.25  # weight of the outermost ring pixels; 1 beside the cell
_EDITED = 0.1  # a base cell of which more than this part is annotated was judged by the user
_CONFIDENT = 0.5
_VALLEY = ndimage.generate_binary_structure(2, 1).astype(bool)


def ring_width(diameter: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Width of the background ring around cells, px: an eighth of the diameter within 3 and 8."""
    return np.clip(diameter / 8, 3.0, 8.0)


@dataclass(frozen=True, eq=False)
class BaseMap:
    """What the base model says about a window.

    Attributes
    ----------
    values : (Y, X) float32 array
        Its distance map.
    tree : ThresholdTree
    cut : Cut
        Cells at the base's thresholds.
    confident : (n,) bool array
        Which cells of the cut are probably right.
    is_foreground : (Y, X) bool array
        Above the base's fill.
    peaks : (m + 1,) int array
        Flat index of a highest pixel of each basin; -1 for background.
    """

    values: MapArray
    tree: ThresholdTree
    cut: Cut
    confident: Mask
    is_foreground: Mask
    peaks: npt.NDArray[np.intp]

    @classmethod
    def of(cls, values: MapArray, at: Thresholds, coefficients: Mapping[str, float]) -> BaseMap:
        """Flood a map and cut it at the base's thresholds.

        Parameters
        ----------
        values : (Y, X) float32 array
            In [0, 1].
        at : Thresholds
            Of the base.
        coefficients : mapping
            Of the confidence, from the model card; without them every cell counts as confident.
        """
        tree = flood(values)
        cut = tree.cut(at.peak, at.fill, min_area=at.min_area, min_prominence=at.min_prominence)
        confident = (
            confidence(cut, coefficients) >= _CONFIDENT
            if coefficients
            else np.ones(len(cut.ids), bool)
        )
        return cls(values, tree, cut, confident, values > at.fill, basin_peaks(tree))


def basin_peaks(tree: ThresholdTree) -> npt.NDArray[np.intp]:
    """Flat index of a highest pixel of each basin, (n + 1,); -1 for background.

    A cell is named after its highest basin, so this is where the marker of a cell lies, too.
    """
    peaks = np.full(len(tree.heights), -1, np.intp)
    is_top = (tree.basins > 0) & (tree.quantized == tree.heights[tree.basins])
    flat = np.flatnonzero(is_top)
    peaks[tree.basins.ravel()[flat[::-1]]] = flat[::-1]
    return peaks


@dataclass(frozen=True, eq=False)
class Known:
    """Annotation of one window.

    Attributes
    ----------
    labels, empty : (Y, X) int32 array
        Cells and empty places by their number in the `Annotation`; 0 is unknown.
    distance : (Y, X) float32 array
        Target of all labeled cells, transformed before the window was cut.
    inside : (Y, X) bool array
        False in padding.
    diameters : (n + 1,) float array
        Of the cells by id, px.
    """

    labels: LabelArray
    empty: LabelArray
    distance: MapArray
    inside: Mask
    diameters: npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Supervision:
    """Target and weights of one window.

    Attributes
    ----------
    target, weight : (Y, X) float32 arrays
        Where the weight is 0, nobody knows.
    pull : (Y, X) float32 array
        1 where the map should not fall below the base's, -1 where it should not rise above it.
    ring : (Y, X) bool array
        Background around the cells in use.
    """

    target: MapArray
    weight: MapArray
    pull: MapArray
    ring: Mask


def supervise(known: Known, base: BaseMap, use_cells: Mask, use_empty: Mask) -> Supervision:
    """Pixel weights of some units of evidence.

    Parameters
    ----------
    known : Known
    base : BaseMap
        Of the same window.
    use_cells, use_empty : (n + 1,) and (m + 1,) bool arrays
        Units that count, by id; entry 0 is not looked at. The others have weight 0 and no pull.

    Returns
    -------
    Supervision

    Notes
    -----
    For each pixel, the first that applies::

        cell in use                    target distance, weight 1
        empty place in use             target 0, weight 1
        within 2 px of two cells       target 0, weight 1                           (valley)
        within the ring of a cell      target 0, weight 1 falling to 0.25 outwards  (ring)
        confident cell of the base     pulled up to the base's map, never down      (pull 1)
        annotation that is not in use  nothing
        all else                       pulled down to the base's map, never up      (pull -1)

    Without the pull down, cells alone would never say what is no cell, and an adapted map rises
    everywhere. It is so weak that a cell which the base overlooked may rise.

    The ring does not count where the base sees foreground that belongs to something else: pixels
    above fill whose basin has its maximum outside of all annotation. Foreground that climbs into
    the labeled cell is the base's idea of that same cell, and the user has corrected its outline.
    A cell of the base that was annotated by more than a tenth, or whose marker was, is not pulled up.
    """
    use_cells, use_empty = use_cells.copy(), use_empty.copy()
    use_cells[0] = use_empty[0] = False
    labels, empty = known.labels, known.empty
    free = (labels == 0) & (empty == 0) & known.inside
    used, cleared = use_cells[labels], use_empty[empty]
    ring, falling = _ring(np.where(used, labels, 0), known.diameters)
    ring &= free & ~(base.is_foreground & ~_climbs_into(base, ~free))
    valley = _between(np.where(used, labels, 0)) & free
    weight = np.where(ring, falling, 0.0)
    weight[valley | used | cleared] = 1.0
    weight[~known.inside] = 0.0
    pulled = np.zeros(len(base.tree.heights), bool)
    pulled[base.cut.ids] = base.confident & ~_judged(base, ~free & known.inside)
    unknown = free & (weight == 0)
    pull = np.where(pulled[base.cut.labels] & unknown, 1.0, 0.0)
    pull[unknown & (pull == 0)] = -1.0
    return Supervision(
        target=np.where(used, known.distance, 0).astype(np.float32),
        weight=weight.astype(np.float32),
        pull=pull.astype(np.float32),
        ring=ring | valley,
    )


def partial_loss(
    predicted: Tensor,
    target: Tensor,
    weight: Tensor,
    base: Tensor,
    pull: Tensor,
    up: float,
    down: float,
) -> Tensor:
    """Loss of maps of which only some pixels are known.

    Pseudo-code::

        known = sum(weight * (predicted - target)^2) / sum(weight)
        faded = sum((pull > 0) * max(0, base - predicted)^2) / sum(pull > 0)
        risen = sum((pull < 0) * max(0, predicted - base)^2) / sum(pull < 0)
        loss = known + up * faded + down * risen

    Parameters
    ----------
    predicted, target, weight, base, pull : (B, 1, Y, X) float tensors
        Maps in [0, 1]; see `Supervision`.
    up, down : float
        Weights of the two one-sided pulls.

    Returns
    -------
    scalar tensor
        0 where nothing is known, fades or rises.
    """
    known = (weight * (predicted - target).square()).sum() / weight.sum().clamp(min=1.0)
    keep, still = (pull > 0).to(predicted.dtype), (pull < 0).to(predicted.dtype)
    faded = (keep * (base - predicted).clamp(min=0).square()).sum() / keep.sum().clamp(min=1.0)
    risen = (still * (predicted - base).clamp(min=0).square()).sum() / still.sum().clamp(min=1.0)
    return known + up * faded + down * risen


def _ring(labels: LabelArray, diameters: npt.NDArray[np.float64]) -> tuple[Mask, MapArray]:
    """Pixels near cells, as wide as each cell demands, and their weight."""
    if not labels.any():
        return np.zeros(labels.shape, bool), np.zeros(labels.shape, np.float32)
    distance, nearest = ndimage.distance_transform_edt(labels == 0, return_indices=True)
    width = ring_width(diameters)[labels[tuple(nearest)]]
    ring = (distance > 0) & (distance <= width)
    falling = 1 - (1 - _RING_END) * np.clip((distance - 1) / np.maximum(width - 1, 1), 0, 1)
    return ring, falling.astype(np.float32)


def _between(labels: LabelArray) -> Mask:
    """Background within 2 px of two different cells."""
    near = ndimage.iterate_structure(_VALLEY, 2)
    highest = ndimage.maximum_filter(labels, footprint=near)
    far = np.iinfo(labels.dtype).max
    lowest = ndimage.minimum_filter(np.where(labels == 0, far, labels), footprint=near)
    between: Mask = (labels == 0) & (highest > 0) & (lowest < highest)
    return between


def _climbs_into(base: BaseMap, annotated: Mask) -> Mask:
    """Pixels whose basin has its maximum in the annotation."""
    own = np.zeros(len(base.peaks), bool)
    own[1:] = annotated.ravel()[base.peaks[1:]]
    return own[base.tree.basins]


def _judged(base: BaseMap, annotated: Mask) -> Mask:
    """Which cells of the base the user has labeled, changed or deleted."""
    covered = np.bincount(base.cut.labels[annotated], minlength=len(base.tree.heights))
    ids = base.cut.ids
    return (covered[ids] > _EDITED * base.cut.areas) | annotated.ravel()[base.peaks[ids]]
