import pytest
import torch

from napari_dinocell.core.info import measure_cost
from napari_dinocell.core.model.network import DINOCell, build_network
from napari_dinocell.core.model.vit import VIT_S, VIT_S_LEARNED

from .tiny import ROPE, SMALL_DECODER, SMALL_ENCODER, UNET, image, network

KINDS = pytest.mark.parametrize("kind", ["vit", "small"])


@KINDS
def test_gray_equals_its_repetition_in_three_channels(kind):
    made, gray = network(kind), image(2, 1, 16, 24)
    torch.testing.assert_close(made(gray), made(gray.expand(-1, 3, -1, -1)))


@KINDS
def test_encoder_gets_imagenet_statistics(kind):
    made = network(kind)
    mean = torch.tensor([0.485, 0.456, 0.406]).view(1, 3, 1, 1)
    std = torch.tensor([0.229, 0.224, 0.225]).view(1, 3, 1, 1)
    x = image(1, 3, 16, 16, seed=3) - 0.5
    expected = made.encoder.features(x)
    for ours, theirs in zip(made.features(x * std + mean), expected, strict=True):
        torch.testing.assert_close(ours, theirs, atol=1e-4, rtol=1e-4)


@KINDS
def test_forward_is_decode_of_features(kind):
    made, x = network(kind), image(1, 1, 16, 24)
    assert torch.equal(made(x), made.decode(made.features(x), x))


@KINDS
def test_features_may_be_cached_in_half_precision(kind):
    made, x = network(kind), image(1, 1, 32, 32)
    cached = [level.half() for level in made.features(x)]
    assert (made.decode(cached, x) - made(x)).abs().max() < 0.02


def test_encoder_in_bfloat16_feeds_a_decoder_in_float32():
    made, x = network("vit"), image(1, 1, 32, 32)
    exact = made(x)
    made.encoder.bfloat16()
    rounded = made(x)
    assert made.features(x)[0].dtype == torch.bfloat16
    assert rounded.dtype == torch.float32
    assert (rounded - exact).abs().mean() < 0.02


@KINDS
def test_frozen_encoder_gets_neither_gradients_nor_statistics(kind):
    made = network(kind)
    made.freeze_encoder()
    made.train()
    before = {key: value.clone() for key, value in made.encoder.state_dict().items()}
    optimizer = torch.optim.SGD([p for p in made.parameters() if p.requires_grad], lr=0.1)
    made(image(2, 1, 16, 16)).square().mean().backward()
    optimizer.step()
    assert all(p.grad is None for p in made.encoder.parameters())
    assert all(p.grad is not None for p in made.decoder.parameters())
    after = made.encoder.state_dict()
    assert all(torch.equal(after[key], value) for key, value in before.items())
    assert any(name.endswith("running_mean") for name in made.decoder.state_dict())


@KINDS
def test_unfrozen_encoder_learns(kind):
    made = network(kind).train()
    made(image(2, 1, 16, 16)).square().mean().backward()
    trained = dict(made.encoder.named_parameters())
    # The mask token and the last norm of a transformer play no part in segmentation.
    idle = {name for name, value in trained.items() if value.grad is None}
    assert idle == ({"mask_token", "norm.weight", "norm.bias"} if kind == "vit" else set())


@KINDS
def test_architecture_rebuilds_the_same_network(kind):
    made = network(kind)
    again = build_network(made.architecture)
    assert again.architecture == made.architecture
    again.load_state_dict(made.state_dict())
    x = image(1, 1, 16, 16)
    assert torch.equal(again.eval()(x), made(x))


@pytest.mark.parametrize(
    ("encoder", "decoder", "sentence"),
    [
        (ROPE, SMALL_DECODER, "'vit' and decoder 'small' do not fit"),
        (SMALL_ENCODER, UNET, "'small' and decoder 'unet' do not fit"),
        (VIT_S, UNET, "width 384 and patch 8 does not fit .*width 24"),
        (ROPE.model_copy(update={"patch": 16}), UNET, "patch 16 does not fit"),
        (ROPE.model_copy(update={"levels": (0, 1, 2, 4)}), UNET, "not among the blocks 0 to 3"),
        ({"kind": "vit", "widht": 3}, UNET, "widht"),
        ({"kind": "resnet"}, UNET, "encoder"),
        (
            SMALL_ENCODER,
            SMALL_DECODER.model_copy(update={"inputs": (1, 2, 3, 4, 5)}),
            r"differ from the decoder's inputs \(1, 2, 3, 4, 5\)",
        ),
    ],
)
def test_parts_that_do_not_fit_are_refused(encoder, decoder, sentence):
    with pytest.raises(ValueError, match=sentence):
        build_network({"encoder": encoder, "decoder": decoder})


@pytest.mark.parametrize("shape", [(1, 2, 16, 16), (1, 1, 15, 16), (1, 16, 16), (1, 1, 16, 12)])
def test_wrong_planes_are_refused(shape):
    made = network("vit")
    with pytest.raises(ValueError, match="multiples of 8"):
        made(torch.zeros(shape))


def test_default_decoder_costs_less_than_half_of_the_backbone():
    for encoder in (VIT_S, VIT_S_LEARNED):
        made = build_network({"encoder": encoder, "decoder": {"kind": "unet"}})
        assert isinstance(made, DINOCell)
        cost = measure_cost(made, window=64)
        assert cost.decoder_gflop < 0.5 * cost.encoder_gflop
