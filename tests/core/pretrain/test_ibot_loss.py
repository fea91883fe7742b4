import math

import pytest
import torch
from torch import Tensor

from napari_dinocell.core.pretrain.ibot_loss import ibot_loss, patch_weights

from .oracles import lightly


def example() -> tuple[Tensor, Tensor, Tensor]:
    """Dense logits and targets of 4 crops with 6 patches, 5 prototypes; masks of 3, 0, 1, 4."""
    generator = torch.Generator().manual_seed(0)
    tokens = torch.zeros(4, 6, dtype=torch.bool)
    tokens[0, [0, 2, 5]] = tokens[2, 3] = tokens[3, 1:5] = True
    student = torch.randn(4, 6, 5, generator=generator, dtype=torch.float64)
    targets = torch.softmax(3 * torch.randn(4, 6, 5, generator=generator, dtype=torch.float64), -1)
    return student, targets, tokens


def test_invariant_17_equals_the_loops_of_the_docstring():
    student, targets, tokens = example()
    expected = 0.0
    for v in range(4):
        masked = [i for i in range(6) if tokens[v, i]]
        for i in masked:
            log_p = torch.log_softmax(student[v, i] / 0.1, dim=0)
            expected -= sum(float(targets[v, i, k] * log_p[k]) for k in range(5)) / len(masked)
    ours = ibot_loss(student[tokens], targets[tokens], patch_weights(tokens).double())
    assert float(ours) == pytest.approx(expected / 4, abs=1e-6)


def test_invariant_17_crops_count_the_same_whatever_the_size_of_their_mask():
    weights = patch_weights(example()[2])
    per_crop = [float(part.sum()) for part in weights.split([3, 1, 4])]
    assert per_crop == pytest.approx([0.25, 0.25, 0.25])


def test_invariant_17_patches_outside_the_mask_get_no_gradient():
    student, targets, tokens = example()
    student.requires_grad_(True)
    ibot_loss(student[tokens], targets[tokens], patch_weights(tokens)).backward()
    touched = student.grad.abs().sum(dim=2) > 0
    assert torch.equal(touched, tokens)


def test_equals_lightly_on_fixed_logits():
    student, _, tokens = example()
    teacher = torch.randn(8, 5, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    criterion = lightly("loss.ibot_loss").IBOTPatchLoss(output_dim=5, student_temp=0.1)
    theirs = criterion(teacher, student[tokens], tokens.view(4, 2, 3), teacher_temp=0.07)
    targets = torch.softmax(teacher / 0.07, dim=-1)
    ours = ibot_loss(student[tokens], targets, patch_weights(tokens))
    assert float(ours) == pytest.approx(float(theirs), abs=1e-6)


def test_student_without_preference_costs_ln_K_for_the_masked_half_of_the_crops():
    tokens = torch.tensor([[True, True, False], [False, False, False]])
    targets = torch.softmax(torch.randn(2, 64), dim=-1)
    loss = ibot_loss(torch.zeros(2, 64), targets, patch_weights(tokens))
    assert float(loss) == pytest.approx(0.5 * math.log(64), abs=1e-5)


def test_padding_of_weight_zero_changes_neither_value_nor_gradient():
    student, targets, tokens = example()
    chosen, weights = student[tokens].requires_grad_(True), patch_weights(tokens)
    padded = torch.cat([chosen, torch.zeros(3, 5, dtype=torch.float64)])
    more = ibot_loss(
        padded,
        torch.cat([targets[tokens], torch.zeros(3, 5, dtype=torch.float64)]),
        torch.cat([weights, torch.zeros(3)]),
    )
    loss = ibot_loss(chosen, targets[tokens], weights)
    assert torch.equal(more, loss)
    gradients = [torch.autograd.grad(x, chosen, retain_graph=True)[0] for x in (more, loss)]
    torch.testing.assert_close(*gradients, rtol=0, atol=0)


def test_no_masked_patch_costs_nothing():
    nothing = torch.zeros(4, 6, dtype=torch.bool)
    loss = ibot_loss(
        torch.zeros(0, 5, requires_grad=True), torch.zeros(0, 5), patch_weights(nothing)
    )
    loss.backward()
    assert float(loss.detach()) == 0.0


def test_autocast_does_not_reach_the_loss():
    student, targets, tokens = example()
    arguments = student[tokens].float(), targets[tokens].float(), patch_weights(tokens)
    expected = ibot_loss(*arguments)
    with torch.autocast("cpu", torch.bfloat16):
        assert float(ibot_loss(*arguments)) == float(expected)


def test_shapes_that_disagree_are_named():
    with pytest.raises(ValueError, match="disagree"):
        ibot_loss(torch.zeros(3, 5), torch.zeros(3, 5), torch.zeros(4))
    with pytest.raises(ValueError, match="expected bool"):
        patch_weights(torch.zeros(3, 5))
