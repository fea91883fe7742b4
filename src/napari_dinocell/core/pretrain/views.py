"""Views of a sample: draw what each crop shows, where and how, then render a batch of them.

Drawing is cheap and happens beside the tile (in a data worker); rendering is heavy and happens on
the device. A draw is a function of (seed, sample) alone: not of the worker, the process or the
batch.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from .augment import Photometry, PhotometryRanges, apply_photometry, draw_photometry
from .channels import ChannelGroup, FieldViews, Rendering
from .crops import Geometry, crop_planes, draw_geometry
from .strategies import Strategy

_STEP = 4  # px between the pixels that decide whether a crop is background


@dataclass(frozen=True)
class CropRanges:
    """Sizes and numbers of crops; the defaults are DINOv3's, for tiles of about 320 px."""

    global_size: int = 224
    local_size: int = 96
    n_local: int = 8
    global_area: tuple[float, float] = (0.32, 1.0)
    local_area: tuple[float, float] = (0.05, 0.32)
    aspect: tuple[float, float] = (3 / 4, 4 / 3)
    least_std: float = 0.02
    """Crops whose normalized plane varies less are background, and drawn again."""
    n_redraws: int = 4


@dataclass(frozen=True)
class View:
    """One crop: place, content, photometry."""

    geometry: Geometry
    rendering: Rendering
    photometry: Photometry


@dataclass(frozen=True)
class SampleViews:
    """All crops of one sample.

    Attributes
    ----------
    globals, locals : tuple of View
        The teacher gets the global crops; the student these (masked) and the local ones.
    answers : tuple of View or None
        For each global crop the same geometry in another rendering, with photometry of its own: the
        teacher's input for cross-channel patch targets. None where the field has but one rendering,
        empty where not asked for.
    """

    globals: tuple[View, ...]
    locals: tuple[View, ...]
    answers: tuple[View | None, ...] = ()


class Crops(NamedTuple):
    """A batch of rendered crops, crop index first.

    Attributes
    ----------
    globals : (G, B, P, Y, X) tensor
        P is 1 if all are gray, else 3.
    locals : (L, B, P, y, x) tensor
    answers : (G, B, P, Y, X) tensor or None
        Zero where `has_answer` is False.
    has_answer : (G, B) bool tensor or None
    """

    globals: Tensor
    locals: Tensor
    answers: Tensor | None
    has_answer: Tensor | None


def draw_views(
    tile: NDArray[Any],
    available: Sequence[bool] | NDArray[np.bool_],
    *,
    seed: int,
    sample: int,
    strategy: Strategy,
    groups: Sequence[ChannelGroup] | None = None,
    brightfield_share: float = 0.0,
    crops: CropRanges | None = None,
    photometry: PhotometryRanges | None = None,
    with_answers: bool = False,
) -> SampleViews:
    """Views of one tile.

    Parameters
    ----------
    tile : (C, Y, X) float array
        Normalized channels; looked at only to avoid crops of background.
    available, groups, brightfield_share
        See `channels.FieldViews`.
    seed, sample : int
        Of the run, and the sample's number in the run's order; not negative.
    with_answers : bool
        Also draw the views for cross-channel patch targets. The other views stay the same.
    """
    if tile.ndim != 3 or len(available) != tile.shape[0]:
        raise ValueError(
            f"Tile has the shape {tile.shape}, `available` {len(available)} values; "
            "expected (C, Y, X) and C."
        )
    crops, photometry = crops or CropRanges(), photometry or PhotometryRanges()
    chooser = np.random.default_rng([seed, sample, 0])
    field = FieldViews(chooser, available, groups, brightfield_share=brightfield_share)
    renderings = strategy.renderings(chooser, field, crops.n_local)
    views = []
    for index, rendering in enumerate(renderings):
        is_global = index < strategy.n_global
        rng = np.random.default_rng([seed, sample, 1, index])
        geometry = draw_geometry(
            rng,
            (tile.shape[1], tile.shape[2]),
            crops.global_size if is_global else crops.local_size,
            area=crops.global_area if is_global else crops.local_area,
            aspect=crops.aspect,
            accept=partial(_is_lively, tile, rendering, crops.least_std),
            n_redraws=crops.n_redraws,
        )
        blur = photometry.blur_shares[index % 2 if is_global else 2]
        views.append(View(geometry, rendering, draw_photometry(rng, photometry, blur_share=blur)))
    n = strategy.n_global
    sample_views = SampleViews(tuple(views[:n]), tuple(views[n:]))
    if not with_answers:
        return sample_views
    answers = []
    for index, view in enumerate(sample_views.globals):
        rng = np.random.default_rng([seed, sample, 2, index])
        other = field.other(rng, view.rendering)
        blur = photometry.blur_shares[index % 2]
        draw = draw_photometry(rng, photometry, blur_share=blur)
        answers.append(None if other is None else View(view.geometry, other, draw))
    return replace(sample_views, answers=tuple(answers))


def render_views(tiles: Tensor, samples: Sequence[SampleViews]) -> Crops:
    """Render the views of a batch on the device of its tiles.

    Parameters
    ----------
    tiles : (B, C, Y, X) tensor
        Normalized; fields with fewer channels are padded at the end, with anything finite.
    samples : sequence of B SampleViews
        From one strategy and one `CropRanges`.
    """
    views = [v for s in samples for v in (*s.globals, *s.locals, *s.answers) if v is not None]
    n_planes = max(view.rendering.n_planes for view in views)

    def render(crops: Sequence[Sequence[View]]) -> Tensor:
        """Views (B, crops) -> pixels (crops, B, P, Y, X)."""
        rendered = [_render(tiles, batch, n_planes) for batch in zip(*crops, strict=True)]
        return torch.stack(rendered) if rendered else torch.zeros(0, len(tiles), n_planes, 0, 0)

    global_crops, local_crops = (
        render([s.globals for s in samples]),
        render([s.locals for s in samples]),
    )
    if not samples[0].answers:
        return Crops(global_crops, local_crops, None, None)
    has_answer = torch.tensor([[a is not None for a in s.answers] for s in samples]).T
    has_answer = has_answer.to(tiles.device)  # (G, B)
    # A crop without an answer is rendered as itself, then blanked: the batch keeps its shape.
    answers = render([[a or g for a, g in zip(s.answers, s.globals, strict=True)] for s in samples])
    answers = torch.where(has_answer[:, :, None, None, None], answers, 0.0)
    return Crops(global_crops, local_crops, answers, has_answer)


def _render(tiles: Tensor, views: Sequence[View], n_planes: int) -> Tensor:
    """(B, P, size, size) crops, one view per tile."""
    weights = np.zeros((len(views), n_planes, tiles.shape[1]), np.float32)
    for row, view in zip(weights, views, strict=True):
        row[:, : len(view.rendering.weights[0])] = view.rendering.weights
    crops = crop_planes(tiles, torch.from_numpy(weights), [view.geometry for view in views])
    return apply_photometry(
        crops, [view.photometry for view in views], [view.rendering.n_planes for view in views]
    )


def _is_lively(
    tile: NDArray[Any], rendering: Rendering, least_std: float, geometry: Geometry
) -> bool:
    """Whether what a crop would show varies enough, judged by every fourth pixel each way."""
    g = geometry
    box = tile[:, g.top : g.top + g.height : _STEP, g.left : g.left + g.width : _STEP]
    return bool(rendering.apply(box).std() >= least_std)
