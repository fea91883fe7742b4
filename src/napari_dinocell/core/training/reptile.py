"""Reptile: weights from which a few steps lead to those of any task.

References
----------
Nichol, Achiam, Schulman, On first-order meta-learning algorithms (2018), algorithm 1.
"""

import copy
from collections.abc import Iterable, Sequence

import torch
from torch import nn

from napari_dinocell.core.model.network import DINOCell
from napari_dinocell.core.model.store import State
from napari_dinocell.core.training.loss import map_loss
from napari_dinocell.core.training.meta_config import InnerSettings
from napari_dinocell.core.training.records import Batch


def train_on_task(
    network: DINOCell, batches: Iterable[Batch], settings: InnerSettings
) -> list[float]:
    """Train the decoder in place on batches of one task, one step each; return their losses.

    As in an adaptation: AdamW from scratch, batch normalization with frozen statistics.
    """
    network.eval()
    network.decoder.requires_grad_(True)
    optimizer = torch.optim.AdamW(
        network.decoder.parameters(), settings.lr, weight_decay=settings.weight_decay
    )
    losses = []
    for batch in batches:
        loss = batch_loss(network, batch, settings.balance)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        losses.append(loss.item())
    return losses


def reptile_step(
    network: DINOCell, batches: Iterable[Batch], settings: InnerSettings, rate: float
) -> float:
    """Move the decoder a part of the way to where a task leads; return the mean loss on the way.

    Pseudo-code::

        phi = theta
        for batch in task: phi = AdamW(phi, grad loss(phi, batch))
        theta = theta + rate * (phi - theta)

    Parameters
    ----------
    network : DINOCell
        With theta; is changed in place.
    batches : iterable of Batch
        Of one task, with features.
    settings : InnerSettings
    rate : float
        In [0, 1].
    """
    start = state_of(network.decoder)
    losses = train_on_task(network, batches, settings)
    move(network.decoder, start, rate)
    return sum(losses) / len(losses)


@torch.no_grad()
def move(module: nn.Module, start: State, rate: float) -> None:
    """Put weights at `start + rate * (weights - start)`, in place."""
    for name, value in module.state_dict().items():
        if value.is_floating_point():
            value.copy_(start[name].lerp(value, rate))


def loss_after(
    network: DINOCell, support: Sequence[Batch], query: Batch, settings: InnerSettings
) -> tuple[float, float]:
    """Loss on crops of a task before and after a training on others of it; nothing is changed."""
    trial = DINOCell(network.encoder, copy.deepcopy(network.decoder)).eval()
    trial.to(query.image.device)
    with torch.no_grad():
        before = batch_loss(trial, query, settings.balance).item()
    train_on_task(trial, support, settings)
    with torch.no_grad():
        return before, batch_loss(trial, query, settings.balance).item()


def batch_loss(network: DINOCell, batch: Batch, balance: float) -> torch.Tensor:
    """Loss of a batch that comes with features."""
    assert batch.features is not None
    predicted = network.decode(batch.features, batch.image)
    return map_loss(predicted, batch.distance, batch.labels, balance=balance)


def state_of(module: nn.Module) -> State:
    """Copy of all weights and statistics."""
    return {name: value.detach().clone() for name, value in module.state_dict().items()}
