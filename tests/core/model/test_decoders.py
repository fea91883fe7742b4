import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from napari_dinocell.core.model.blocks import ConvNorm, fold_batch_norm
from napari_dinocell.core.model.decoder import UNetDecoder, UNetDecoderConfig
from napari_dinocell.core.model.small import (
    SmallDecoder,
    SmallDecoderConfig,
    SmallEncoder,
    SmallEncoderConfig,
)

from .tiny import UNET, WIDTH, image, network, randomize

DOUBLE = torch.float64


def unet(**changes) -> UNetDecoder:
    decoder = UNetDecoder(UNET.model_copy(update=changes)).double().eval()
    randomize(decoder)
    return decoder


def levels(height: int, width: int, seed: int = 0) -> list[torch.Tensor]:
    """Four feature levels at 1/8 of (height, width)."""
    shape = (2, WIDTH, height // 8, width // 8)
    return [image(*shape, seed=seed + index, dtype=DOUBLE) - 0.5 for index in range(4)]


def test_stages_have_the_grids_and_widths_of_the_design():
    decoder = UNetDecoder(UNetDecoderConfig(widths=(256, 128, 64, 32)))
    seen = []
    for stage in [*decoder.stages, decoder.refine]:
        stage.register_forward_hook(lambda module, inputs, out: seen.append(tuple(out.shape[1:])))
    decoder([torch.zeros(1, 384, 4, 3)] * 4, torch.zeros(1, 3, 32, 24))
    assert seen == [(256, 8, 6), (128, 16, 12), (64, 32, 24), (32, 32, 24)]


def test_skips_go_from_deep_to_shallow():
    decoder, features = unet(stem=0), levels(16, 16)
    inputs = []
    for stage in decoder.stages:
        stage.register_forward_hook(lambda module, given, out: inputs.append(given[1]))
    decoder(features, torch.zeros(2, 3, 16, 16, dtype=DOUBLE))
    for skip, level in zip(inputs, (2, 1, 0), strict=True):
        torch.testing.assert_close(skip, decoder.norms[level](features[level]))


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("stem", [0, 4])
def test_map_has_the_size_of_the_image_and_lies_between_0_and_1(stride, stem):
    decoder = unet(stride=stride, stem=stem)
    out = decoder(levels(24, 40), image(2, 3, 24, 40, dtype=DOUBLE))
    assert out.shape == (2, 1, 24, 40)
    assert 0 < out.min() < out.max() < 1


def test_only_the_stem_reads_the_image():
    features, one, two = levels(16, 24), *image(2, 2, 3, 16, 24, dtype=DOUBLE)
    assert torch.equal(unet(stem=0)(features, one), unet(stem=0)(features, two))
    assert (unet(stem=4)(features, one) - unet(stem=4)(features, two)).abs().max() > 1e-4


def test_map_depends_on_every_level():
    decoder, x = unet(), image(2, 3, 16, 16, dtype=DOUBLE)
    features = [level.requires_grad_() for level in levels(16, 16)]
    decoder(features, x).sum().backward()
    assert all(level.grad.abs().max() > 0 for level in features)


def test_scale_and_offset_of_a_token_do_not_matter():
    # Each level is layer-normalized first, so that raw features of any scale can be cached.
    decoder, x = unet(), image(2, 3, 16, 24, dtype=DOUBLE)
    features = levels(16, 24)
    scaled = [1000 * level + 7 for level in features]
    large = [1000 * level for level in features]
    torch.testing.assert_close(decoder(scaled, x), decoder(large, x))


@pytest.mark.parametrize("n_levels", [3, 5])
def test_wrong_number_of_levels_is_refused(n_levels):
    with pytest.raises(ValueError, match=f"got {n_levels} feature levels; expected 4"):
        unet()([levels(8, 8)[0]] * n_levels, torch.zeros(2, 3, 8, 8, dtype=DOUBLE))
    with pytest.raises(ValueError, match="got 3 feature levels; expected 5"):
        SmallDecoder()([torch.zeros(1, 1, 1, 1)] * 3, torch.zeros(1, 3, 8, 8))


@pytest.mark.parametrize("kind", ["vit", "small"])
@settings(deadline=None, max_examples=8)
@given(height=st.integers(1, 7), width=st.integers(1, 7))
def test_any_multiples_of_8_keep_their_size(kind, height, width):
    x = image(1, 1, 8 * height, 8 * width)
    with torch.inference_mode():
        out = network(kind)(x)
    assert out.shape == x.shape
    assert torch.isfinite(out).all()


def test_small_encoder_halves_from_level_to_level():
    encoder = SmallEncoder(SmallEncoderConfig(widths=(4, 5, 6, 7, 8))).eval()
    shapes = [tuple(level.shape[1:]) for level in encoder.features(torch.zeros(1, 3, 40, 64))]
    assert shapes == [(4, 40, 64), (5, 20, 32), (6, 10, 16), (7, 5, 8), (8, 3, 4)]


def small_pair() -> tuple[SmallEncoder, SmallDecoder]:
    """Full depth, narrow, float64."""
    encoder = SmallEncoder(SmallEncoderConfig(widths=(2, 2, 2, 2, 2))).double().eval()
    decoder = SmallDecoder(SmallDecoderConfig(inputs=(2,) * 5, widths=(2,) * 4)).double().eval()
    return encoder, decoder


def test_small_network_follows_a_shift_by_16_px_away_from_the_border():
    encoder, decoder = small_pair()
    randomize(encoder)
    randomize(decoder)
    x = image(1, 3, 16, 1024, dtype=DOUBLE)
    moved = torch.roll(x, 16, dims=-1)
    with torch.inference_mode():
        here = decoder(encoder.features(x), x)
        there = decoder(encoder.features(moved), moved)
    torch.testing.assert_close(here[..., 496:512], there[..., 512:528])
    assert (here[..., 496:512] - there[..., 496:512]).abs().max() > 1e-6


def test_small_network_sees_more_than_200_px():
    encoder, decoder = small_pair()
    for module in (encoder, decoder):
        for name, value in module.named_parameters():
            if name.endswith("conv.weight") or ".up." in name or ".skip." in name:
                value.data.abs_()  # no gradient can cancel or die
    x = (image(1, 3, 16, 512, dtype=DOUBLE)).requires_grad_()
    decoder.logits(encoder.features(x), x)[..., 8, 256].sum().backward()
    touched = torch.nonzero(x.grad.abs().sum((0, 1, 2))).flatten()
    assert touched.max() - touched.min() >= 200


def test_small_encoder_refuses_odd_sizes():
    with pytest.raises(ValueError, match=r"\(1, 3, 12, 16\).*multiples of 8"):
        SmallEncoder().features(torch.zeros(1, 3, 12, 16))


@pytest.mark.parametrize("kind", ["vit", "small"])
def test_folding_batch_norm_changes_no_map(kind):
    made, x = network(kind).double(), image(1, 3, 24, 40, dtype=DOUBLE)
    folded = fold_batch_norm(made)
    torch.testing.assert_close(folded(x), made(x), rtol=1e-9, atol=1e-9)
    parts = [part for part in folded.modules() if isinstance(part, ConvNorm)]
    assert parts
    assert all(part.is_folded for part in parts)
    assert not any(part.is_folded for part in made.modules() if isinstance(part, ConvNorm))
