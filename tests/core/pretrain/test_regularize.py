import math

import pytest
import torch

from napari_dinocell.core.pretrain.regularize import BlockRunning, rescaled_coordinates

from .tiny import tiny_network

IMAGES = torch.rand(8, 3, 32, 32, generator=torch.Generator().manual_seed(0))


def tokens(running, key=(1,)):
    return tiny_network().backbone(IMAGES, run=running.keyed(key))


def test_without_dropping_a_block_runs_as_it_does_alone():
    plain = tiny_network().backbone(IMAGES)
    torch.testing.assert_close(tokens(BlockRunning()).patches, plain.patches, rtol=0, atol=0)


def test_dropped_samples_skip_the_branch_and_the_others_make_up_for_them():
    backbone = tiny_network().backbone
    block, x = backbone.blocks[0], torch.randn(8, 21, 48)
    rotation = backbone.position.rotation(4, 4, 5)
    run = BlockRunning(0.25).keyed((3,))
    with torch.no_grad():
        change = run(block, 0, x, rotation) - x
        attended = block.ls1(block.attn(block.norm1(x), rotation)) * 8 / 6
        middle = x + attended
        moved = middle + block.ls2(block.mlp(block.norm2(middle))) * 8 / 6 - x
    whole = [i for i in range(8) if torch.allclose(change[i], moved[i], atol=1e-5)]
    still = [i for i in range(8) if torch.equal(change[i], torch.zeros_like(change[i]))]
    assert 4 <= len(whole) <= 6
    assert len(still) <= 2
    only_attended = sum(torch.allclose(change[i], attended[i], atol=1e-6) for i in range(8))
    assert len(whole) + only_attended <= 6  # exactly six samples took the attention branch


def test_subsets_are_a_function_of_the_key():
    one, again, other = (tokens(BlockRunning(0.5), key).cls for key in ((1, 2), (1, 2), (1, 3)))
    assert torch.equal(one, again)
    assert not torch.equal(one, other)


def test_recomputed_blocks_give_the_same_gradients_also_with_dropping():
    gradients = []
    for recompute in (False, True):
        backbone = tiny_network().backbone
        running = BlockRunning(0.25, recompute=recompute)
        backbone(IMAGES, run=running.keyed((7,))).cls.square().sum().backward()
        gradients.append([p.grad for p in backbone.parameters() if p.grad is not None])
    for a, b in zip(*gradients, strict=True):
        assert torch.equal(a, b)


def test_scales_lie_in_their_range_differ_by_block_and_are_the_same_for_both_axes():
    draw = rescaled_coordinates(2.0, (5, 6))
    changes = [draw(block) for block in range(200)]
    scales = torch.stack([change.scale for change in changes])
    assert torch.equal(scales[:, 0], scales[:, 1])
    assert 0.5 <= scales.min() < 0.55
    assert 1.9 < scales.max() <= 2.0
    assert scales[:, 0].log().mean().abs() < 0.1 * math.log(2) * 2
    assert torch.equal(draw(3).scale, changes[3].scale)
    assert (changes[0].shift == 0).all()


def test_a_largest_scale_of_1_changes_nothing():
    assert rescaled_coordinates(1.0, (0,)) is None


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # the compiler warns about itself
def test_compiled_branches_give_the_same_result():
    plain = tokens(BlockRunning()).patches
    torch.testing.assert_close(tokens(BlockRunning(compiled=True)).patches, plain)
