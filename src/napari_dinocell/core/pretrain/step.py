"""One step of pre-training: crops, targets, losses, gradients."""

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from napari_dinocell.core.model.vit import Tokens
from napari_dinocell.core.pretrain.batches import Batch
from napari_dinocell.core.pretrain.config import LossSettings, SSLConfig
from napari_dinocell.core.pretrain.dino_loss import dino_loss
from napari_dinocell.core.pretrain.gram_loss import gram_loss
from napari_dinocell.core.pretrain.ibot_loss import ibot_loss, patch_weights
from napari_dinocell.core.pretrain.koleo_loss import koleo_loss
from napari_dinocell.core.pretrain.network import SelfSupervisedNetwork
from napari_dinocell.core.pretrain.regularize import BlockRunning, rescaled_coordinates
from napari_dinocell.core.pretrain.targets import (
    MicroBatch,
    Targets,
    micro_batches,
    teacher_targets,
)

_SCALE, _DROP = 11, 12  # separate random streams of one step


@dataclass(frozen=True)
class Predicted:
    """What the student says about a micro-batch.

    Attributes
    ----------
    dino : (G + L, b, K) tensor
    ibot : (M, K) tensor
    cross : (T, K) tensor or None
    cls : (G, b, D) tensor
        Before the head.
    patches : (G b, N, D) tensor
        Of the global crops, before the head.
    """

    dino: Tensor
    ibot: Tensor
    cross: Tensor | None
    cls: Tensor
    patches: Tensor


class Student(nn.Module):
    """The student's forward pass as one module, so that processes can share gradients.

    Attributes
    ----------
    is_frozen : bool
        Set by `freeze`: the backbone then evaluates, without gradient.
    """

    def __init__(
        self, network: SelfSupervisedNetwork, running: BlockRunning, rescale: float, seed: int
    ) -> None:
        super().__init__()
        self.network = network
        self._running, self._rescale, self._seed = running, rescale, seed
        self.is_frozen = False

    def freeze(self, is_frozen: bool) -> None:
        """Stop or start the backbone's learning."""
        self.is_frozen = is_frozen
        self.network.backbone.requires_grad_(not is_frozen)

    def forward(
        self, part: MicroBatch, step: int, place: Sequence[int]
    ) -> tuple[Tensor | None, ...]:
        """Fields of `Predicted`, as a tuple because data parallelism looks for tensors in it.

        Parameters
        ----------
        part : MicroBatch
        step : int
        place : sequence of int
            Process and micro-batch, for draws that differ between these.
        """
        crops, network = part.crops, self.network
        with torch.set_grad_enabled(torch.is_grad_enabled() and not self.is_frozen):
            seen = self._tokens(crops.globals.flatten(0, 1), part.masks, (step, 0), place)
            cls = seen.cls
            if len(crops.locals):
                local = self._tokens(crops.locals.flatten(0, 1), None, (step, 1), place)
                cls = torch.cat([cls, local.cls])
        n_global, n = crops.globals.shape[:2]
        return (
            network.dino_head(cls).view(-1, n, network.dino_head.prototypes.out_features),
            network.ibot_head(seen.patches[part.masks]),
            None if part.chosen is None else network.ibot_head(seen.patches[part.chosen]),
            seen.cls.view(n_global, n, -1),
            seen.patches,
        )

    def _tokens(
        self, crops: Tensor, mask: Tensor | None, which: tuple[int, int], place: Sequence[int]
    ) -> Tokens:
        if self.is_frozen:
            return self.network.tokens(crops, mask)
        coordinates = rescaled_coordinates(self._rescale, [self._seed, _SCALE, *which])
        run = self._running.keyed([self._seed, _DROP, *which, *place])
        return self.network.tokens(crops, mask, coordinates, run)


@dataclass(frozen=True)
class Losses:
    """Losses of a step as float32 tensors, without gradient; 0 where not asked for.

    `koleo` is the sum over the global crops.
    """

    total: Tensor
    dino: Tensor
    ibot: Tensor
    koleo: Tensor
    cross: Tensor
    gram: Tensor

    def over_processes(self) -> dict[str, float]:
        """Means over all processes, by name."""
        names = list(self.__dataclass_fields__)
        values = torch.stack([getattr(self, name).float() for name in names])
        if dist.is_initialized():
            dist.all_reduce(values)
            values = values / dist.get_world_size()
        return dict(zip(names, values.tolist(), strict=True))


def forward_backward(
    student: nn.Module,
    teacher: SelfSupervisedNetwork,
    batch: Batch,
    config: SSLConfig,
    *,
    step: int,
    temperature: float,
    anchor: SelfSupervisedNetwork | None = None,
    rank: int = 0,
    dtype: torch.dtype = torch.float32,
) -> tuple[Losses, list[Targets]]:
    """Losses of a step; gradients are left in the student's parameters.

    Parameters
    ----------
    student : Student, or the same in DistributedDataParallel
    teacher : SelfSupervisedNetwork
        In evaluation mode, without gradients.
    batch : Batch
        This process's samples.
    temperature : float
        The teacher's at this step.
    anchor : SelfSupervisedNetwork, optional
        The network at the start of the run, where `loss.gram` asks for it.
    rank : int
        Of this process.
    dtype : torch.dtype
        Of the forward passes; losses and targets are float32.
    """
    parts = micro_batches(batch, config.micro_batch)
    targets = teacher_targets(
        teacher, parts, temperature, n_iterations=config.teacher.iterations, dtype=dtype
    )
    sums: Losses | None = None
    for index, (part, target) in enumerate(zip(parts, targets, strict=True)):
        share = part.n_samples / len(batch.views)
        with _without_exchange(student, index < len(parts) - 1):
            with torch.autocast(batch.tiles.device.type, dtype, enabled=dtype != torch.float32):
                predicted = Predicted(*student(part, step, (rank, index)))
                anchored = None if anchor is None else _patches(anchor, part)
            losses = _losses(predicted, target, anchored, part, config.loss)
            (losses.total * share).backward()  # type: ignore[no-untyped-call]
        weighted = [v.detach() * share for v in _values(losses)]
        if sums is not None:
            weighted = [a + b for a, b in zip(_values(sums), weighted, strict=True)]
        sums = Losses(*weighted)
    assert sums is not None
    return sums, targets


@torch.no_grad()
def _patches(anchor: SelfSupervisedNetwork, part: MicroBatch) -> Tensor:
    return anchor.tokens(part.crops.globals.flatten(0, 1)).patches


def _losses(
    predicted: Predicted,
    target: Targets,
    anchored: Tensor | None,
    part: MicroBatch,
    weights: LossSettings,
) -> Losses:
    """Losses of a micro-batch, each a mean over its samples."""
    temperature = weights.student_temperature
    dino = dino_loss(predicted.dino, target.dino, temperature=temperature)
    ibot = ibot_loss(
        predicted.ibot, target.ibot, patch_weights(part.masks), temperature=temperature
    )
    cross = koleo = gram = torch.zeros_like(dino)
    if predicted.cross is not None and target.cross is not None and part.chosen is not None:
        shares = patch_weights(part.chosen)
        cross = ibot_loss(predicted.cross, target.cross, shares, temperature=temperature)
    if weights.koleo:
        group = weights.koleo_group or None
        terms = [
            koleo_loss(crop, group_size=group, across_processes=group is None)
            for crop in predicted.cls  # one set per crop index: never two crops of one field
        ]
        koleo = torch.stack(terms).sum()
    if anchored is not None:
        gram = gram_loss(predicted.patches, anchored)
    total = dino + weights.ibot * ibot + weights.koleo * koleo
    total = total + weights.cross * cross + weights.gram * gram
    return Losses(total, dino, ibot, koleo, cross, gram)


def _values(losses: Losses) -> Iterator[Tensor]:
    return (getattr(losses, name) for name in losses.__dataclass_fields__)


def _without_exchange(student: nn.Module, is_wanted: bool) -> AbstractContextManager[None]:
    """Sum gradients of further micro-batches before processes exchange them."""
    if is_wanted and isinstance(student, DistributedDataParallel):
        exchange: AbstractContextManager[None] = student.no_sync()
        return exchange
    return nullcontext()
