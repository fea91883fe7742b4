import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from napari_dinocell.core.training.loss import cell_weights, map_loss


def maps(*values):
    return torch.tensor(values, dtype=torch.float32)[None, None]


def test_without_options_it_is_the_mean_squared_error():
    predicted, target = torch.rand(2, 1, 5, 7), torch.rand(2, 1, 5, 7)
    labels = torch.randint(0, 3, (2, 5, 7))
    expected = torch.nn.functional.mse_loss(predicted, target)
    torch.testing.assert_close(map_loss(predicted, target, labels), expected)


def test_unknown_pixels_carry_neither_loss_nor_gradient():
    predicted = maps([0.5, 0.9], [0.1, 0.2]).requires_grad_()
    labels = torch.tensor([[[0, -1], [-1, 1]]])
    loss = map_loss(predicted, maps([0.5, 0.0], [1.0, 0.2]), labels, balance=1, gradient=1)
    loss.backward()
    assert loss.item() == 0
    assert predicted.grad is not None
    assert predicted.grad.abs().sum() == 0


def test_with_full_balance_each_cell_weighs_the_same():
    labels = torch.zeros(1, 8, 8, dtype=torch.int64)
    labels[0, 0, :2] = 1  # 2 px
    labels[0, 2:4, :4] = 2  # 8 px
    weights = cell_weights(labels, 1.0)[0]
    totals = [weights[labels[0] == cell].sum().item() for cell in (1, 2)]
    assert totals == pytest.approx([5, 5])  # the mean area
    assert (weights[labels[0] == 0] == 1).all()


def test_the_weight_of_a_speck_is_bounded():
    labels = torch.ones(1, 40, 40, dtype=torch.int64)
    labels[0, 0, 0] = 2
    assert cell_weights(labels, 1.0).max() == 8


def test_the_gradient_term_ignores_an_offset():
    target = torch.rand(1, 1, 6, 6)
    labels = torch.zeros(1, 6, 6, dtype=torch.int64)
    plain = map_loss(target + 0.1, target, labels)
    torch.testing.assert_close(map_loss(target + 0.1, target, labels, gradient=5.0), plain)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**16), st.floats(0, 1))
def test_the_loss_does_not_depend_on_the_ids(seed, balance):
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(0, 5, (1, 9, 9), generator=generator)
    predicted = torch.rand(1, 1, 9, 9, generator=generator)
    target = torch.rand(1, 1, 9, 9, generator=generator)
    order = torch.cat(
        [torch.zeros(1, dtype=torch.int64), 1 + torch.randperm(4, generator=generator)]
    )
    first = map_loss(predicted, target, labels, balance=balance)
    torch.testing.assert_close(map_loss(predicted, target, order[labels], balance=balance), first)
