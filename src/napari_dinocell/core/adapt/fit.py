"""Train a decoder on patches, boxed in time."""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Literal

import numpy as np
import numpy.typing as npt
import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import nn

from napari_dinocell.core.adapt.loss import partial_loss
from napari_dinocell.core.adapt.patches import Batch, Patch, Sample, collate, draw
from napari_dinocell.core.inference import Cancel
from napari_dinocell.core.levels import quantize
from napari_dinocell.core.model.network import DINOCell, build_network
from napari_dinocell.core.model.store import State
from napari_dinocell.core.training.optimizer import update_average

_WARMUP = 5  # steps
_MOMENTUM = 0.9  # of the average of the weights
_PATIENCE = 8  # checks without a lower held-out loss

MapArray = npt.NDArray[np.uint16]


class Recipe(BaseModel):
    """How the decoder is trained."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    start: Literal["warm", "random"] = "warm"
    """From the base's decoder, or from fresh weights."""
    epochs: int = Field(default=50, ge=1)
    """At most; an epoch sees every patch once."""
    learning_rate: float = Field(default=3e-4, gt=0, le=1)
    """Of AdamW."""
    weight_decay: float = Field(default=0.01, ge=0)
    batch: int = Field(default=2, ge=1)
    """Patches per step."""
    pull: float = Field(default=1.0, ge=0)
    """Weight of the one-sided pull that lets no unlabeled cell fade."""
    calm: float = Field(default=0.5, ge=0)
    """Weight of the one-sided pull that lets nothing else rise."""
    seed: int = 0


@dataclass
class Curve:
    """One training as the user sees it; entry 0 is the start, the next ones the checks.

    Attributes
    ----------
    steps : list of int
    loss : list of float
        Mean over the steps since the check before; of one batch at the start.
    held_out : list of float
        On held-out annotation; empty where there is none.
    """

    steps: list[int] = field(default_factory=list)
    loss: list[float] = field(default_factory=list)
    held_out: list[float] = field(default_factory=list)


@dataclass(eq=False)
class Fitted:
    """A trained decoder.

    Attributes
    ----------
    state : State
        Averaged weights: of the check with the lowest held-out loss, else of the last step.
    curve : Curve
    maps : list of lists of (Y, X) uint16 arrays
        For each check the maps of the held-out patches.
    """

    state: State
    curve: Curve = field(default_factory=Curve)
    maps: list[list[MapArray]] = field(default_factory=list)


Watch = Callable[[Curve, float], None]
"""Gets the curve so far and the part of the training that is done."""


def fit(
    base: DINOCell,
    training: Sequence[Sample],
    held_out: Sequence[Sample],
    recipe: Recipe,
    *,
    seconds: float,
    steps: int,
    check_every: int,
    cancel: Cancel | None = None,
    watch: Watch | None = None,
) -> Fitted:
    """Train a copy of the decoder; at least one step, then as long as there is time.

    Parameters
    ----------
    base : DINOCell
        On its device; is left as it is.
    training, held_out : sequences of Sample
        At least one to train on. With held-out samples, training ends when their loss has not
        fallen for 8 checks.
    recipe : Recipe
    seconds : float
        No step is begun that would end after this, with a look at the held-out samples.
    steps : int
        At most.
    check_every : int
        Steps from one look at the held-out samples to the next.
    cancel : callable, optional
        True ends the training; what was reached is returned.
    watch : callable, optional

    Raises
    ------
    ValueError
        If there is nothing to train on.

    Notes
    -----
    Pseudo-code, per batch of patches, each in a random dihedral view::

        map = decoder(cached features, image)                 # BN statistics are frozen
        loss = partial_loss(map, target, weight, base, pull, recipe.pull, recipe.calm)
        AdamW; average <- 0.9 * average + 0.1 * weights       # momentum grows from 0

    The rate is constant after 5 steps, so that n steps of one training are comparable with n steps
    of another one that sees more of the annotation.
    """
    if not training:
        raise ValueError("No annotation is left to train on; label more cells.")
    begun = time.perf_counter()
    device = next(base.parameters()).device
    trial = _copy(base, recipe, training)
    averaged = _copy(trial, None, training)
    optimizer = torch.optim.AdamW(
        trial.decoder.parameters(), recipe.learning_rate, weight_decay=recipe.weight_decay
    )
    fitted = Fitted(_state(averaged.decoder))
    curve = fitted.curve
    slowest = slowest_look = 0.0

    def check(step: int, losses: Sequence[float]) -> bool:
        """Write down how it stands; return whether training has stopped to help."""
        nonlocal slowest_look
        curve.steps.append(step)
        curve.loss.append(float(np.mean(losses)))
        if held_out:
            start = time.perf_counter()
            loss, maps = _look(averaged, held_out)
            slowest_look = max(slowest_look, time.perf_counter() - start)
            curve.held_out.append(loss)
            fitted.maps.append(maps)
        best = int(np.argmin(curve.held_out)) if held_out else len(curve.steps) - 1
        if best == len(curve.steps) - 1:
            fitted.state = _state(averaged.decoder)
        if watch is not None:
            done = max(step / steps, (time.perf_counter() - begun) / seconds)
            watch(curve, min(done, 1.0))
        return len(curve.steps) - 1 - best >= _PATIENCE

    check(0, [_look(averaged, training[: recipe.batch])[0]])
    losses: list[float] = []
    for step, chosen in enumerate(islice(_stream(training, recipe), steps), start=1):
        start = time.perf_counter()
        ends = start - begun + slowest + slowest_look
        if (cancel is not None and cancel()) or (step > 1 and ends > seconds):
            break
        for group in optimizer.param_groups:
            group["lr"] = recipe.learning_rate * min(1.0, step / _WARMUP)
        loss = _loss(trial, collate(chosen, device), recipe)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        update_average(averaged.decoder, trial.decoder, _MOMENTUM, step)
        losses.append(loss.item())
        slowest = max(slowest, time.perf_counter() - start)
        if step % check_every == 0:
            is_over = check(step, losses)
            losses.clear()
            if is_over:
                break
    if losses:  # a slow computer may not have come to a single check
        check(curve.steps[-1] + len(losses), losses)
    return fitted


@torch.no_grad()
def decode(network: DINOCell, patches: Sequence[Patch]) -> list[MapArray]:
    """Maps of patches as they are, not turned, as uint16."""
    device = next(network.parameters()).device
    maps = []
    for patch in patches:
        levels, image = patch.inputs(0)
        map_ = network.decode([level[None].to(device) for level in levels], image[None].to(device))
        maps.append(quantize(map_[0, 0].float().cpu().numpy()))
    return maps


def with_decoder(base: DINOCell, state: State) -> DINOCell:
    """The same encoder with other weights of the decoder."""
    network = DINOCell(base.encoder, copy.deepcopy(base.decoder))
    network.decoder.load_state_dict(state)
    return network.to(next(base.parameters()).device).eval()


def _copy(base: DINOCell, recipe: Recipe | None, training: Sequence[Sample]) -> DINOCell:
    """Network with the same encoder and a decoder of its own that is ready to be trained."""
    device = next(base.parameters()).device
    network = DINOCell(base.encoder, copy.deepcopy(base.decoder))
    if recipe is not None and recipe.start == "random":
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(recipe.seed)
            network.decoder = build_network(base.architecture).decoder
    network.to(device).eval()
    network.decoder.requires_grad_(True)
    if recipe is not None and recipe.start == "random":
        _measure_statistics(network, training)
    return network


@torch.no_grad()
def _measure_statistics(network: DINOCell, training: Sequence[Sample]) -> None:
    """Let the batch normalizations of fresh weights see the data once, before they are frozen."""
    device = next(network.parameters()).device
    norms = [part for part in network.decoder.modules() if isinstance(part, nn.BatchNorm2d)]
    for norm in norms:
        norm.momentum, norm.training = None, True  # None: the plain mean over all batches
    for sample in training:
        batch = collate([(sample, 0)], device)
        network.decode(batch.features, batch.image)
    for norm in norms:
        norm.momentum, norm.training = 0.1, False


def _stream(training: Sequence[Sample], recipe: Recipe) -> Iterator[list[tuple[Sample, int]]]:
    """Batches of one epoch after the other, without end."""
    rng = np.random.default_rng(recipe.seed)
    while True:
        yield from draw(training, recipe.batch, rng)


def _loss(network: DINOCell, batch: Batch, recipe: Recipe) -> torch.Tensor:
    predicted = network.decode(batch.features, batch.image)
    target, weight, base, pull = batch.targets
    return partial_loss(predicted, target, weight, base, pull, recipe.pull, recipe.calm)


@torch.no_grad()
def _look(network: DINOCell, samples: Sequence[Sample]) -> tuple[float, list[MapArray]]:
    """Loss and maps of samples, one after the other, not turned."""
    device = next(network.parameters()).device
    lost, weights, maps = 0.0, 0.0, []
    for sample in samples:
        batch = collate([(sample, 0)], device)
        predicted = network.decode(batch.features, batch.image)
        target, weight, _, _ = batch.targets
        lost += float((weight * (predicted - target).square()).sum())
        weights += float(weight.sum())
        maps.append(quantize(predicted[0, 0].float().cpu().numpy()))
    return lost / max(weights, 1.0), maps


def _state(module: nn.Module) -> State:
    return {name: value.detach().cpu().clone() for name, value in module.state_dict().items()}
