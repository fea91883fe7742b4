"""AdamW with layer-wise rates, the schedule of the rate, and the average of the weights."""

import math
from collections.abc import Iterable

import torch
from torch import Tensor, nn

from napari_dinocell.core.model.network import DINOCell


def parameter_groups(
    network: DINOCell, *, weight_decay: float, encoder_scale: float, layer_decay: float
) -> list[dict[str, object]]:
    """Group trainable parameters by rate and weight decay.

    The decoder has scale 1. Block k of an encoder of n blocks has
    ``encoder_scale * layer_decay ** (n - 1 - k)``, what comes before the blocks one power more.
    Biases, norms, scales, tokens and positions (1-D, or token-like) are not decayed.

    Returns
    -------
    list of dict
        For `torch.optim.AdamW`; key ``scale`` is the factor on the learning rate.
    """
    groups: dict[tuple[float, bool], list[nn.Parameter]] = {}
    blocks = getattr(network.encoder, "blocks", None)
    n_blocks = len(blocks) if blocks is not None else 0
    for name, parameter in network.named_parameters():
        if not parameter.requires_grad:
            continue
        scale = 1.0
        if name.startswith("encoder."):
            parts = name.split(".")
            depth = (
                int(parts[2]) if parts[1] == "blocks" else (n_blocks if parts[1] == "norm" else -1)
            )
            power = max(n_blocks - 1 - depth, 0) if n_blocks else 0
            scale = encoder_scale * layer_decay**power
        decayed = parameter.ndim >= 2 and "token" not in name and "pos_embed" not in name
        groups.setdefault((scale, decayed), []).append(parameter)
    return [
        {"params": parameters, "scale": scale, "weight_decay": weight_decay if decayed else 0.0}
        for (scale, decayed), parameters in groups.items()
    ]


def learning_rate(step: int, total: int, *, peak: float, final: float, warmup: int) -> float:
    """Rate at a step: linear from 0 to `peak` over `warmup` steps, then a cosine to `final`.

    Examples
    --------
    >>> learning_rate(0, 100, peak=1.0, final=0.0, warmup=10)
    0.1
    >>> learning_rate(9, 100, peak=1.0, final=0.0, warmup=10)
    1.0
    >>> round(learning_rate(99, 100, peak=1.0, final=0.0, warmup=10), 6)
    0.0
    """
    if step < warmup:
        return peak * (step + 1) / warmup
    progress = (step - warmup) / max(total - 1 - warmup, 1)
    return final + (peak - final) * 0.5 * (1 + math.cos(math.pi * min(progress, 1.0)))


def set_rate(optimizer: torch.optim.Optimizer, rate: float) -> None:
    """Give every group its share of `rate`."""
    for group in optimizer.param_groups:
        group["lr"] = rate * group["scale"]


@torch.no_grad()
def update_average(average: nn.Module, current: nn.Module, momentum: float, step: int) -> None:
    """Move `average` towards `current`; the momentum grows from 0, so that early steps don't stay in it.

    Running statistics of batch norm are averaged too, counters copied.
    """
    momentum = min(momentum, (1 + step) / (10 + step))
    for old, new in zip(average.state_dict().values(), current.state_dict().values(), strict=True):
        if old.is_floating_point():
            old.lerp_(new.to(old.dtype), 1 - momentum)
        else:
            old.copy_(new)


def gradient_norm(parameters: Iterable[nn.Parameter]) -> Tensor:
    """Euclidean norm of all gradients together."""
    gradients = [p.grad.detach().norm() for p in parameters if p.grad is not None]
    return torch.stack(gradients).norm() if gradients else torch.zeros(())
