import math

import pytest
import torch

from napari_dinocell.core.pretrain.dino_loss import dino_loss
from napari_dinocell.core.pretrain.heads import ProjectionHead
from napari_dinocell.core.pretrain.ibot_loss import ibot_loss, patch_weights
from napari_dinocell.core.pretrain.masks import block_masks
from napari_dinocell.core.pretrain.sinkhorn import sinkhorn_knopp
from napari_dinocell.core.pretrain.teacher import make_teacher

from .tiny import N_PROTOTYPES, SIZE, TinyNetwork, tiny_network

B = 16
LN_K = math.log(N_PROTOTYPES)


def first_losses(student: TinyNetwork, teacher: TinyNetwork) -> tuple[float, float]:
    """DINO and iBOT losses of two global crops of 16 fields, before any step."""
    crops = torch.rand(2 * B, 1, SIZE, SIZE, generator=torch.Generator().manual_seed(0))
    masks = torch.from_numpy(block_masks(0, 0, 2 * B, (4, 4), min_block=2))
    with torch.no_grad():
        seen, predicted = teacher(crops), student(crops, masks)
        dino_targets = sinkhorn_knopp(teacher.dino_head(seen.cls), 0.04)
        ibot_targets = sinkhorn_knopp(teacher.ibot_head(seen.patches[masks]), 0.04)
        dino = dino_loss(
            student.dino_head(predicted.cls).unflatten(0, (2, B)), dino_targets.unflatten(0, (2, B))
        )
        ibot = ibot_loss(
            student.ibot_head(predicted.patches[masks]), ibot_targets, patch_weights(masks)
        )
    return float(dino), float(ibot)


def test_invariant_07_new_heads_start_at_ln_K_and_half_of_it():
    student = tiny_network()
    dino, ibot = first_losses(student, make_teacher(student))
    assert dino == pytest.approx(LN_K, abs=0.05)
    assert ibot == pytest.approx(LN_K / 2, abs=0.05)


def test_invariant_07_heads_of_fixed_length_start_off_by_half_the_variance_of_their_logits():
    student = tiny_network(weight_norm=True)
    dino, ibot = first_losses(student, make_teacher(student))
    excess = (256**-0.5 / 0.1) ** 2 / 2  # for targets that know nothing of the student: 0.195
    assert LN_K - 0.15 < dino < LN_K + excess + 0.05
    assert (LN_K - 0.15) / 2 < ibot < (LN_K + excess + 0.05) / 2


def test_invariant_07_teacher_that_knows_nothing_of_the_student_costs_at_least_ln_K():
    for seed in range(3):
        student, teacher = tiny_network(2 * seed + 1), make_teacher(tiny_network(2 * seed + 2))
        assert first_losses(student, teacher)[0] >= LN_K


@pytest.mark.parametrize(("weight_norm", "std"), [(False, 0.02), (True, 256**-0.5)])
def test_logits_start_with_the_spread_of_plain_and_of_fixed_length_prototypes(weight_norm, std):
    torch.manual_seed(0)
    head = ProjectionHead(384, 4096, weight_norm=weight_norm)
    with torch.no_grad():
        logits = head(torch.randn(16, 384))
    assert float(logits.std()) == pytest.approx(std, rel=0.05)


def test_logit_is_the_cosine_times_the_length_of_the_prototype():
    head = ProjectionHead(12, 5, hidden=16, bottleneck=8)
    tokens = torch.randn(3, 4, 12)
    with torch.no_grad():
        logits = head(tokens)
        lengths = head.prototypes.weight.norm(dim=1)
        z = head.mlp(tokens)
        cosine = torch.cosine_similarity(z[..., None, :], head.prototypes.weight, dim=-1)
    assert logits.shape == (3, 4, 5)
    torch.testing.assert_close(logits, cosine * lengths)


def test_scaling_the_prototypes_matters_for_plain_heads_only():
    tokens = torch.randn(3, 12)
    for weight_norm in (False, True):
        head = ProjectionHead(12, 5, hidden=16, bottleneck=8, weight_norm=weight_norm)
        with torch.no_grad():
            before = head(tokens)
            head.prototypes.weight *= 3
            after = head(tokens)
        torch.testing.assert_close(after, before if weight_norm else 3 * before)


def test_head_has_three_layers_with_zero_biases_and_prototypes_without():
    head = ProjectionHead(384)
    shapes = [tuple(p.shape) for p in head.parameters()]
    assert shapes == [(2048, 384), (2048,), (2048, 2048), (2048,), (256, 2048), (256,), (8192, 256)]
    assert all((p == 0).all() for p in head.parameters() if p.ndim == 1)


def test_a_zero_bottleneck_gives_zero_logits_not_nan():
    head = ProjectionHead(4, 3, hidden=4, bottleneck=2)
    with torch.no_grad():
        for parameter in head.mlp.parameters():
            parameter.zero_()
        assert (head(torch.randn(2, 4)) == 0).all()


def test_empty_batch_of_patches_gives_no_logits():
    assert ProjectionHead(4, 3, hidden=4, bottleneck=2)(torch.zeros(0, 4)).shape == (0, 3)


def test_width_of_nothing_is_refused():
    with pytest.raises(ValueError, match="n_prototypes = 0"):
        ProjectionHead(4, 0)
