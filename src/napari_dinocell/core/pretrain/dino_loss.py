"""DINO: the student's CLS token of one crop predicts the teacher's of every other crop.

Caron et al. 2021 (DINO, arXiv:2104.14294, equations 2 and 3); targets by Sinkhorn-Knopp.
"""

import torch
from torch import Tensor


def crop_pairs(n_student: int, n_teacher: int) -> Tensor:
    """Which (student crop, teacher crop) pairs enter the loss: all but a crop with itself.

    Student crops are the global crops, which the teacher sees too and in the same order, then the
    local crops. A pair is never left out for showing the same *channel*: two crops of one channel
    still differ in place and photometry.

    Returns
    -------
    (n_student, n_teacher) bool tensor
        G (G - 1) + G L pairs for G global and L local crops.

    Raises
    ------
    ValueError
        If no pair remains (one global crop, no local one), or the student lacks a global crop.
    """
    if n_student < n_teacher or n_teacher < 1:
        raise ValueError(
            f"The student has {n_student} crops, the teacher {n_teacher}; the student sees every "
            "global crop (at least one) and the local ones."
        )
    pairs = ~torch.eye(n_student, n_teacher, dtype=torch.bool)
    if not pairs.any():
        raise ValueError(
            "One global and no local crop leave no pair of different crops; use two global "
            "crops or add local ones."
        )
    return pairs


def dino_loss(student: Tensor, targets: Tensor, *, temperature: float = 0.1) -> Tensor:
    """Cross-entropy of teacher's targets and student's prototypes over pairs of crops.

    Parameters
    ----------
    student : (S, B, K) tensor
        Logits of the student's DINO head: S = G + L crops (the G global ones first) of B fields, K
        prototypes.
    targets : (G, B, K) tensor
        Rows of `sinkhorn_knopp` over the teacher's CLS logits of all G * B global crops. Each sums
        to 1.
    temperature : float
        Of the student.

    Returns
    -------
    scalar tensor, float32 (float64 for float64 logits)
        At least 0; ln K for a student or a teacher without any preference.

    Raises
    ------
    ValueError
        If shapes disagree or no pair of different crops exists.

    Notes
    -----
    ::

        loss = 0
        for b in fields:
            for s in student crops:
                for t in teacher crops:
                    if s is not t:
                        for k in prototypes:
                            loss -= targets[t, b, k] * log_softmax(student[s, b] / temperature)[k]
        return loss / (B * number of pairs)

    With two global and eight local crops this is 2/18 of the global plus 16/18 of the local term,
    the weights of DINOv3.
    """
    if student.ndim != 3 or targets.ndim != 3 or student.shape[1:] != targets.shape[1:]:
        raise ValueError(
            f"Student logits have the shape {tuple(student.shape)}, targets "
            f"{tuple(targets.shape)}; expected (crops, fields, prototypes) with equal fields and prototypes."
        )
    pairs = crop_pairs(student.shape[0], targets.shape[0]).to(student.device)
    with torch.autocast(student.device.type, enabled=False):  # einsum would run in bfloat16
        dtype = torch.promote_types(student.dtype, torch.float32)
        log_p = torch.log_softmax(student.to(dtype) / temperature, dim=-1)
        cross_entropy = -torch.einsum("sbk,tbk->stb", log_p, targets.to(dtype))
        return cross_entropy[pairs].mean()  # (pairs, B)
