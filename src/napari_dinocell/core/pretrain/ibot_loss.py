"""iBOT: at each masked patch, the student predicts what the teacher sees there.

Zhou et al. 2022 (iBOT, arXiv:2111.07832, equation 2); targets by Sinkhorn-Knopp over all masked
patches of the step, weights per crop as in DINOv2. The same loss serves the cross-channel patch
targets, where the teacher sees the same crop in another channel.
"""

import torch
from torch import Tensor


def patch_weights(tokens: Tensor) -> Tensor:
    """Weight of each chosen patch: every crop with a chosen patch counts the same.

    Crops without one count with loss 0: iBOT masks half of the crops, so that its loss starts at half
    of ln K.

    Parameters
    ----------
    tokens : (V, N) bool tensor
        The chosen (masked) patches of V crops.

    Returns
    -------
    (M,) float32 tensor
        1 / (patches chosen in this crop * V), in the order of ``x[tokens]``.
    """
    if tokens.ndim != 2 or tokens.dtype != torch.bool:
        raise ValueError(
            f"Chosen patches are {tokens.dtype} of the shape {tuple(tokens.shape)}; expected "
            "bool of the shape (crops, patches)."
        )
    counts = tokens.sum(dim=1, keepdim=True).clamp_min(1)
    share = 1.0 / (counts * tokens.shape[0]).float()
    return share.expand_as(tokens)[tokens]


def ibot_loss(
    student: Tensor, targets: Tensor, weights: Tensor, *, temperature: float = 0.1
) -> Tensor:
    """Weighted cross-entropy between the teacher's targets and the student's prototypes, per patch.

    Parameters
    ----------
    student : (M, K) tensor
        Logits of the student's iBOT head at the M chosen patches: ``head(patch_tokens[tokens])``.
    targets : (M, K) tensor
        Rows of `sinkhorn_knopp` over the teacher's logits at the same patches. Each sums to 1.
    weights : (M,) tensor
        From `patch_weights`; 0 for rows of padding.
    temperature : float
        Of the student.

    Returns
    -------
    scalar tensor, float32 (float64 for float64 logits)
        0 when no patch is chosen.

    Raises
    ------
    ValueError
        If shapes disagree.

    Notes
    -----
    ::

        loss = 0
        for v in crops:                       # also those without a mask
            for i in masked patches of v:
                for k in prototypes:
                    loss -= targets[v, i, k] * log_softmax(student[v, i] / temperature)[k] /
                    n_masked[v]
        return loss / number of crops
    """
    if student.ndim != 2 or student.shape != targets.shape or weights.shape != student.shape[:1]:
        raise ValueError(
            f"Student logits {tuple(student.shape)}, targets {tuple(targets.shape)} and weights "
            f"{tuple(weights.shape)} disagree; expected (patches, prototypes) twice and (patches,)."
        )
    with torch.autocast(student.device.type, enabled=False):
        dtype = torch.promote_types(student.dtype, torch.float32)
        log_p = torch.log_softmax(student.to(dtype) / temperature, dim=-1)
        cross_entropy = -(targets.to(dtype) * log_p).sum(dim=-1)  # (M,)
        return (cross_entropy * weights.to(dtype)).sum()
