import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from napari_dinocell.core.pretrain.masks import block_mask, block_masks, mask_sizes, with_visible
from napari_dinocell.core.pretrain.teacher import make_teacher

from .tiny import SIZE, tiny_network

GRID = (28, 28)


def test_invariant_15_half_of_the_crops_have_exactly_their_share_masked():
    masks = block_masks(0, 0, 128, GRID)
    sizes = masks.sum(axis=1)
    assert np.count_nonzero(sizes) == 64
    expected = [int(784 * (0.1 + 0.4 * (i + 1) / 64)) for i in range(64)]
    assert sorted(sizes[sizes > 0].tolist()) == expected


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 40), st.integers(1, 900), st.integers(0, 2**31))
def test_invariant_15_ratios_lie_within_their_bounds_for_any_batch(n_crops, n_patches, seed):
    sizes = mask_sizes(np.random.default_rng(seed), n_crops, n_patches)
    assert len(sizes) == n_crops
    assert sizes.max(initial=0) <= n_patches / 2
    chosen = np.sort(sizes)[n_crops - int(n_crops * 0.5) :]
    assert (chosen >= int(n_patches * 0.1)).all()


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 30), st.integers(1, 30), st.data())
def test_invariant_15_a_mask_has_exactly_the_patches_asked_for(rows, columns, data):
    n_masked = data.draw(st.integers(0, rows * columns))
    mask = block_mask(
        np.random.default_rng(data.draw(st.integers(0, 99))), (rows, columns), n_masked
    )
    assert mask.shape == (rows, columns)
    assert np.count_nonzero(mask) == n_masked


def test_invariant_15_masks_are_blocks():
    rng = np.random.default_rng(0)
    blocks, scattered = [], []
    for n_masked in np.linspace(78, 392, 40).astype(int):
        random = np.zeros(784, bool)
        random[rng.permutation(784)[:n_masked]] = True
        blocks.append(ndimage.label(block_mask(rng, GRID, int(n_masked)))[1])
        scattered.append(ndimage.label(random.reshape(GRID))[1])
    assert np.mean(blocks) <= np.mean(scattered) / 4
    assert np.mean(blocks) < 9


def test_invariant_15_few_masked_patches_lie_in_holes_below_the_least_block():
    sizes = []
    for seed in range(200):
        labels, _ = ndimage.label(block_mask(np.random.default_rng(seed), GRID, 200))
        sizes += np.bincount(labels.ravel())[1:].tolist()
    holes = np.array(sizes)
    assert holes[holes < 16].sum() < 0.05 * holes.sum()  # only what is cut to end exactly


def test_invariant_15_masks_depend_on_seed_step_and_crop_alone():
    everything = block_masks(3, 7, 32, GRID)
    assert np.array_equal(block_masks(3, 7, 32, GRID, crops=[30, 4]), everything[[30, 4]])
    assert not np.array_equal(block_masks(3, 8, 32, GRID), everything)
    assert not np.array_equal(block_masks(4, 7, 32, GRID), everything)
    assert block_masks(3, 7, 32, GRID, crops=[]).shape == (0, 784)


def test_masks_prefer_no_direction():
    often = np.mean([block_mask(np.random.default_rng(s), GRID, 235) for s in range(400)], axis=0)
    for mirrored in (often.T, often[::-1], often[:, ::-1]):
        assert np.abs(often - mirrored).mean() < 0.05


def test_invariant_16_pixels_under_masked_patches_reach_no_token_of_the_student():
    network = tiny_network().eval()
    mask = torch.from_numpy(block_masks(0, 1, 4, (4, 4), share=1.0, min_block=2))
    crops = torch.rand(4, 1, SIZE, SIZE)
    hidden = mask.view(4, 1, 4, 4).repeat_interleave(8, 2).repeat_interleave(8, 3)
    changed = torch.where(hidden, torch.rand_like(crops), crops)
    with torch.no_grad():
        for before, after in zip(network(crops, mask), network(changed, mask), strict=True):
            torch.testing.assert_close(before, after, rtol=0, atol=1e-6)
        seen = make_teacher(network)(crops).patches - make_teacher(network)(changed).patches
    assert float(seen.abs().max()) > 1e-3


def test_cross_channel_patches_are_the_masked_and_equally_many_visible_ones():
    masks = block_masks(0, 2, 16, GRID)
    chosen = with_visible(masks, 0, 2, n_if_whole=100)
    assert (chosen[masks]).all()
    sizes = masks.sum(axis=1)
    assert np.array_equal(chosen.sum(axis=1), np.where(sizes > 0, 2 * sizes, 100))
    assert np.array_equal(
        chosen[[5, 2]], with_visible(masks[[5, 2]], 0, 2, crops=[5, 2], n_if_whole=100)
    )
    assert np.array_equal(masks, block_masks(0, 2, 16, GRID))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda rng: block_mask(rng, GRID, 785), "expected 0 to all"),
        (lambda rng: mask_sizes(rng, 4, 784, ratio=(0.5, 0.1)), "ascending"),
        (lambda rng: mask_sizes(rng, 4, 784, share=1.5), "must lie in"),
    ],
)
def test_wrong_arguments_are_named(call, message):
    with pytest.raises(ValueError, match=message):
        call(np.random.default_rng(0))
