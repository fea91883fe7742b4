"""How many cells an adapted model finds where nothing is annotated, beside its base.

The score that decides is made of annotated cells. A model that takes debris everywhere for cells may
have a good one; a person sees it at a glance, once told to look.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from napari_dinocell.core.adapt.evidence import Evidence
from napari_dinocell.core.adapt.examples import Annotation
from napari_dinocell.core.adapt.features import FeatureWindow, read_pixels
from napari_dinocell.core.adapt.loss import basin_peaks
from napari_dinocell.core.adapt.windows import Box
from napari_dinocell.core.inference import Cancel
from napari_dinocell.core.instances import ThresholdTree, flood
from napari_dinocell.core.model.card import ModelCard
from napari_dinocell.core.model.network import DINOCell
from napari_dinocell.core.prediction import Thresholds
from napari_dinocell.core.tiles import TileGrid

Mask = npt.NDArray[np.bool_]

_MORE = 1.5  # times as many cells are worth a look
_FEWER = 1.25  # times as many before: cells that were found and vanish are a loss for sure
_LEAST = 10  # cells by which the counts must differ, too: a few come and go by chance
_SLACK = 1.2  # a window is begun only if this many times the slowest so far is left


@dataclass(frozen=True)
class Elsewhere:
    """Cells found where nothing is annotated.

    Attributes
    ----------
    base, result : int
        Cells that the base and the result find.
    share : float
        Part that was looked at of all that is not annotated, in [0, 1].
    n_images : int
    """

    base: int
    result: int
    share: float
    n_images: int

    @property
    def is_notable(self) -> bool:
        """Whether there are half as many again, or a fifth fewer, and it is 10 cells at least."""
        is_other = self.result > _MORE * self.base or self.base > _FEWER * self.result
        return is_other and abs(self.result - self.base) >= _LEAST

    def sentence(self) -> str:
        """The counts, and what to do about them."""
        part = "" if self.share >= 0.995 else f"{max(100 * self.share, 1):.0f} % of "
        images = "image" if self.n_images == 1 else "images"
        advice = "look at a few of them" if self.result > self.base else "look for missing ones"
        return (
            f"In {part}the rest of the {images} the new model finds {self.result} cells, the base "
            f"found {self.base}; {advice}."
        )


@torch.no_grad()
def survey(
    networks: tuple[DINOCell, DINOCell],
    at: tuple[Thresholds, Thresholds],
    evidence: Evidence,
    card: ModelCard,
    *,
    seconds: float,
    cancel: Cancel | None = None,
) -> Elsewhere:
    """Count the cells of two models on the annotated planes, where nothing is annotated.

    Parameters
    ----------
    networks : pair of DINOCell
        Base and result, of one encoder.
    at : pair of Thresholds
    evidence : Evidence
        Its windows come first: their features and the map of the base are there already.
    card : ModelCard
        Of the base: size and overlap of the tiles elsewhere.
    seconds : float
        No window is begun that would end after this; the first always is.
    cancel : callable, optional
        True ends the survey; what was counted so far is returned.

    Notes
    -----
    A cell counts where its highest pixel lies, once: only in the first window that shows it away
    from its edges, at which a cell that is cut off has another highest pixel.
    """
    begun, slowest = time.perf_counter(), 0.0
    rest = [_unknown(annotation) for annotation in evidence.annotations]
    total, looked_at = sum(int(mask.sum()) for mask in rest), 0
    counts = np.zeros(2, int)
    for number, (index, box) in enumerate(_places(evidence, card)):
        start = time.perf_counter()
        is_late = number > 0 and start - begun + _SLACK * slowest > seconds
        if is_late or (cancel is not None and cancel()):
            break
        y, x = _inner(box, rest[index].shape, card.overlap // 2)
        part = rest[index][y, x]
        if not part.any():
            continue
        open_ = np.zeros((box[2] - box[0], box[3] - box[1]), bool)
        open_[y.start - box[0] : y.stop - box[0], x.start - box[1] : x.stop - box[1]] = part
        part[...] = False  # seen
        window = evidence.windows[number] if number < len(evidence.windows) else None
        trees = _trees(networks, evidence.annotations[index], box, window)
        counts += [_count(tree, pair, open_) for tree, pair in zip(trees, at, strict=True)]
        looked_at += int(open_.sum())
        slowest = max(slowest, time.perf_counter() - start)
    share = looked_at / total if total else 1.0
    n_images = sum(annotation.plane is not None for annotation in evidence.annotations)
    return Elsewhere(int(counts[0]), int(counts[1]), share, n_images)


def _unknown(annotation: Annotation) -> Mask:
    """Where nothing is annotated; nowhere on a plane that shows nothing."""
    if annotation.plane is None:
        return np.zeros(annotation.labels.shape, bool)
    unknown: Mask = (annotation.labels == 0) & (annotation.empty == 0) & ~annotation.complete
    return unknown


def _places(evidence: Evidence, card: ModelCard) -> Iterator[tuple[int, Box]]:
    """Windows with features, then the tiles of all planes in random order."""
    yield from ((window.annotation, window.box) for window in evidence.windows)
    tiles = [
        (index, (tile.top, tile.left, tile.bottom, tile.right))
        for index, annotation in enumerate(evidence.annotations)
        if annotation.plane is not None
        for tile in TileGrid(*annotation.shape, card.tile, card.overlap).windows
    ]
    order = np.random.default_rng(0).permutation(len(tiles))
    yield from (tiles[int(index)] for index in order)


def _inner(box: Box, shape: tuple[int, ...], margin: int) -> tuple[slice, slice]:
    """Part of a plane that a window shows with all that is around it."""
    y, x = (
        slice(
            0 if box[axis] <= 0 else box[axis] + margin,
            length if box[axis + 2] >= length else box[axis + 2] - margin,
        )
        for axis, length in enumerate(shape)
    )
    return y, x


def _trees(
    networks: tuple[DINOCell, DINOCell],
    annotation: Annotation,
    box: Box,
    window: FeatureWindow | None,
) -> tuple[ThresholdTree, ThresholdTree]:
    """Trees of the maps of base and result; what is known of the window is not computed again."""
    base, result = networks
    device = next(base.parameters()).device
    if window is not None:
        levels = [level[None].to(device) for level in window.views[0]]
        image, tree = window.image[None].to(device), window.base.tree
    else:
        assert annotation.plane is not None
        image = read_pixels(annotation.plane, box)[None].to(device)
        levels = base.features(image)
        tree = _tree(base, levels, image)
    return tree, tree if result is base else _tree(result, levels, image)


def _tree(network: DINOCell, levels: Sequence[Tensor], image: Tensor) -> ThresholdTree:
    return flood(network.decode(levels, image)[0, 0].float().cpu().numpy())


def _count(tree: ThresholdTree, at: Thresholds, open_: Mask) -> int:
    """Cells whose highest pixel lies in a mask."""
    cut = tree.cut(at.peak, at.fill, min_area=at.min_area, min_prominence=at.min_prominence)
    return int(open_.ravel()[basin_peaks(tree)[cut.ids]].sum())
