import math

import numpy as np
import pytest
import torch
from scipy import ndimage

from napari_dinocell.core.pretrain.augment import (
    Photometry,
    PhotometryRanges,
    apply_photometry,
    draw_photometry,
)

RANGES = PhotometryRanges()


def crops(B: int = 3, P: int = 1, size: int = 40) -> torch.Tensor:
    return torch.rand(B, P, size, size, generator=torch.Generator().manual_seed(0)) * 1.2 - 0.1


def one(x: torch.Tensor, **changes: object) -> torch.Tensor:
    draws = [Photometry(**changes)] * len(x)
    return apply_photometry(x, draws, [x.shape[1]] * len(x))


def drawn(n: int = 2000, **options: float) -> list[Photometry]:
    options = {"blur_share": 0.5} | options
    return [draw_photometry(np.random.default_rng(seed), RANGES, **options) for seed in range(n)]


def test_neutral_draw_changes_nothing():
    x = crops()
    torch.testing.assert_close(one(x), x, rtol=0, atol=1e-7)


def test_gain_offset_gamma_and_inversion_follow_their_formula():
    x = crops()
    changed = one(x, gain=1.5, offset=-0.02, gamma=0.7, inverted=True)
    expected = 1 - (1.5 * x.sign() * x.abs() ** 0.7 - 0.02)
    torch.testing.assert_close(changed, expected, rtol=0, atol=1e-6)


def test_gamma_keeps_the_order_of_gray_values_below_zero_too():
    x = torch.linspace(-0.5, 2.0, 400).view(1, 1, 20, 20)
    assert (one(x, gamma=1.4).flatten().diff() > 0).all()


@pytest.mark.parametrize("sigma", [0.1, 0.6, 1.5])
def test_blur_equals_scipy(sigma):
    x = crops(1)
    expected = ndimage.gaussian_filter(
        x[0, 0].numpy(), sigma, mode="mirror", truncate=3 + 0.5 / sigma
    )
    # Ours cuts at the radius of the widest sigma of the batch; alone, at ceil(3 sigma).
    np.testing.assert_allclose(one(x, blur_sigma=sigma)[0, 0].numpy(), expected, atol=2e-3)


def test_blur_of_one_crop_leaves_its_neighbours_in_the_batch_alone():
    x = crops(2)
    changed = apply_photometry(x, [Photometry(), Photometry(blur_sigma=1.5)], [1, 1])
    torch.testing.assert_close(changed[0], x[0], rtol=0, atol=1e-6)
    assert (changed[1] - x[1]).abs().max() > 0.1
    torch.testing.assert_close(changed[1:], one(x[1:], blur_sigma=1.5), rtol=0, atol=1e-6)


def test_noise_has_the_variance_of_photons_and_camera():
    for value, photons, read in ((0.5, 100.0, 0.0), (0.5, 1e5, 0.02), (0.9, 400.0, 0.01)):
        noisy = one(torch.full((1, 1, 300, 300), value), photons=photons, read_noise=read)
        assert float(noisy.mean()) == pytest.approx(value, abs=0.001)
        assert float(noisy.var()) == pytest.approx(value / photons + read**2, rel=0.05)


def test_photons_are_noisy_where_there_is_light_only():
    x = torch.full((1, 1, 50, 50), -0.05)
    torch.testing.assert_close(one(x, photons=50.0), x, rtol=0, atol=1e-7)


def test_noise_depends_on_its_seed_and_not_on_the_batch():
    x = crops(3)
    draws = [Photometry(photons=100.0, read_noise=0.01, noise_seed=seed) for seed in (1, 2, 3)]
    together = apply_photometry(x, draws, [1] * 3)
    alone = apply_photometry(x[2:], draws[2:], [1])
    assert torch.equal(together[2:], alone)
    other = apply_photometry(x[2:], [Photometry(photons=100.0, noise_seed=4)], [1])
    assert not torch.equal(alone, other)


def test_gray_planes_stay_equal_and_color_planes_get_noise_of_their_own():
    x = crops(2).expand(-1, 3, -1, -1)
    draws = [Photometry(photons=100.0, noise_seed=7)] * 2
    gray, color = apply_photometry(x, draws, [1, 3])
    assert torch.equal(gray[0], gray[1])
    assert torch.equal(gray[0], gray[2])
    assert not torch.equal(color[0], color[1])


def test_illumination_stays_within_its_bound_and_is_smooth():
    strongest = 0.0
    for draw in drawn(300):
        field = one(torch.ones(1, 1, 64, 64), illumination=draw.illumination)[0, 0]
        strongest = max(strongest, float((field - 1).abs().max()))
        assert float(field.diff(dim=0).abs().max()) < 0.03
    assert 0.1 < strongest <= RANGES.illumination + 1e-6


def test_draws_keep_their_ranges_and_shares():
    draws = drawn()
    assert np.mean([d.gain != 1.0 for d in draws]) == pytest.approx(0.8, abs=0.03)
    assert np.mean([d.gamma != 1.0 for d in draws]) == pytest.approx(0.5, abs=0.04)
    assert np.mean([d.blur_sigma > 0 for d in draws]) == pytest.approx(0.5, abs=0.04)
    assert np.mean([any(d.illumination) for d in draws]) == pytest.approx(0.2, abs=0.03)
    assert np.mean([math.isfinite(d.photons) for d in draws]) == pytest.approx(0.5, abs=0.04)
    assert not any(d.inverted for d in draws)
    gains = np.log([d.gain for d in draws if d.gain != 1.0])
    assert gains.min() >= math.log(0.6)
    assert gains.max() <= math.log(1.6)
    assert np.median(gains) == pytest.approx((math.log(0.6) + math.log(1.6)) / 2, abs=0.05)


def test_switching_the_blur_leaves_all_other_draws_as_they_were():
    for with_blur, without in zip(
        drawn(50, blur_share=1.0), drawn(50, blur_share=0.0), strict=True
    ):
        assert with_blur.blur_sigma > 0
        assert without.blur_sigma == 0
        assert with_blur.noise_seed == without.noise_seed
        assert with_blur.gamma == without.gamma
