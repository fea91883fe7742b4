import math

import pytest
import torch
from torch import Tensor

from napari_dinocell.core.pretrain.dino_loss import crop_pairs, dino_loss
from napari_dinocell.core.pretrain.sinkhorn import sinkhorn_knopp

from .oracles import lightly


def example(
    n_student: int = 4, n_teacher: int = 2, B: int = 3, K: int = 7
) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    student = torch.randn(n_student, B, K, generator=generator, dtype=torch.float64)
    teacher = torch.randn(n_teacher, B, K, generator=generator, dtype=torch.float64)
    return student, torch.softmax(teacher / 0.1, dim=-1)


def test_equals_the_loops_of_the_docstring():
    student, targets = example()
    expected, n_pairs = 0.0, 0
    for s in range(4):
        for t in range(2):
            if s == t:
                continue
            n_pairs += 1
            for b in range(3):
                log_p = torch.log_softmax(student[s, b] / 0.1, dim=0)
                expected -= sum(float(targets[t, b, k] * log_p[k]) for k in range(7))
    assert float(dino_loss(student, targets)) == pytest.approx(expected / (3 * n_pairs), abs=1e-12)


def test_equals_lightly_on_fixed_logits():
    student, _ = example()
    teacher = torch.randn(2, 3, 7, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    criterion = lightly("loss.dino_loss").DINOLoss(output_dim=7, student_temp=0.1)
    criterion.center_momentum = 1.0  # the center stays 0: targets are plain softmaxes
    theirs = criterion(list(teacher), list(student), teacher_temp=0.06)
    ours = dino_loss(student, torch.softmax(teacher / 0.06, dim=-1))
    assert float(ours) == pytest.approx(float(theirs), abs=1e-7)


def test_weights_of_global_and_local_terms_are_2_and_16_of_18():
    student, targets = example(n_student=10)
    local = torch.stack([dino_loss(torch.stack([student[s]] * 2), targets) for s in range(2, 10)])
    # The pair (s, s) against two globals counts each target once: the local term of crop s.
    globals_only = dino_loss(student[:2], targets)
    expected = 2 / 18 * globals_only + 16 / 18 * local.mean()
    assert float(dino_loss(student, targets)) == pytest.approx(float(expected), abs=1e-12)


def test_invariant_06_collapsed_teacher_costs_the_student_at_least_ln_K():
    targets = sinkhorn_knopp(torch.ones(6, 1) * torch.randn(1, 64), 0.04).view(2, 3, 64)
    torch.testing.assert_close(targets, torch.full_like(targets, 1 / 64), rtol=0, atol=1e-6)
    uniform = dino_loss(torch.zeros(10, 3, 64), targets)
    assert float(uniform) == pytest.approx(math.log(64), abs=1e-5)
    assert float(dino_loss(torch.randn(10, 3, 64), targets)) > math.log(64)


def test_invariant_08_default_crops_form_18_pairs():
    assert int(crop_pairs(10, 2).sum()) == 18
    assert int(crop_pairs(5, 5).sum()) == 20


def test_invariant_08_target_of_a_crop_teaches_every_student_crop_but_itself():
    student, targets = example()
    student.requires_grad_(True)
    targets.requires_grad_(True)
    (gradient,) = torch.autograd.grad(dino_loss(student, targets), student, create_graph=True)
    for s in range(4):
        (effect,) = torch.autograd.grad(gradient[s].square().sum(), targets, retain_graph=True)
        for t in range(2):
            assert bool((effect[t] == 0).all()) == (s == t)


def test_invariant_08_a_single_crop_is_refused():
    with pytest.raises(ValueError, match="no pair of different crops"):
        dino_loss(torch.zeros(1, 3, 8), torch.full((1, 3, 8), 1 / 8))


def test_invariant_09_swapping_the_global_crops_changes_nothing_and_both_learn():
    student, targets = example()
    swapped = dino_loss(student[[1, 0, 2, 3]], targets[[1, 0]])
    assert float(swapped) == pytest.approx(float(dino_loss(student, targets)), abs=1e-12)
    student.requires_grad_(True)
    dino_loss(student[:2], targets).backward()
    assert (student.grad[:2].abs().sum(dim=(1, 2)) > 0).all()


def test_autocast_does_not_reach_the_loss():
    student, targets = (x.float() for x in example(K=4096))
    expected = dino_loss(student, targets)
    with torch.autocast("cpu", torch.bfloat16):
        assert float(dino_loss(student, targets)) == float(expected)
        half = dino_loss(student.bfloat16(), targets)
    assert half.dtype == torch.float32
    assert float(half) == pytest.approx(float(expected), rel=5e-3)


def test_shapes_that_disagree_are_named():
    with pytest.raises(ValueError, match="equal fields and prototypes"):
        dino_loss(torch.zeros(2, 3, 8), torch.zeros(2, 3, 9))
