"""Segmentation by prototypes: what resembles the annotated cells counts as one more hint.

A research variant beside the adapted decoder, measured in the same benchmark: nothing is trained, a
handful of numbers is read off the features of the annotated cells.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from napari_dinocell.core.adapt.evidence import Evidence
from napari_dinocell.core.adapt.features import FeatureWindow
from napari_dinocell.core.adapt.fit import decode
from napari_dinocell.core.adapt.patches import Patch
from napari_dinocell.core.adapt.tuning import tune
from napari_dinocell.core.adapt.windows import Unit
from napari_dinocell.core.model.network import DINOCell
from napari_dinocell.core.prediction import Thresholds

_WEIGHTS = (0.25, 0.5, 1.0)
_CUTOFFS = (0.25, 0.5, 0.75)  # from the similarity of known background to that of cells
_MOST_UNITS = 30  # that choose weight and cutoff


@dataclass(frozen=True, eq=False)
class Prototype:
    """The mean cell in the space of features, level by level.

    Attributes
    ----------
    centers : list of (D,) float32 tensors
        Mean feature of the annotated windows, which all features are compared from.
    directions : list of (D,) float32 tensors
        Of length 1: from there to the mean over the annotated cells.
    """

    centers: list[Tensor]
    directions: list[Tensor]

    def similarity(self, features: Sequence[Tensor], shape: tuple[int, int]) -> Tensor:
        """Cosine between features and prototype, mean over the levels.

        Parameters
        ----------
        features : sequence of (B, D, y, x) float tensors
            See `DINOCell.features`.
        shape : (int, int)
            Of the map.

        Returns
        -------
        (B, 1, Y, X) float32 tensor, in [-1, 1]
        """
        maps = []
        for level, center, direction in zip(features, self.centers, self.directions, strict=True):
            moved = level.float() - center.to(level.device)[:, None, None]
            unit = functional.normalize(moved, dim=1)
            cosine = torch.einsum("bdyx,d->byx", unit, direction.to(level.device))[:, None]
            maps.append(
                functional.interpolate(cosine, size=shape, mode="bilinear", align_corners=False)
            )
        return torch.stack(maps).mean(dim=0)


class PrototypeNetwork(DINOCell):
    """A base whose map is raised where the features resemble the annotated cells, else lowered.

    map = clip(base + weight * (similarity - cutoff), 0, 1): the similarity says what is a cell, the
    base where one ends and the next begins.
    """

    def __init__(
        self, base: DINOCell, prototype: Prototype, *, weight: float, cutoff: float
    ) -> None:
        super().__init__(base.encoder, base.decoder)
        self.prototype, self.weight, self.cutoff = prototype, weight, cutoff
        self.to(next(base.parameters()).device).eval()

    def decode(self, features: Sequence[Tensor], x: Tensor) -> Tensor:
        """As `DINOCell.decode`."""
        map_ = super().decode(features, x)
        height, width = map_.shape[-2:]
        similarity = self.prototype.similarity(features, (height, width))
        return (map_ + self.weight * (similarity.to(map_.dtype) - self.cutoff)).clamp(0, 1)


def mean_prototype(windows: Sequence[FeatureWindow]) -> Prototype:
    """Average the features of all annotated cells, each cell counting once per window.

    Parameters
    ----------
    windows : sequence of FeatureWindow
        With features and labels.

    Raises
    ------
    ValueError
        If no window shows a labeled cell.

    Notes
    -----
    Features of a convolutional network are positive, so that all of them have about the same
    direction from 0; from their own mean they differ.
    """
    centers, directions = [], []
    for number in range(len(windows[0].views[0])):
        levels = [window.views[0][number].float() for window in windows]
        center = torch.cat([level.flatten(1) for level in levels], dim=1).mean(dim=1)
        cells = [
            _mean_within(level - center[:, None, None], mask)
            for window, level in zip(windows, levels, strict=True)
            for mask in _cell_masks(window)
        ]
        if not cells:
            raise ValueError("No cell is labeled; a prototype needs at least one.")
        direction = functional.normalize(torch.stack(cells), dim=1).mean(dim=0)
        centers.append(center)
        directions.append(functional.normalize(direction, dim=0))
    return Prototype(centers, directions)


def fit_prototypes(
    base: DINOCell, evidence: Evidence, at: Thresholds, *, lift: float, seed: int = 0
) -> tuple[DINOCell, Thresholds]:
    """Choose weight, cutoff and thresholds on the annotation.

    Parameters
    ----------
    base : DINOCell
    evidence : Evidence
        With at least one labeled cell.
    at : Thresholds
        Of the base.
    lift : float
        Of the base's target, see `tune`.
    seed : int
        Which annotation is looked at where there is very much of it.

    Returns
    -------
    DINOCell
        A `PrototypeNetwork`, or the base where no similarity does better by the score of `tune`.
    Thresholds
        Tuned for it.

    Raises
    ------
    ValueError
        If no cell is labeled.
    """
    prototype = mean_prototype(evidence.windows)
    units = frozenset(_some(evidence.units, seed))
    patches = evidence.patches_of(units)
    near, far = _similarities(prototype, evidence, patches, units)
    tried: list[DINOCell] = [base]
    for weight, part in product(_WEIGHTS, _CUTOFFS):
        cutoff = far + part * (near - far)
        tried.append(PrototypeNetwork(base, prototype, weight=weight, cutoff=cutoff))
    maps = [decode(network, patches) for network in tried]
    tuned = [
        tune(evidence.judge([(units, one)]), at, lift=lift, is_complete=evidence.is_complete)
        for one in maps
    ]
    best = int(np.argmax([tally.score for _, tally in tuned]))  # among equals the first: the base
    return tried[best], tuned[best][0]


def _some(units: Sequence[Unit], seed: int) -> list[Unit]:
    """At most `_MOST_UNITS`, at random."""
    order = np.random.default_rng(seed).permutation(len(units))[:_MOST_UNITS]
    return [units[int(index)] for index in order]


def _cell_masks(window: FeatureWindow) -> Iterator[Tensor]:
    """Mask (Y, X) of each labeled cell of a window."""
    labels = window.known.labels
    for number in np.unique(labels[labels > 0]):
        yield torch.from_numpy(labels == number)


def _mean_within(level: Tensor, mask: Tensor) -> Tensor:
    """Mean (D,) of features (D, y, x) under a mask (Y, X), tokens by how much of them it covers."""
    stride = mask.shape[-1] // level.shape[-1]
    cover = functional.avg_pool2d(mask[None, None].float(), stride)[0, 0]
    return (level * cover).sum(dim=(1, 2)) / cover.sum().clamp(min=1e-6)


def _similarities(
    prototype: Prototype, evidence: Evidence, patches: Sequence[Patch], units: frozenset[Unit]
) -> tuple[float, float]:
    """Median similarity in annotated cells, and on the background that is known beside them."""
    supervision = evidence.supervision(units)
    near, far = [], []
    for patch in patches:
        levels, _ = patch.inputs(0)
        map_ = prototype.similarity([level[None] for level in levels], patch.shape)
        similarity = map_[0, 0].numpy()
        top, left, bottom, right = patch.box
        parts = supervision[patch.window]
        target = parts.target[top:bottom, left:right]
        known = parts.weight[top:bottom, left:right] > 0
        near.append(similarity[known & (target > 0)])
        far.append(similarity[known & (target == 0)])
    cells, ground = np.concatenate(near), np.concatenate(far)
    high = float(np.median(cells)) if len(cells) else 1.0
    return high, float(np.median(ground)) if len(ground) else -1.0
