"""Annotation in reach of features: what of it is trained on, and what judges a map."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import numpy.typing as npt

from napari_dinocell.core.adapt.examples import Annotation
from napari_dinocell.core.adapt.features import FeatureWindow
from napari_dinocell.core.adapt.folds import masks
from napari_dinocell.core.adapt.judged import Judged, View
from napari_dinocell.core.adapt.loss import Supervision, supervise
from napari_dinocell.core.adapt.patches import Patch, Sample, patch_homes, place_patches, samples
from napari_dinocell.core.adapt.windows import Unit, homes


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
    _supervision: dict[frozenset[Unit], dict[FeatureWindow, Supervision]] = field(
        default_factory=dict, repr=False
    )

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

    def supervision(self, used: frozenset[Unit]) -> dict[FeatureWindow, Supervision]:
        """Targets and weights when only some units count, of the windows that show any of them."""
        if used not in self._supervision:
            self._supervision[used] = {
                window: supervise(
                    window.known,
                    window.base,
                    *masks(self.annotations[window.annotation], window.annotation, used),
                )
                for window in self.windows
                if any(shows(window, unit) for unit in used)
            }
        return self._supervision[used]

    def training(self, used: frozenset[Unit]) -> list[Sample]:
        """Patches with the supervision of some units; all others are left alone."""
        supervision = self.supervision(used)
        shown = [patch for patch in self.patches if patch.window in supervision]
        found = samples(shown, supervision)
        return [sample for sample in found if sample.is_informative]

    def patches_of(self, units: Iterable[Unit]) -> list[Patch]:
        """Patches that some units are judged in."""
        wanted = {self.home[unit] for unit in units}
        return [self.patches[index] for index in sorted(wanted)]

    def held_out(self, units: frozenset[Unit]) -> list[Sample]:
        """Samples by which training is stopped: one per entry of `patches_of(units)`."""
        return samples(self.patches_of(units), self.supervision(units))

    def judge(
        self, parts: Iterable[tuple[frozenset[Unit], Sequence[npt.NDArray[np.uint16]]]]
    ) -> Judged:
        """Maps of `patches_of(units)` beside the units that are judged in them, for some parts."""
        return Judged.of([view for units, maps in parts for view in self._views(units, maps)])

    def _views(
        self, units: frozenset[Unit], maps: Sequence[npt.NDArray[np.uint16]]
    ) -> Iterator[View]:
        supervision = self.supervision(units)
        by_patch: dict[Patch, list[Unit]] = {}
        for unit in units:
            by_patch.setdefault(self.patches[self.home[unit]], []).append(unit)
        for patch, map_ in zip(self.patches_of(units), maps, strict=True):
            index = patch.window.annotation
            use_cells, use_empty = masks(self.annotations[index], index, by_patch[patch])
            top, left, bottom, right = patch.box
            known = patch.window.known
            labels = known.labels[top:bottom, left:right]
            empty = known.empty[top:bottom, left:right]
            ring = supervision[patch.window].ring[top:bottom, left:right]
            background = (ring | use_empty[empty]) & patch.reliable().numpy()
            yield View(map_, np.where(use_cells[labels], labels, 0).astype(np.int32), background)


def shows(window: FeatureWindow, unit: Unit) -> bool:
    """Whether any of a unit's box lies in a window."""
    top, left, bottom, right = window.box
    y0, x0, y1, x1 = unit.box
    is_inside = y0 < bottom and y1 > top and x0 < right and x1 > left
    return unit.annotation == window.annotation and is_inside
