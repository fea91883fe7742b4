"""From a stream of samples to batches on the device, prepared while the step before runs."""

import time
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from napari_dinocell.core.pretrain.augment import PhotometryRanges
from napari_dinocell.core.pretrain.channels import ChannelGroup
from napari_dinocell.core.pretrain.config import SSLConfig
from napari_dinocell.core.pretrain.masks import block_masks, with_visible
from napari_dinocell.core.pretrain.network import ENCODERS
from napari_dinocell.core.pretrain.strategies import make_strategy
from napari_dinocell.core.pretrain.views import CropRanges, SampleViews, draw_views
from napari_dinocell.core.stream.processes import ProcessStream
from napari_dinocell.core.stream.samples import Sample
from napari_dinocell.core.stream.stream import FieldStream

Stream = FieldStream | ProcessStream


@dataclass(frozen=True)
class Batch:
    """Samples of one step of one process.

    Attributes
    ----------
    tiles : (B, C, Y, X) float32 tensor
        On the device; samples with fewer channels are padded with 0.
    views : tuple of B SampleViews
    masks : (G, B, N) bool tensor
        Patches of the global crops that the student does not see.
    visible : (G, B, N) bool tensor or None
        Patches that may have a cross-channel target: the masked ones and as many others.
    numbers : tuple of B int
        Of the samples, in the run.
    ids : tuple of B str
        Of their fields.
    """

    tiles: Tensor
    views: tuple[SampleViews, ...]
    masks: Tensor
    visible: Tensor | None
    numbers: tuple[int, ...]
    ids: tuple[str, ...]


class ViewDrawing:
    """Draws the views of each sample, in the threads of the stream."""

    def __init__(self, config: SSLConfig) -> None:
        self._strategy = make_strategy(config.views.strategy)
        ranges = config.views.model_dump(exclude={"strategy", "brightfield_share"})
        self._crops = CropRanges(**ranges)
        self._photometry = PhotometryRanges(**config.photometry.model_dump())
        self._share, self._seed = config.views.brightfield_share, config.seed
        self._with_answers = config.loss.cross > 0
        self._left_out, self._joint = frozenset(config.data.left_out), config.data.joint

    def __call__(self, sample: Sample) -> tuple[Sample, SampleViews]:
        """The sample and its views."""
        shown = np.array([name not in self._left_out for name in sample.channels])
        # A field whose only channels with contrast are left out shows its dark ones.
        available = shown & sample.available if (shown & sample.available).any() else shown
        views = draw_views(
            sample.tile,
            available,
            seed=self._seed,
            sample=sample.number,
            strategy=self._strategy,
            groups=channel_groups(sample.channels, sample.kinds, self._joint),
            brightfield_share=self._share,
            crops=self._crops,
            photometry=self._photometry,
            with_answers=self._with_answers,
        )
        return sample, views


class MaskDrawing:
    """Draws the masks of a step, keyed by the place of a sample in the global batch.

    So they do not depend on the number of processes.
    """

    def __init__(self, config: SSLConfig) -> None:
        self._losses, self._seed, self._batch = config.loss, config.seed, config.batch
        self._n_global = make_strategy(config.views.strategy).n_global
        self._side = config.views.global_size // ENCODERS[config.model.encoder].patch

    def __call__(self, numbers: Sequence[int]) -> tuple[Tensor, Tensor | None]:
        """`masks` and `visible` of a `Batch`, for samples of one step."""
        losses, side = self._losses, self._side
        step = numbers[0] // self._batch
        slots = [number % self._batch for number in numbers]
        crops = [g * self._batch + slot for g in range(self._n_global) for slot in slots]
        masks = block_masks(
            self._seed,
            step,
            self._n_global * self._batch,
            (side, side),
            crops=crops,
            share=losses.mask_share,
            ratio=losses.mask_ratio,
            min_block=losses.min_block,
        )
        shape = self._n_global, len(numbers), side * side
        if not losses.cross:
            return torch.from_numpy(masks).view(shape), None
        # A whole crop has as many targets as the average masked one has masked patches.
        n_if_whole = int(sum(losses.mask_ratio) / 2 * side * side)
        visible = with_visible(masks, self._seed, step, crops=crops, n_if_whole=n_if_whole)
        return torch.from_numpy(masks).view(shape), torch.from_numpy(visible).view(shape)


def channel_groups(
    channels: Sequence[str], kinds: Sequence[str], joint: Sequence[Sequence[str]] = ()
) -> tuple[ChannelGroup, ...]:
    """Groups of a field's channels by their names.

    Parameters
    ----------
    channels : sequence of C str
    kinds : sequence of C str
        ``fluorescence`` or ``brightfield``.
    joint : sequence of sequences of str
        Names that are one view together where the field has all of them.
    """
    groups, taken = [], set()
    for names in joint:
        if set(names) <= set(channels):
            members = tuple(channels.index(name) for name in names)
            groups.append(ChannelGroup(members, "joint"))
            taken |= set(members)
    for kind in ("fluorescence", "brightfield"):
        rest = (c for c, k in enumerate(kinds) if k == kind and c not in taken)
        if members := tuple(rest):
            groups.append(ChannelGroup(members, kind))
    return tuple(groups)


class Batches:
    """Iterator over the batches of one process, one ahead of the step.

    Attributes
    ----------
    seconds_waited : float
        By the step, so far.
    """

    def __init__(self, stream: Stream, device: torch.device, config: SSLConfig) -> None:
        self._stream, self._device = stream, device
        self._masks = MaskDrawing(config)
        self._pool = ThreadPoolExecutor(1, "batch")
        self._next: Future[tuple[Batch, dict[str, Any]]] | None = None
        self._state = stream.state_dict()
        self.seconds_waited = 0.0

    def __iter__(self) -> Iterator[Batch]:
        return self

    def __next__(self) -> Batch:
        begin = time.perf_counter()
        batch, state = (self._next or self._pool.submit(self._prepare)).result()
        self.seconds_waited += time.perf_counter() - begin
        self._state = state
        self._next = self._pool.submit(self._prepare)
        return batch

    def state_dict(self) -> dict[str, Any]:
        """State of the stream after the last batch that was handed out."""
        return self._state

    def close(self) -> None:
        """End the stream and its threads."""
        self._stream.close()
        self._pool.shutdown(wait=True, cancel_futures=True)

    def _prepare(self) -> tuple[Batch, dict[str, Any]]:
        drawn: list[tuple[Sample, SampleViews]] = next(self._stream)
        state = self._stream.state_dict()
        samples = [sample for sample, _ in drawn]
        n_channels = max(len(sample.tile) for sample in samples)
        tiles = np.zeros((len(samples), n_channels, *samples[0].tile.shape[1:]), np.float32)
        for row, sample in zip(tiles, samples, strict=True):
            row[: len(sample.tile)] = sample.tile
        on_host = torch.from_numpy(tiles)
        if self._device.type == "cuda":  # a copy from pinned memory does not stop the device
            on_host = on_host.pin_memory()
        numbers = tuple(sample.number for sample in samples)
        masks, visible = self._masks(numbers)
        batch = Batch(
            on_host.to(self._device, non_blocking=True),
            tuple(views for _, views in drawn),
            masks.to(self._device),
            None if visible is None else visible.to(self._device),
            numbers,
            tuple(sample.id for sample in samples),
        )
        return batch, state
