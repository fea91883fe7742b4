"""Sinkhorn-Knopp: turn the teacher's logits into targets that use all prototypes equally.

Instead of a softmax per sample, which allows every sample to choose the same prototype, the
teacher's scores of the *whole batch* are scaled until each sample is a distribution and each
prototype got the same total mass. Caron et al. 2020 (SwAV, arXiv:2006.09882, equation 3 and
appendix A); used for the targets of DINO and iBOT since DINOv2 (arXiv:2304.07193, section 4).
"""

import torch
import torch.distributed as dist
from torch import Tensor


@torch.no_grad()
def sinkhorn_knopp(
    logits: Tensor,
    temperature: float,
    *,
    n_iterations: int = 3,
) -> Tensor:
    """Probabilities of the prototypes for each sample, balanced over the batch of all processes.

    Parameters
    ----------
    logits : (M, K) tensor
        Teacher scores of M samples (CLS tokens or patches of this process) for K prototypes. M may
        differ between processes, and may be 0.
    temperature : float
        Above 0; DINOv3 uses 0.04 rising to 0.07. Lower is sharper.
    n_iterations : int
        Each scales the prototypes once, then the samples once.

    Returns
    -------
    (M, K) tensor
        Float32 (float64 for float64 logits). Each row is >= 0 and sums to 1. The mass of each
        prototype over all samples tends to M / K with the number of iterations.

    Raises
    ------
    ValueError
        If `logits` is not 2-D, the temperature is not positive, or no iteration is asked for.

    Notes
    -----
    As usually written, with M and the sums over samples taken over all processes::

        Q = exp(logits / temperature)                 # M x K
        repeat n_iterations:
            for k in prototypes: Q[:, k] /= sum(Q[:, k]) * K
            for i in samples:    Q[i, :] /= sum(Q[i, :]) * M
        return Q * M

    Done here on log Q, which is the same in exact arithmetic: every log Q stays log-logits plus one
    number per sample and one per prototype, and the factors K and M cancel in the last scaling. It
    cannot overflow, and a sample whose scores all lie far below the batch's maximum keeps its
    distribution instead of becoming 0 / 0 (in float32, at temperature 0.04, "far" is 3.5). The last
    scaling is that of the samples, so that every row is exactly a target distribution.

    Subtracting each row's maximum in the usual form is *not* the same: it is itself a scaling of
    the samples, and changes what a finite number of iterations returns.
    """
    _check(logits, temperature, n_iterations)
    # bfloat16 keeps 8 bits: sums over thousands of entries would lose the small ones.
    scores = logits.to(torch.promote_types(logits.dtype, torch.float32)) / temperature
    balanced = scores - _logsumexp_over_samples(scores)
    for _ in range(n_iterations - 1):
        sample_scale = torch.logsumexp(balanced, dim=1, keepdim=True)  # (M, 1)
        # From the scores again, not from `balanced`: rounding does not add up over the iterations.
        balanced = scores - _logsumexp_over_samples(scores - sample_scale)
    return torch.softmax(balanced, dim=1)


def _logsumexp_over_samples(scores: Tensor) -> Tensor:
    """(M, K) -> (K,) log of the sum over the samples of all processes."""
    if not (dist.is_available() and dist.is_initialized()):
        return torch.logsumexp(scores, dim=0)
    largest = scores.new_full(scores.shape[1:], -torch.inf)
    if len(scores):
        largest = scores.amax(dim=0)
    dist.all_reduce(largest, dist.ReduceOp.MAX)
    total = torch.exp(scores - largest).sum(dim=0)
    dist.all_reduce(total, dist.ReduceOp.SUM)
    return largest + torch.log(total)


def _check(logits: Tensor, temperature: float, n_iterations: int) -> None:
    if logits.ndim != 2:
        raise ValueError(
            f"Teacher logits have the shape {tuple(logits.shape)}, expected (samples, prototypes)."
        )
    if not temperature > 0:
        raise ValueError(f"Teacher temperature is {temperature}; it must be above 0.")
    if n_iterations < 1:
        raise ValueError(
            f"Sinkhorn-Knopp was asked for {n_iterations} iterations, needs at least 1."
        )
