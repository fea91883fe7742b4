from dataclasses import replace
from itertools import product

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from napari_dinocell.core.pretrain.crops import (
    Geometry,
    crop_planes,
    draw_geometry,
    resize_matrix,
)

TILE = (80, 80)


def tile(n_channels: int = 1, seed: int = 0) -> Tensor:
    return torch.rand(1, n_channels, *TILE, generator=torch.Generator().manual_seed(seed))


def crop(channels: Tensor, geometry: Geometry, channel: int = 0) -> Tensor:
    """(size, size) crop of one channel."""
    rendering = nn.functional.one_hot(torch.tensor(channel), channels.shape[1])[None, None].float()
    return crop_planes(channels, rendering, [geometry])[0, 0]


def geometries(
    n: int = 20, size: int = 32, area: tuple[float, float] = (0.1, 1.0)
) -> list[Geometry]:
    return [draw_geometry(np.random.default_rng(seed), TILE, size, area=area) for seed in range(n)]


@pytest.mark.parametrize("box", [(0, 0, 80, 80), (3, 10, 61, 40), (20, 7, 21, 17), (0, 0, 64, 64)])
def test_crop_equals_torch_antialiased_bicubic_of_the_box(box):
    top, left, height, width = box
    cut = tile()[:, :, top : top + height, left : left + width]
    expected = nn.functional.interpolate(cut, (32, 32), mode="bicubic", antialias=True)[0, 0]
    torch.testing.assert_close(crop(tile(), Geometry(*box, 32)), expected, rtol=0, atol=2e-6)


def test_box_at_its_own_size_is_the_box():
    planes = tile()
    result = crop(planes, Geometry(11, 5, 32, 32, 32))
    torch.testing.assert_close(result, planes[0, 0, 11:43, 5:37], rtol=0, atol=1e-6)


def test_the_eight_orientations_are_those_of_the_square():
    planes, plain = tile(), Geometry(5, 6, 50, 40, 32)
    upright = crop(planes, plain)
    seen = []
    for flip_y, flip_x, transpose in product((False, True), repeat=3):
        expected = upright.flip([d for d, f in enumerate((flip_y, flip_x)) if f])
        expected = expected.T if transpose else expected
        turned = replace(plain, flip_y=flip_y, flip_x=flip_x, transpose=transpose)
        result = crop(planes, turned)
        torch.testing.assert_close(result, expected, rtol=0, atol=1e-6)
        seen.append(result)
    assert len({x.numpy().tobytes() for x in seen}) == 8


def test_constant_planes_stay_constant_and_rows_sum_to_one():
    for geometry in geometries():
        result = crop(torch.full((1, 1, *TILE), 0.7), geometry)
        torch.testing.assert_close(result, torch.full_like(result, 0.7), rtol=0, atol=1e-6)
    matrix = resize_matrix(torch.tensor([3, 0]), torch.tensor([50, 9]), 80, 32)
    torch.testing.assert_close(matrix.sum(dim=2), torch.ones(2, 32))
    assert (matrix[0, :, :3] == 0).all()
    assert (matrix[1, :, 9:] == 0).all()


def test_each_sample_of_a_batch_has_its_own_geometry_and_rendering():
    planes = torch.cat([tile(3, seed) for seed in range(4)])
    weights = torch.softmax(torch.randn(4, 1, 3), dim=2)
    drawn = geometries(4)
    batch = crop_planes(planes, weights, drawn)
    for i in range(4):
        alone = crop_planes(planes[i : i + 1], weights[i : i + 1], drawn[i : i + 1])
        torch.testing.assert_close(batch[i : i + 1], alone, rtol=0, atol=1e-6)


def test_rendering_and_cropping_commute():
    planes, geometry = tile(3), geometries(1)[0]
    mean = crop_planes(planes, torch.full((1, 1, 3), 1 / 3), [geometry])[0, 0]
    apart = torch.stack([crop(planes, geometry, c) for c in range(3)]).mean(dim=0)
    torch.testing.assert_close(mean, apart, rtol=0, atol=1e-6)


def test_invariant_18_two_channels_of_one_geometry_are_cropped_bit_identically():
    y, x = (
        ramp.float() for ramp in torch.meshgrid(torch.arange(80), torch.arange(80), indexing="ij")
    )
    planes = torch.stack([y, x, y, x])[None]
    for geometry in geometries():
        assert torch.equal(crop(planes, geometry, 0), crop(planes, geometry, 2))
        assert torch.equal(crop(planes, geometry, 1), crop(planes, geometry, 3))


def test_draws_keep_area_aspect_and_tile():
    shares, ratios = [], []
    for seed in range(500):
        g = draw_geometry(np.random.default_rng(seed), (320, 320), 224, area=(0.32, 1.0))
        assert g.top >= 0
        assert g.left >= 0
        assert g.top + g.height <= 320
        assert g.left + g.width <= 320
        shares.append(g.height * g.width / 320**2)
        ratios.append(g.width / g.height)
    assert min(shares) > 0.315
    assert max(shares) <= 1.0
    assert min(ratios) > 0.74
    assert max(ratios) < 1.35
    assert np.mean(np.log(ratios)) == pytest.approx(0.0, abs=0.03)


def test_all_orientations_are_drawn_evenly():
    drawn = geometries(800)
    counts = np.bincount([g.flip_y + 2 * g.flip_x + 4 * g.transpose for g in drawn], minlength=8)
    assert counts.min() > 60


def test_background_is_drawn_again_and_the_last_draw_taken():
    asked = []

    def never(geometry: Geometry) -> bool:
        asked.append(geometry)
        return False

    last = draw_geometry(
        np.random.default_rng(0), TILE, 32, area=(0.1, 0.3), accept=never, n_redraws=4
    )
    assert len(asked) == 5
    assert last == asked[-1]
    below = draw_geometry(
        np.random.default_rng(0),
        TILE,
        32,
        area=(0.1, 0.3),
        accept=lambda g: g.top > 30,
        n_redraws=50,
    )
    assert below.top > 30


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"area": (0.5, 0.3)}, "expected 0 < low <= high <= 1"),
        ({"area": (0.0, 0.3)}, "expected 0 < low"),
        ({"area": (0.1, 0.3), "size": 0}, "must be positive"),
    ],
)
def test_wrong_ranges_are_named(options, message):
    with pytest.raises(ValueError, match=message):
        draw_geometry(np.random.default_rng(0), TILE, **({"size": 32} | options))


def test_crops_of_two_sizes_in_a_batch_are_refused():
    boxes = [Geometry(0, 0, 20, 20, 16), Geometry(0, 0, 20, 20, 32)]
    with pytest.raises(ValueError, match="one size"):
        crop_planes(torch.cat([tile(), tile()]), torch.ones(2, 1, 1), boxes)
