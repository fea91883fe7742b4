"""Windows of annotated planes, and what the frozen encoder makes of them, computed once."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from scipy import ndimage
from torch import Tensor

from napari_dinocell.core.adapt.examples import Annotation
from napari_dinocell.core.adapt.loss import BaseMap, Known
from napari_dinocell.core.adapt.windows import Box, Unit, place_windows
from napari_dinocell.core.distance import distance_map
from napari_dinocell.core.inference import Cancel, check_cancel
from napari_dinocell.core.intensity import PlaneLike
from napari_dinocell.core.model.card import ModelCard
from napari_dinocell.core.model.network import DINOCell
from napari_dinocell.core.prediction import Thresholds
from napari_dinocell.core.tiles import reflected

N_VIEWS = 8
_SLACK = 1.2  # a view is begun only if this many times its usual time is left


@dataclass(eq=False)
class FeatureWindow:
    """A window of one annotation with its features.

    Attributes
    ----------
    annotation : int
        Which one.
    box : Box
        Beyond the plane the window is padded by reflection.
    known : Known
    image : (1 or 3, Y, X) float32 tensor
        Normalized pixels.
    views : dict of int to list of tensors
        Features of each dihedral view that is there, float16, on the CPU; see `dihedral`.
    base : BaseMap
    """

    annotation: int
    box: Box
    known: Known
    image: Tensor
    views: dict[int, list[Tensor]] = field(default_factory=dict)
    base: BaseMap = field(init=False)

    @property
    def shape(self) -> tuple[int, int]:
        """Height and width, px."""
        return self.box[2] - self.box[0], self.box[3] - self.box[1]

    @property
    def n_bytes(self) -> int:
        """Size of the features of one view."""
        return sum(level.nbytes for level in self.views[0])


def read_windows(
    annotations: Sequence[Annotation], units: Sequence[Unit], card: ModelCard
) -> list[FeatureWindow]:
    """Windows around all units with pixels and annotation, without features.

    Those of different annotations take turns, so that none is left out when time is short.
    """
    found: list[list[FeatureWindow]] = []
    for index, annotation in enumerate(annotations):
        if annotation.plane is None:
            continue
        boxes = [unit.box for unit in units if unit.annotation == index]
        objects = ndimage.find_objects(annotation.labels)
        found.append([])
        for box in place_windows(annotation.shape, boxes, card.tile):
            known = _known(annotation, box, objects, card.target.lift)
            found[-1].append(FeatureWindow(index, box, known, read_pixels(annotation.plane, box)))
    longest = max(map(len, found), default=0)
    return [windows[i] for i in range(longest) for windows in found if i < len(windows)]


def read_pixels(plane: PlaneLike, box: Box) -> Tensor:
    """Pixels (1 or 3, Y, X) of a window of a normalized plane, reflected beyond it; float32."""
    pixels = np.asarray(plane[box[0] : box[2], box[1] : box[3]], np.float32)
    shape = (box[2] - box[0], box[3] - box[1])
    image = reflected(pixels, shape).reshape(*shape, -1).transpose(2, 0, 1)
    return torch.from_numpy(image.copy())


@torch.no_grad()
def cache_features(
    network: DINOCell,
    windows: Sequence[FeatureWindow],
    at: Thresholds,
    card: ModelCard,
    *,
    seconds: float,
    max_bytes: int,
    n_views: int = N_VIEWS,
    cancel: Cancel | None = None,
    advance: Callable[[float], None] | None = None,
) -> list[FeatureWindow]:
    """Compute features: each window as it is, then further dihedral views while there is room.

    Parameters
    ----------
    network : DINOCell
        Its encoder stays as it is.
    windows : sequence of FeatureWindow
        Get `views` and `base`.
    at, card
        Thresholds and card of the base.
    seconds : float
        No view is begun that would end after this; the first window always is.
    max_bytes : int
        Bound of all features together.
    n_views : int
        At most this many views of a window, 1 to 8.
    cancel : callable, optional
    advance : callable, optional
        Gets the part that is done, after each view.

    Returns
    -------
    list of FeatureWindow
        Those that have features.

    Raises
    ------
    Cancelled
        If `cancel()` returned True; there is nothing to keep yet.
    """
    start, slowest, used = time.perf_counter(), 0.0, 0
    device = next(network.parameters()).device
    todo = [(view, w) for view in range(n_views) for w in windows if view in _views_of(w)]
    for done, (view, window) in enumerate(todo):
        check_cancel(cancel)
        begun = time.perf_counter()
        has_time = begun - start + _SLACK * slowest < seconds
        # All views of one window are as large; before the first nobody knows.
        largest = max((w.n_bytes for w in windows if w.views), default=0)
        if done and not (has_time and used + largest <= max_bytes):
            break
        image = window.image[None].to(device)
        levels = network.features(dihedral(image, view))
        window.views[view] = [level[0].half().cpu().contiguous() for level in levels]
        if view == 0:
            values = network.decode(levels, image)[0, 0].float().cpu().numpy()
            window.base = BaseMap.of(values, at, card.confidence)
        used += window.n_bytes
        slowest = max(slowest, time.perf_counter() - begun)
        if advance is not None:
            advance(max((done + 1) / len(todo), (time.perf_counter() - start) / seconds))
    return [window for window in windows if window.views]


def dihedral(x: Tensor, view: int) -> Tensor:
    """One of the 8 views of (..., Y, X): `view % 4` quarter turns, then a mirror from 4 on."""
    turned = torch.rot90(x, view % 4, (-2, -1))
    return turned.flip(-1) if view >= 4 else turned


def turned_box(box: Box, shape: tuple[int, int], view: int) -> Box:
    """Where a box of an array of `shape` lies in its `dihedral` view."""
    top, left, bottom, right = box
    height, width = shape
    for _ in range(view % 4):
        top, left, bottom, right = width - right, top, width - left, bottom
        height, width = width, height
    return (top, width - right, bottom, width - left) if view >= 4 else (top, left, bottom, right)


def _views_of(window: FeatureWindow) -> tuple[int, ...]:
    """Views of the window's own shape, so that patches of all views fit into one batch."""
    return tuple(range(N_VIEWS)) if window.shape[0] == window.shape[1] else (0, 2, 4, 6)


def _known(
    annotation: Annotation, box: Box, objects: Sequence[tuple[slice, slice]], lift: float
) -> Known:
    """Annotation of one window; cells are transformed whole before they are cut."""
    top, left, bottom, right = box
    inner = annotation.labels[top:bottom, left:right]
    touched = [objects[number - 1] for number in np.unique(inner[inner > 0])]
    y0 = min([top, *(part[0].start for part in touched)])
    x0 = min([left, *(part[1].start for part in touched)])
    y1 = max([bottom, *(part[0].stop for part in touched)])
    x1 = max([right, *(part[1].stop for part in touched)])
    distance = distance_map(annotation.labels[y0:y1, x0:x1], lift)
    distance = distance[top - y0 :, left - x0 :][: inner.shape[0], : inner.shape[1]]
    lacking = [(0, bottom - top - inner.shape[0]), (0, right - left - inner.shape[1])]
    return Known(
        labels=np.pad(inner, lacking),
        empty=np.pad(annotation.empty[top:bottom, left:right], lacking),
        distance=np.pad(distance, lacking),
        inside=np.pad(np.ones(inner.shape, bool), lacking),
        diameters=annotation.diameters,
    )
