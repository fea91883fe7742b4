"""Signs of life and of collapse in features and targets."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from napari_dinocell.core.pretrain.targets import Targets


@torch.no_grad()
def target_health(targets: Sequence[Targets]) -> dict[str, float]:
    """How the teacher of one process spreads its targets over the prototypes.

    Returns
    -------
    dict
        ``health/target_entropy``: of the mean sample, in units of ln K; 1 says nothing, 0 is
        certain. ``health/marginal_entropy``: of the mean target, in units of ln K; falls far below
        1 when few prototypes take all. ``health/prototypes_used``: share of the K prototypes that
        some sample likes best, of those that could be (as many as there are samples at most).
        For the CLS token, and ``health/patch_...`` for masked patches.
    """
    values = {}
    for prefix, rows in (
        ("health/", torch.cat([t.dino.flatten(0, 1) for t in targets])),
        ("health/patch_", torch.cat([t.ibot for t in targets])),
    ):
        if not len(rows):
            continue
        scale = 1.0 / math.log(rows.shape[1])
        entropy = torch.special.entr(rows).sum(dim=1).mean()
        marginal = torch.special.entr(rows.mean(dim=0)).sum()
        n_used = len(torch.unique(rows.argmax(dim=1)))
        values[f"{prefix}target_entropy"] = float(entropy) * scale
        values[f"{prefix}marginal_entropy"] = float(marginal) * scale
        values[f"{prefix}prototypes_used"] = n_used / min(rows.shape)
    return values


@torch.no_grad()
def rank_me(features: Tensor) -> float:
    """Effective rank of features (n, D), from 1 to min(n, D).

    Garrido et al. 2023 (RankMe, arXiv:2210.02885, equation 1): exp of the entropy of the singular
    values. Compare only runs of one method; n should be ten times D.
    """
    values = torch.linalg.svdvals(features.double())
    shares = values / values.sum().clamp_min(torch.finfo(torch.float64).tiny)
    return float(torch.special.entr(shares).sum().exp())


@torch.no_grad()
def feature_spread(features: Tensor) -> float:
    """Mean standard deviation of normalized features (n, D) per dimension, times the root of D.

    Near 1 when directions are spread evenly, 0 when all are the same.
    """
    z = torch.nn.functional.normalize(features.double(), dim=-1)
    return float(z.std(dim=0, correction=0).mean() * math.sqrt(features.shape[1]))
