import math

import pytest
import torch
from torch import Tensor, nn

from napari_dinocell.core.pretrain.koleo_loss import koleo_loss

from .oracles import lightly


def features(n: int = 64, width: int = 384, seed: int = 0) -> Tensor:
    return torch.randn(n, width, generator=torch.Generator().manual_seed(seed))


def test_equals_the_loops_of_the_docstring():
    x = features(9, 5).double()
    z = nn.functional.normalize(x, dim=1)
    expected = 0.0
    for i in range(9):
        others = [j for j in range(9) if j != i]
        nearest = max(others, key=lambda j: float(z[i] @ z[j]))
        expected -= math.log(float((z[i] - z[nearest]).norm()) + 1e-8)
    assert float(koleo_loss(x)) == pytest.approx(expected / 9, abs=1e-6)


def test_two_opposite_pairs_on_a_circle_have_a_closed_form():
    angles = torch.tensor([0.0, 0.1, math.pi, math.pi + 0.1], dtype=torch.float64)
    loss = koleo_loss(torch.stack([angles.cos(), angles.sin()], dim=1))
    assert float(loss) == pytest.approx(-math.log(2 * math.sin(0.05)), abs=1e-6)


def test_invariant_19_scale_of_the_features_does_not_matter():
    x = features()
    assert float(koleo_loss(10 * x)) == pytest.approx(float(koleo_loss(x)), abs=1e-6)


def test_invariant_19_random_directions_have_the_known_value():
    values = [float(koleo_loss(features(seed=seed))) for seed in range(10)]
    assert values == pytest.approx([-0.283] * 10, abs=0.01)


def test_invariant_19_collapsed_features_have_the_known_value_and_a_finite_gradient():
    x = features(1).expand(64, -1).clone().requires_grad_(True)
    loss = koleo_loss(x)
    loss.backward()
    value = float(loss.detach())
    assert value == pytest.approx(-math.log(math.sqrt(384) * 1e-8 + 1e-8), abs=1e-2)
    assert value == pytest.approx(15.40, abs=0.01)
    assert torch.isfinite(x.grad).all()


@pytest.mark.parametrize("options", [{}, {"group_size": 1}])
def test_invariant_19_a_single_field_is_refused(options):
    with pytest.raises(ValueError, match="at least 2"):
        koleo_loss(features(1), **options)


def test_descent_spreads_features_that_lie_close_together():
    x = (torch.ones(16, 8) + 0.01 * features(16, 8)).requires_grad_(True)
    before = koleo_loss(x)
    for _ in range(50):
        (gradient,) = torch.autograd.grad(koleo_loss(x), x)
        x = (x - 0.05 * nn.functional.normalize(gradient, dim=1)).detach().requires_grad_(True)
    assert koleo_loss(x) < before - 1.0


def test_groups_are_averages_of_separate_losses():
    x = features(24, 16)
    parts = [float(koleo_loss(part)) for part in x.split(8)]
    assert float(koleo_loss(x, group_size=8)) == pytest.approx(sum(parts) / 3, abs=1e-6)


def test_batch_that_is_no_multiple_of_the_group_is_refused():
    with pytest.raises(ValueError, match="multiple"):
        koleo_loss(features(10), group_size=4)


def test_equals_lightly_on_fixed_features_with_gradient():
    ours, theirs = features().requires_grad_(True), features().requires_grad_(True)
    expected = lightly("loss.koleo_loss").KoLeoLoss()(theirs)
    loss = koleo_loss(ours)
    torch.testing.assert_close(loss, expected, rtol=0, atol=1e-6)
    loss.backward()
    expected.backward()
    torch.testing.assert_close(ours.grad, theirs.grad, rtol=1e-4, atol=1e-6)


def test_autocast_does_not_reach_the_loss():
    x = features()
    with torch.autocast("cpu", torch.bfloat16):
        inside = float(koleo_loss(x))
    assert inside == float(koleo_loss(x))
