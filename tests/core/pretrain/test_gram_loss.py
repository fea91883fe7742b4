import pytest
import torch
from torch import Tensor

from napari_dinocell.core.pretrain.gram_loss import gram_loss


def patches(seed: int, width: int = 6) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(3, 5, width, generator=generator, dtype=torch.float64)


def test_equals_the_loops_of_the_docstring():
    student, anchor = patches(0), patches(1)
    expected = 0.0
    for v in range(3):
        for i in range(5):
            for j in range(5):
                ours, theirs = (
                    torch.cosine_similarity(x[v, i], x[v, j], dim=0) for x in (student, anchor)
                )
                expected += float((ours - theirs) ** 2) / 25 / 3
    assert float(gram_loss(student, anchor)) == pytest.approx(expected, abs=1e-12)


def test_features_may_turn_grow_and_change_their_number_but_not_their_angles():
    x = patches(0)
    turn = torch.linalg.qr(patches(2)[0].new_ones(8, 6) + torch.eye(8, 6, dtype=x.dtype)).Q
    assert float(gram_loss(7 * x @ turn.T, x)) == pytest.approx(0, abs=1e-12)
    assert float(gram_loss(x.flip(1), x)) > 0.1


def test_opposite_directions_differ_the_most():
    same = torch.ones(1, 2, 4)
    opposite = torch.stack([torch.ones(4), -torch.ones(4)])[None]
    assert float(gram_loss(same, opposite)) == pytest.approx((0 + 4 + 4 + 0) / 4)


def test_a_zero_token_leaves_the_gradient_finite():
    x = patches(0).index_fill(1, torch.tensor([2]), 0.0).requires_grad_(True)
    gram_loss(x, patches(1)).backward()
    assert torch.isfinite(x.grad).all()


def test_other_crops_are_refused():
    with pytest.raises(ValueError, match="equal crops and patches"):
        gram_loss(patches(0), patches(1)[:2])
