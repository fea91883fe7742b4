"""Gram anchoring: keep which patches of a crop are alike as it was in an earlier network.

Siméoni et al. 2025 (DINOv3, arXiv:2508.10104, section 4.2), there against the decay of dense
features in very long runs, with an earlier teacher as the anchor. Here the anchor is the backbone
that the run started from, against forgetting.
"""

import torch
from torch import Tensor, nn


def gram_loss(student: Tensor, anchor: Tensor) -> Tensor:
    """Mean squared difference of the cosines between all patches of each crop.

    Features may turn as a whole, as long as their angles to each other stay.

    Parameters
    ----------
    student, anchor : (V, N, D) tensors
        Patch tokens of the same V crops, after the final norm. D may differ.

    Returns
    -------
    scalar tensor, float32 (float64 for float64 features)
        In [0, 4].

    Raises
    ------
    ValueError
        If the two are not of the same crops and patches.

    Notes
    -----
    ::

        for v in crops:
            x, y = rows of student[v] and anchor[v], each divided by its length
            loss += mean over i, j of (x[i] . x[j] - y[i] . y[j]) ** 2
        return loss / V
    """
    if student.ndim != 3 or anchor.ndim != 3 or student.shape[:2] != anchor.shape[:2]:
        raise ValueError(
            f"Student patches have the shape {tuple(student.shape)}, those of the anchor "
            f"{tuple(anchor.shape)}; expected (crops, patches, width) with equal crops and patches."
        )
    with torch.autocast(student.device.type, enabled=False):
        x, y = (
            nn.functional.normalize(t.to(torch.promote_types(t.dtype, torch.float32)), dim=-1)
            for t in (student, anchor)
        )
        return (x @ x.mT - y @ y.mT).square().mean()
