import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional

from napari_dinocell.core.model.position import (
    AxialRope,
    CoordinateChange,
    resample_positions,
    rotate,
)
from napari_dinocell.core.model.vit import VIT_L, VIT_S, VisionTransformer
from napari_dinocell.core.model.weights import fold_patch_kernel

from .tiny import LEARNED, ROPE, WIDTH, image, vit

DOUBLE = torch.float64


def official_dinov3_names(depth: int) -> set[str]:
    """Keys of the official ViT-S/B/L files, written out from the DINOv3 repository's modules."""
    names = {"cls_token", "storage_tokens", "mask_token", "rope_embed.periods"}
    names |= {f"{layer}.{part}" for layer in ("patch_embed.proj", "norm") for part in PARTS}
    for block in range(depth):
        layers = ("norm1", "attn.qkv", "attn.proj", "norm2", "mlp.fc1", "mlp.fc2")
        names |= {f"blocks.{block}.{layer}.{part}" for layer in layers for part in PARTS}
        names |= {f"blocks.{block}.{scale}.gamma" for scale in ("ls1", "ls2")}
        names.add(f"blocks.{block}.attn.qkv.bias_mask")
    return names


PARTS = ("weight", "bias")


def test_names_are_those_of_the_official_files():
    assert set(vit(ROPE).state_dict()) == official_dinov3_names(depth=4)


@pytest.mark.parametrize("config", [VIT_S, VIT_L.model_copy(update={"depth": 2})])
def test_number_of_parameters_follows_from_the_shape(config):
    D, depth = config.width, config.depth
    block = (
        (3 * D * D + 3 * D)
        + (D * D + D)
        + (4 * D * D + 4 * D)
        + (4 * D * D + D)
        + 2 * 2 * D  # two norms
        + 2 * D  # two layer scales
    )
    outside = (3 * 64 * D + D) + D + 4 * D + D + 2 * D  # patches, class, storage, mask, norm
    encoder = VisionTransformer(config)
    assert sum(p.numel() for p in encoder.parameters()) == depth * block + outside


@pytest.mark.parametrize("config", [ROPE, LEARNED], ids=["rope", "learned"])
@settings(deadline=None, max_examples=8)
@given(height=st.integers(1, 6), width=st.integers(1, 6), n_images=st.integers(1, 2))
def test_features_have_the_grid_of_patches(config, height, width, n_images):
    features = vit(config).features(image(n_images, 3, 8 * height, 8 * width, dtype=DOUBLE))
    assert [level.shape for level in features] == [(n_images, WIDTH, height, width)] * 4


@pytest.mark.parametrize("config", [ROPE, LEARNED], ids=["rope", "learned"])
def test_features_of_the_last_block_are_the_patch_tokens_before_the_norm(config):
    encoder, x = vit(config), image(2, 3, 24, 40, dtype=DOUBLE)
    deepest = encoder.features(x)[-1].flatten(2).transpose(1, 2)
    torch.testing.assert_close(encoder.norm(deepest), encoder(x).patches)


def test_patches_are_ordered_row_by_row():
    # With identity-like blocks switched off, a token holds its own patch alone.
    encoder = vit(ROPE)
    for block in encoder.blocks:
        block.ls1.gamma.data.zero_()
        block.ls2.gamma.data.zero_()
    x = image(1, 3, 24, 40, dtype=DOUBLE)
    level = encoder.features(x)[0]
    own = encoder.patch_embed.proj(x[..., 8:16, 24:32])
    torch.testing.assert_close(level[..., 1:2, 3:4], own)


def test_images_of_a_batch_do_not_see_each_other():
    encoder, x = vit(ROPE), image(3, 3, 16, 32, dtype=DOUBLE)
    together = encoder(x).patches
    torch.testing.assert_close(together[1:2], encoder(x[1:2]).patches)


@pytest.mark.parametrize("config", [ROPE, LEARNED], ids=["rope", "learned"])
def test_folded_kernel_equals_the_coarse_network_on_the_enlarged_image(config):
    coarse = vit(config.model_copy(update={"patch": 16}))
    fine = VisionTransformer(config).double().eval()
    state = coarse.state_dict()
    state["patch_embed.proj.weight"] = fold_patch_kernel(state["patch_embed.proj.weight"], 8)
    fine.load_state_dict(state)
    x = image(1, 3, 24, 40, dtype=DOUBLE)
    enlarged = functional.interpolate(x, scale_factor=2, mode="nearest")
    for ours, theirs in zip(fine.features(x), coarse.features(enlarged), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-9)


def test_masked_patches_do_not_show_their_pixels():
    encoder, x = vit(ROPE), image(1, 3, 16, 24, dtype=DOUBLE)
    mask = torch.tensor([[False, True, False, False, True, False]])
    changed = x.clone()
    changed[..., 0:8, 8:16] = 0  # patch 1
    changed[..., 8:16, 8:16] = 1  # patch 4
    torch.testing.assert_close(encoder(x, mask=mask).cls, encoder(changed, mask=mask).cls)
    assert (encoder(x).cls - encoder(changed).cls).abs().max() > 1e-3


def test_key_bias_gets_no_gradient_and_has_no_effect():
    encoder, x = vit(ROPE), image(1, 3, 16, 16, dtype=DOUBLE)
    before = encoder(x).cls
    before.sum().backward()
    qkv = encoder.blocks[0].attn.qkv
    assert qkv.bias.grad[WIDTH : 2 * WIDTH].abs().max() == 0
    assert qkv.bias.grad[:WIDTH].abs().max() > 0
    qkv.bias.data[WIDTH : 2 * WIDTH] += 3
    torch.testing.assert_close(encoder(x).cls, before)


def test_rotation_makes_scores_depend_on_the_offset_alone():
    rope = AxialRope(head_width=16)
    rotation = rope.rotation(height=6, width=6, n_prefix=0)
    generator = torch.Generator().manual_seed(0)
    q, k = torch.randn(2, 1, 1, 1, 16, generator=generator).expand(-1, 1, 1, 36, -1)
    scores = (rotate(q, rotation) @ rotate(k, rotation).transpose(-1, -2))[0, 0]
    scores = scores.view(6, 6, 6, 6)  # (y, x) of q, (y, x) of k
    torch.testing.assert_close(scores[0, 0, 2, 1], scores[3, 4, 5, 5])
    torch.testing.assert_close(scores[5, 1, 1, 3], scores[4, 2, 0, 4])
    assert (scores[0, 0, 2, 1] - scores[0, 0, 1, 2]).abs() > 1e-3


def test_prefix_tokens_and_the_center_are_not_rotated():
    rotation = AxialRope(head_width=8).rotation(height=3, width=5, n_prefix=2)
    for index in (0, 1, 2 + 7):  # two prefix tokens, then the patch at coordinates (0, 0)
        torch.testing.assert_close(rotation.cos[index], torch.ones(8))
        torch.testing.assert_close(rotation.sin[index], torch.zeros(8), atol=1e-6, rtol=0)


def test_smallest_period_turns_once_per_half_image():
    # Coordinates of two patches are -1/2 and +1/2: with period 1 half a turn each.
    rotation = AxialRope(head_width=8).rotation(height=2, width=1, n_prefix=0)
    torch.testing.assert_close(rotation.cos[:, 0], torch.tensor([-1.0, -1.0]))


def test_scaling_coordinates_equals_shortening_periods():
    rope, slow = AxialRope(head_width=8), AxialRope(head_width=8)
    slow.periods /= 2
    twice = CoordinateChange(shift=torch.zeros(2), scale=torch.tensor([2.0, 2.0]))
    changed = rope.rotation(3, 4, 1, twice)
    torch.testing.assert_close(changed.cos, slow.rotation(3, 4, 1).cos, atol=1e-5, rtol=0)


def test_coordinates_are_shifted_before_they_are_scaled():
    # The only patch lies at 0; moved by 1/4 and then doubled it makes half a turn with period 1.
    change = CoordinateChange(shift=torch.tensor([0.25, 0.0]), scale=torch.tensor([2.0, 2.0]))
    rotation = AxialRope(head_width=4).rotation(1, 1, 0, change)
    torch.testing.assert_close(rotation.cos, torch.tensor([[-1.0, 1.0, -1.0, 1.0]]))


def test_shift_of_all_coordinates_changes_no_score_between_patches():
    encoder, x = vit(ROPE), image(1, 3, 16, 24, dtype=DOUBLE)
    change = CoordinateChange(shift=torch.tensor([0.3, -0.2]), scale=torch.ones(2))
    rotation = encoder.position.rotation(2, 3, 0)
    shifted = encoder.position.rotation(2, 3, 0, change)
    q = image(1, 2, 6, WIDTH // 2)
    plain = rotate(q, rotation) @ rotate(q, rotation).transpose(-1, -2)
    torch.testing.assert_close(plain, rotate(q, shifted) @ rotate(q, shifted).transpose(-1, -2))
    # Class and storage tokens have no place, so the whole network does see the shift.
    moved = encoder(x, coordinates=lambda block: change).cls
    assert (moved - encoder(x).cls).abs().max() > 1e-6


def test_coordinates_are_drawn_per_block_and_no_change_changes_nothing():
    encoder, x = vit(ROPE), image(1, 3, 16, 24, dtype=DOUBLE)
    seen: list[int] = []
    kept = encoder(x, coordinates=lambda block: seen.append(block))
    assert seen == [0, 1, 2, 3]
    torch.testing.assert_close(kept.patches, encoder(x).patches)


def test_learned_positions_refuse_a_change_of_coordinates():
    change = CoordinateChange(shift=torch.zeros(2), scale=torch.ones(2))
    with pytest.raises(ValueError, match="no coordinates to change"):
        vit(LEARNED)(image(1, 3, 16, 16, dtype=DOUBLE), coordinates=lambda block: change)


def test_a_linear_table_stays_linear_when_resampled():
    # Bicubic interpolation reproduces a ramp away from the border, where it repeats the last row.
    ramp = torch.arange(20, dtype=DOUBLE).float().repeat(20, 1).reshape(1, 400, 1)
    table = torch.cat([torch.full((1, 1, 1), 7.0), ramp], dim=1)
    out = resample_positions(table, 30, 40)
    centers = (torch.arange(40) + 0.5) * 20 / 40 - 0.5
    assert out[0, 0, 0] == 7
    grid = out[0, 1:, 0].view(30, 40)
    torch.testing.assert_close(grid[:, 5:-5], centers[5:-5].expand(30, -1), atol=0.05, rtol=0)


@pytest.mark.parametrize("config", [ROPE, LEARNED], ids=["rope", "learned"])
def test_bfloat16_follows_float32_pure_and_by_autocast(config):
    encoder, x = vit(config).float(), image(1, 3, 32, 24)
    exact = encoder.features(x)[-1]
    with torch.autocast("cpu", torch.bfloat16):
        cast = encoder.features(x)[-1]
    pure = encoder.bfloat16().features(x.bfloat16())[-1]
    assert pure.dtype == torch.bfloat16
    for rounded in (cast, pure):
        assert (rounded.float() - exact).norm() < 0.05 * exact.norm()


@pytest.mark.parametrize(
    ("call", "sentence"),
    [
        (lambda v: v(image(1, 3, 20, 16, dtype=DOUBLE)), r"\(1, 3, 20, 16\).*multiples of 8"),
        (lambda v: v(image(1, 1, 16, 16, dtype=DOUBLE)), r"expected \(B, 3, Y, X\)"),
        (lambda v: v(image(1, 3, 16, 16, dtype=DOUBLE), mask=torch.ones(1, 3).bool()), r"\(1, 4\)"),
        (lambda v: v.features(image(1, 3, 8, 8, dtype=DOUBLE), blocks=(3, 4)), "blocks 0 to 3"),
    ],
)
def test_wrong_input_is_one_sentence(call, sentence):
    with pytest.raises(ValueError, match=sentence):
        call(vit(ROPE))


def test_width_must_divide_by_heads():
    with pytest.raises(ValueError, match="does not divide by 5 heads"):
        VisionTransformer(ROPE.model_copy(update={"heads": 5}))
