"""What pre-training relies on in the backbone: its patches, its positions, its names."""

import pytest
import torch

from napari_dinocell.core.model.vit import VisionTransformer, ViTConfig
from napari_dinocell.core.model.weights import load_weights
from napari_dinocell.core.pretrain.regularize import rescaled_coordinates

SHAPE = {"width": 48, "depth": 2, "heads": 3, "layer_scale": 1.0}


def backbone(patch: int = 8, seed: int = 0) -> VisionTransformer:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return VisionTransformer(ViTConfig(patch=patch, **SHAPE)).eval()


def test_invariant_20_a_mean_of_cells_instead_of_their_sum_fails():
    large, small = backbone(16), backbone()
    load_weights(small, large.state_dict())
    image = torch.rand(1, 3, 32, 32, generator=torch.Generator().manual_seed(1))
    twice = image.repeat_interleave(2, 2).repeat_interleave(2, 3)
    with torch.no_grad():
        expected, exact = large(twice), small(image)
        embedded = [n.patch_embed(x) for n, x in ((large, twice), (small, image))]
        flat = [n.patch_embed(torch.full((1, 3, 32, 32), 0.7)) for n in (large, small)]
        small.patch_embed.proj.weight /= 4
        shrunk = small.patch_embed(image)
    for ours, theirs in zip(exact, expected, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-4)
    torch.testing.assert_close(embedded[1], embedded[0], rtol=0, atol=1e-5)
    torch.testing.assert_close(flat[1][0, 0, 0], flat[0][0, 0, 0], rtol=0, atol=1e-5)
    assert (shrunk - embedded[0]).norm() > 0.5 * embedded[0].norm()


def test_invariant_21_positions_are_those_of_the_grid_whatever_the_patch():
    fine, coarse = (n.position.rotation(14, 14, 5) for n in (backbone(8), backbone(16)))
    assert torch.equal(fine.cos, coarse.cos)  # 112 px in patches of 8, 224 px in patches of 16
    assert torch.equal(fine.sin, coarse.sin)
    assert (fine.cos[:5] == 1).all()
    assert (fine.sin[:5] == 0).all()


def test_invariant_21_training_scales_the_positions_by_up_to_two_and_evaluation_does_not():
    network = backbone()
    periods = network.position.periods
    plain = network.position.rotation(4, 4, 5)
    draw = rescaled_coordinates(2.0, (3, 4))
    for block in range(20):
        scaled = network.position.rotation(4, 4, 5, draw(block))
        # The last period is long: its angles tell the coordinates without ambiguity.
        last = len(periods) - 1
        scale = (
            torch.atan2(scaled.sin, scaled.cos)[5:, last]
            / torch.atan2(plain.sin, plain.cos)[5:, last]
        )
        assert 0.5 <= scale.min() <= scale.max() <= 2
        torch.testing.assert_close(scale, scale[:1].expand_as(scale), rtol=1e-3, atol=0)
    image = torch.rand(1, 3, 32, 32)
    with torch.no_grad():
        assert torch.equal(network(image).cls, network(image).cls)
        assert not torch.equal(network(image, coordinates=draw).cls, network(image).cls)


@pytest.mark.parametrize("prefix", ["", "backbone.", "teacher.backbone.", "module."])
def test_invariant_22_official_names_come_back_bit_by_bit(prefix):
    official = backbone(seed=3).state_dict()
    network = backbone()
    load_weights(network, {f"{prefix}{name}": value for name, value in official.items()})
    again = network.state_dict()
    assert again.keys() == official.keys()
    assert all(torch.equal(value, official[name]) for name, value in again.items())
