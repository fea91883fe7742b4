"""The supervised loss on distance maps."""

import torch
from torch import Tensor


def map_loss(
    predicted: Tensor,
    target: Tensor,
    labels: Tensor,
    *,
    balance: float = 0.0,
    gradient: float = 0.0,
) -> Tensor:
    """Mean squared error of distance maps, optionally balanced over cells and on edges.

    Pseudo-code, for each crop::

        w = 1                                                        # balance = 0 ★
        w[cell] = 1 - balance + balance * min(mean_area / area[cell], 8)
        w[unknown] = 0
        loss = mean(w * (predicted - target)^2) + gradient * mean(|grad predicted - grad target|^2)

    Parameters
    ----------
    predicted, target : (B, 1, Y, X) float tensor
        Maps in [0, 1].
    labels : (B, Y, X) int tensor
        Instances of the target, 0 background, negative where nobody knows.
    balance : float
        0: each pixel counts equally; 1: each cell of the batch does. Small cells vanish under the
        plain mean.
    gradient : float
        Weight of the squared difference of neighboring pixels, which sharpens rims and valleys.

    Returns
    -------
    scalar tensor
    """
    difference = predicted.float() - target.float()
    weights = cell_weights(labels, balance)[:, None]
    loss = (weights * difference.square()).mean()
    if gradient > 0:
        known = (labels >= 0)[:, None].float()
        for axis in (-1, -2):
            pairs = known.narrow(axis, 1, known.shape[axis] - 1) * known.narrow(
                axis, 0, known.shape[axis] - 1
            )
            loss = loss + gradient * (pairs * difference.diff(dim=axis).square()).mean()
    return loss


def taught(
    distance: Tensor, labels: Tensor, teacher: Tensor, weight: float
) -> tuple[Tensor, Tensor]:
    """Target and labels that mix what people drew with the map of a teacher.

    Parameters
    ----------
    distance, teacher : (B, 1, Y, X) float tensor
        Maps in [0, 1].
    labels : (B, Y, X) int tensor
        Instances, 0 background, negative where nobody knows.
    weight : float
        Share of the teacher where somebody knows; elsewhere the teacher alone tells.

    Returns
    -------
    target : (B, 1, Y, X) float tensor
    labels : (B, Y, X) int tensor
        Without negative ones: everything counts now.
    """
    mixed = torch.lerp(distance, teacher, weight)
    return torch.where(labels[:, None] < 0, teacher, mixed), labels.clamp(min=0)


def cell_weights(labels: Tensor, balance: float, largest: float = 8.0) -> Tensor:
    """Weight of each pixel, (B, Y, X) float32: 0 where unknown, 1 on background, more in small cells."""
    weights = (labels >= 0).float()
    if balance == 0:
        return weights
    for crop, weight in zip(labels.clamp(min=0).long(), weights, strict=True):
        areas = torch.bincount(crop.flatten()).float()
        present = areas > 0
        present[0] = False
        if not present.any():
            continue
        ratio = torch.ones_like(areas)
        ratio[present] = (areas[present].mean() / areas[present]).clamp(max=largest)
        weight.mul_(1 + balance * (ratio[crop] - 1))
    return weights
