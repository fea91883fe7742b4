"""Annotation in reach of features: what of it is trained on, and what judges a map."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from napari_dinocell.core.adapt.examples import Annotation
from napari_dinocell.core.adapt.features import FeatureWindow
from napari_dinocell.core.adapt.folds import masks
from napari_dinocell.core.adapt.loss import Supervision, supervise
from napari_dinocell.core.adapt.patches import Patch, Sample, patch_homes, place_patches, samples
from napari_dinocell.core.adapt.score import Judged
from napari_dinocell.core.adapt.windows import Unit, homes
from napari_dinocell.core.instances import flood


@dataclass(frozen=True, eq=False)
class Evidence:
    """All that is known about the planes, by unit.

    Attributes
    ----------
    annotations : sequence of Annotation
    windows : sequence of FeatureWindow
        With features.
    units : sequence of Unit
        Those that lie in a window.
    patches : sequence of Patch
        Cover all units.
    """

    annotations: Sequence[Annotation]
    windows: Sequence[FeatureWindow]
    units: Sequence[Unit]
    patches: Sequence[Patch]

    @classmethod
    def of(
        cls,
        annotations: Sequence[Annotation],
        windows: Sequence[FeatureWindow],
        units: Sequence[Unit],
    ) -> Evidence:
        """Leave out units for which there was no time or room, and place the patches."""
        reached = homes(units, [(window.annotation, window.box) for window in windows])
        kept = [unit for unit in units if unit in reached]
        return cls(annotations, windows, kept, place_patches(windows, kept))

    @cached_property
    def home(self) -> dict[Unit, int]:
        """Patch that each unit is judged in."""
        return patch_homes(self.units, self.patches)

    @property
    def is_complete(self) -> bool:
        """Whether there is a region in which every cell is labeled."""
        return any(annotation.complete.any() for annotation in self.annotations)

    def supervision(self, used: Collection[Unit]) -> dict[FeatureWindow, Supervision]:
        """Targets and weights of every window when only some units count."""
        return {
            window: supervise(
                window.known,
                window.base,
                *masks(self.annotations[window.annotation], window.annotation, used),
            )
            for window in self.windows
        }

    def training(self, used: Collection[Unit]) -> list[Sample]:
        """Patches with the supervision of some units; all others are left alone."""
        found = samples(self.patches, self.supervision(used))
        return [sample for sample in found if sample.is_informative]

    def patches_of(self, units: Iterable[Unit]) -> list[Patch]:
        """Patches that some units are judged in."""
        wanted = {self.home[unit] for unit in units if unit in self.home}
        return [self.patches[index] for index in sorted(wanted)]

    def held_out(self, units: Collection[Unit]) -> list[Sample]:
        """Samples by which training is stopped: one per entry of `patches_of(units)`."""
        return samples(self.patches_of(units), self.supervision(units))

    def judge(
        self, units: Collection[Unit], maps: Sequence[npt.NDArray[np.uint16]]
    ) -> list[Judged]:
        """Maps of `patches_of(units)` beside the units that are judged in them."""
        supervision = self.supervision(units)
        judged = []
        for patch, map_ in zip(self.patches_of(units), maps, strict=True):
            here = {u for u in units if u in self.home and self.patches[self.home[u]] is patch}
            index = patch.window.annotation
            use_cells, use_empty = masks(self.annotations[index], index, here)
            top, left, bottom, right = patch.box
            known = patch.window.known
            labels = known.labels[top:bottom, left:right]
            empty = known.empty[top:bottom, left:right]
            ring = supervision[patch.window].ring[top:bottom, left:right]
            background = (ring | use_empty[empty]) & patch.reliable().numpy()
            cells = np.where(use_cells[labels], labels, 0).astype(np.int32)
            judged.append(Judged.of(flood(map_), cells, background))
        return judged
