"""Patches: feature windows of 16 x 16 tokens around annotations, what the decoder trains on."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from napari_dinocell.core.adapt.features import FeatureWindow, dihedral, turned_box
from napari_dinocell.core.adapt.loss import Supervision
from napari_dinocell.core.adapt.windows import MULTIPLE, Box, Unit, homes, place_windows

_SIDE = 128  # px: 16 tokens of 8 px
_ROOM = 47  # px around a cell that a patch wants: a margin on each side, and the grid of 16 px
_RIM = 8  # px at a cut through the window: the decoder lacks context there


@dataclass(frozen=True, eq=False)
class Patch:
    """A part of a feature window.

    Attributes
    ----------
    window : FeatureWindow
    box : Box
        In px of the window, multiples of 16.
    """

    window: FeatureWindow
    box: Box

    @property
    def shape(self) -> tuple[int, int]:
        """Height and width, px."""
        return self.box[2] - self.box[0], self.box[3] - self.box[1]

    @property
    def views(self) -> tuple[int, ...]:
        """Dihedral views that there are features of."""
        return tuple(self.window.views)

    def inputs(self, view: int) -> tuple[list[Tensor], Tensor]:
        """Features (C, y, x) float16 and pixels (1 or 3, Y, X) float32 of one view."""
        box = turned_box(self.box, self.window.shape, view)
        image = cut_out(dihedral(self.window.image, view), box)
        # Only square windows have views that swap the axes, so the width is that of any view.
        width = self.window.shape[1]
        levels = self.window.views[view]
        return [cut_out(level, box, width // level.shape[-1]) for level in levels], image

    def within(self, values: Tensor, view: int) -> Tensor:
        """Part of values (..., Y, X) of the window, turned like the inputs."""
        return dihedral(cut_out(values, self.box), view)

    def reliable(self) -> Tensor:
        """(Y, X) bool: where the decoder has the context that it has in a whole window."""
        mask = torch.ones(self.shape, dtype=torch.bool)
        for axis, side in enumerate(self.window.shape):
            if self.box[axis] > 0:
                mask.narrow(axis, 0, _RIM).fill_(False)
            if self.box[axis + 2] < side:
                mask.narrow(axis, self.shape[axis] - _RIM, _RIM).fill_(False)
        return mask


def cut_out(values: Tensor, box: Box, stride: int = 1) -> Tensor:
    """Part of (..., Y, X) in a box given in px, where a value stands for `stride` px."""
    top, left, bottom, right = (edge // stride for edge in box)
    return values[..., top:bottom, left:right]


def place_patches(windows: Sequence[FeatureWindow], units: Sequence[Unit]) -> list[Patch]:
    """Patches that together cover all units, each in the window where it lies deepest.

    All are of one size where the windows allow it: 128 px, or more where a cell needs it.
    """
    extents = [max(u.box[2] - u.box[0], u.box[3] - u.box[1]) for u in units if u.is_cell]
    needed = max(extents, default=0) + _ROOM
    side = max(_SIDE, -(-needed // MULTIPLE) * MULTIPLE)
    boxes: dict[int, list[Box]] = {}
    for unit, index in homes(
        units, [(window.annotation, window.box) for window in windows]
    ).items():
        window = windows[index]
        height, width = window.shape
        top, left, bottom, right = (
            edge - window.box[axis % 2] for axis, edge in enumerate(unit.box)
        )
        inside = (max(top, 0), max(left, 0), min(bottom, height), min(right, width))
        boxes.setdefault(index, []).append(inside)
    return [
        Patch(windows[index], box)
        for index, wanted in sorted(boxes.items())
        for box in place_windows(windows[index].shape, wanted, side, MULTIPLE)
    ]


def patch_homes(units: Sequence[Unit], patches: Sequence[Patch]) -> dict[Unit, int]:
    """For each unit the patch that it is judged in."""
    places = []
    for patch in patches:
        top, left = patch.window.box[:2]
        y0, x0, y1, x1 = patch.box
        places.append((patch.window.annotation, (y0 + top, x0 + left, y1 + top, x1 + left)))
    return homes(units, places)


@dataclass(frozen=True, eq=False)
class Sample:
    """A patch with the supervision of one fold.

    Attributes
    ----------
    patch : Patch
    targets : (4, Y, X) float32 tensor
        Target, weight, base and pull; see `Supervision`.
    """

    patch: Patch
    targets: Tensor

    @property
    def is_informative(self) -> bool:
        """Whether any pixel of it counts."""
        return bool(self.targets[1].any())


def samples(
    patches: Sequence[Patch], supervision: dict[FeatureWindow, Supervision]
) -> list[Sample]:
    """Patches with their part of the supervision of their windows."""
    found = []
    for patch in patches:
        parts = supervision[patch.window]
        whole = np.stack(
            [parts.target, parts.weight, patch.window.base.values, parts.pull], dtype=np.float32
        )
        targets = patch.within(torch.from_numpy(whole), 0).clone()
        targets[[1, 3]] *= patch.reliable()
        found.append(Sample(patch, targets))
    return found


@dataclass(frozen=True, eq=False)
class Batch:
    """Stacked inputs and targets: (B, C, y, x) per level, (B, 1 or 3, Y, X) and (4, B, 1, Y, X)."""

    features: list[Tensor]
    image: Tensor
    targets: Tensor


def collate(chosen: Sequence[tuple[Sample, int]], device: torch.device) -> Batch:
    """Batch of samples of one shape, each in its view."""
    inputs = [sample.patch.inputs(view) for sample, view in chosen]
    targets = torch.stack([dihedral(sample.targets, view) for sample, view in chosen], dim=1)
    n_levels = len(inputs[0][0])
    return Batch(
        [torch.stack([levels[k] for levels, _ in inputs]).to(device) for k in range(n_levels)],
        torch.stack([image for _, image in inputs]).to(device),
        targets[:, :, None].to(device),
    )


def draw(
    from_: Sequence[Sample], size: int, rng: np.random.Generator
) -> Iterator[list[tuple[Sample, int]]]:
    """One epoch: every sample once in random order and view, in batches of one shape."""
    by_shape: dict[tuple[int, int, int], list[tuple[Sample, int]]] = {}
    for index in rng.permutation(len(from_)):
        sample = from_[int(index)]
        view = int(rng.choice(sample.patch.views))
        key = (*sample.patch.shape, len(sample.patch.window.image))
        by_shape.setdefault(key, []).append((sample, view))
    for group in by_shape.values():
        for start in range(0, len(group), size):
            yield group[start : start + size]
