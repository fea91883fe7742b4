import numpy as np
import pytest
import torch
from torch import Tensor

from napari_dinocell.core.pretrain.sinkhorn import sinkhorn_knopp

from .oracles import lightly


def logits(n_samples: int, n_prototypes: int, std: float = 0.2, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(n_samples, n_prototypes, generator=generator, dtype=torch.float64) * std


def plain_sinkhorn(scores: Tensor, temperature: float, n_iterations: int) -> Tensor:
    """The usual form, by loops, as the docstring writes it."""
    Q = torch.exp(scores.double() / temperature)
    M, K = Q.shape
    for _ in range(n_iterations):
        for k in range(K):
            Q[:, k] /= Q[:, k].sum() * K
        for i in range(M):
            Q[i, :] /= Q[i, :].sum() * M
    return Q * M


@pytest.mark.parametrize("n_iterations", [1, 2, 3, 7])
def test_log_domain_equals_the_loops_of_the_docstring(n_iterations):
    scores = logits(9, 5)
    ours = sinkhorn_knopp(scores, 0.07, n_iterations=n_iterations)
    torch.testing.assert_close(ours, plain_sinkhorn(scores, 0.07, n_iterations), rtol=0, atol=1e-12)


def test_invariant_01_rows_sum_to_one_for_logits_that_underflow():
    scores = (torch.rand(40, 64, generator=torch.Generator().manual_seed(1)) - 0.5) * 100
    scores[0] -= 50  # everything in this row is e^-1250 below the batch's maximum
    Q = sinkhorn_knopp(scores, 0.04)
    assert torch.isfinite(Q).all()
    assert (Q >= 0).all()
    torch.testing.assert_close(Q.sum(dim=1), torch.ones(40), rtol=0, atol=1e-6)


@pytest.mark.parametrize("std", [0.1, 0.2])
def test_invariant_02_prototypes_get_equal_mass_with_many_iterations(std):
    scores = logits(128, 32, std)
    mass = sinkhorn_knopp(scores, 0.07, n_iterations=100).sum(dim=0)
    torch.testing.assert_close(mass, torch.full_like(mass, 128 / 32), rtol=1e-4, atol=0)


def test_invariant_02_three_iterations_balance_better_than_one():
    scores = logits(128, 32)
    off = [
        (sinkhorn_knopp(scores, 0.07, n_iterations=n).sum(dim=0) - 4).abs().max() for n in (1, 2, 3)
    ]
    assert off[2] < off[1] < off[0]


@pytest.mark.parametrize("n_iterations", [1, 3])
def test_invariant_03_constants_per_batch_and_per_prototype_change_nothing(n_iterations):
    scores, shift = logits(30, 16), logits(1, 16, std=3.0, seed=2)
    Q = sinkhorn_knopp(scores, 0.07, n_iterations=n_iterations)
    for shifted in (scores + 7.0, scores + shift):
        other = sinkhorn_knopp(shifted, 0.07, n_iterations=n_iterations)
        torch.testing.assert_close(other, Q, rtol=0, atol=1e-6)


def test_invariant_03_permuted_samples_and_prototypes_permute_the_result():
    scores = logits(30, 16)
    rows, columns = torch.randperm(30), torch.randperm(16)
    permuted = sinkhorn_knopp(scores[rows][:, columns], 0.07)
    expected = sinkhorn_knopp(scores, 0.07)[rows][:, columns]
    torch.testing.assert_close(permuted, expected, rtol=0, atol=1e-14)


def test_invariant_04_equals_float64_without_maximum_where_a_row_maximum_does_not():
    scores = logits(24, 12, std=0.3, seed=3)
    reference = plain_sinkhorn(scores, 0.05, 3)
    ours = sinkhorn_knopp(scores.float(), 0.05)
    by_row = plain_sinkhorn(scores - scores.amax(dim=1, keepdim=True), 0.05, 3)
    assert (ours - reference).abs().max() <= 1e-6
    assert (by_row - reference).abs().max() > 1e-2


def test_nothing_at_all_gives_no_target():
    assert sinkhorn_knopp(torch.zeros(0, 8), 0.07).shape == (0, 8)


def test_bfloat16_logits_are_balanced_in_float32():
    rounded = logits(64, 512).bfloat16()
    with torch.autocast("cpu", torch.bfloat16):
        Q = sinkhorn_knopp(rounded, 0.07)
    assert Q.dtype == torch.float32
    torch.testing.assert_close(Q, sinkhorn_knopp(rounded.double(), 0.07).float(), rtol=0, atol=1e-6)


def test_targets_carry_no_gradient():
    scores = torch.randn(4, 8, requires_grad=True)
    assert not sinkhorn_knopp(scores, 0.07).requires_grad


def test_equals_lightly_on_fixed_logits():
    sinkhorn = lightly("loss.swav_loss").sinkhorn
    scores = logits(50, 20)
    theirs = sinkhorn(scores, iterations=3, epsilon=0.05)
    torch.testing.assert_close(sinkhorn_knopp(scores, 0.05), theirs, rtol=0, atol=1e-12)


def test_many_iterations_solve_entropic_optimal_transport():
    ot = pytest.importorskip(
        "ot", reason="POT is not installed; `pip install pot` adds the oracle."
    )
    scores = logits(40, 10)
    plan = ot.sinkhorn(
        np.full(40, 1 / 40), np.full(10, 1 / 10), -scores.numpy(), 0.07, stopThr=1e-13
    )
    ours = sinkhorn_knopp(scores, 0.07, n_iterations=300).numpy() / 40
    np.testing.assert_allclose(ours, plan, rtol=0, atol=1e-10)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"logits": torch.zeros(3)}, "expected \\(samples, prototypes\\)"),
        ({"temperature": 0.0}, "must be above 0"),
        ({"n_iterations": 0}, "at least 1"),
    ],
)
def test_wrong_arguments_are_named(options, message):
    arguments = {"logits": torch.zeros(3, 4), "temperature": 0.07} | options
    with pytest.raises(ValueError, match=message):
        sinkhorn_knopp(**arguments)
