"""Equality with the `transformers` library on random weights, layout by layout."""

import pytest
import torch

from napari_dinocell.core.model.vit import VisionTransformer, ViTConfig
from napari_dinocell.core.model.weights import load_weights

from .tiny import image, randomize

transformers = pytest.importorskip("transformers", reason="transformers is not installed")

SHAPE = {
    "hidden_size": 32,
    "num_hidden_layers": 3,
    "num_attention_heads": 2,
    "attn_implementation": "eager",
}
OURS = {"width": 32, "depth": 3, "heads": 2, "levels": (0, 1, 2, 2)}


def dinov3():
    config = transformers.DINOv3ViTConfig(
        **SHAPE, intermediate_size=128, patch_size=8, num_register_tokens=4, image_size=40
    )
    return transformers.DINOv3ViTModel(config), ViTConfig(**OURS)


def dinov2():
    config = transformers.Dinov2Config(**SHAPE, mlp_ratio=4, patch_size=8, image_size=40)
    ours = ViTConfig(
        **OURS,
        n_storage_tokens=0,
        position="learned",
        position_grid=5,
        mask_key_bias=False,
        norm_eps=1e-6,
    )
    return transformers.Dinov2Model(config), ours


def dinov2_with_registers():
    config = transformers.Dinov2WithRegistersConfig(
        **SHAPE, mlp_ratio=4, patch_size=8, image_size=40, num_register_tokens=4
    )
    ours = dinov2()[1].model_copy(update={"n_storage_tokens": 4, "position_antialias": True})
    return transformers.Dinov2WithRegistersModel(config), ours


@pytest.fixture(params=[dinov3, dinov2, dinov2_with_registers], ids=lambda make: make.__name__)
def pair(request):
    """The same random network in both libraries, float64."""
    oracle, config = request.param()
    oracle = oracle.double().eval()
    randomize(oracle)
    ours = VisionTransformer(config).double().eval()
    report = load_weights(ours, oracle.state_dict(), optional=())
    assert report.missing == ()
    assert report.unexpected == ()
    return ours, oracle


@pytest.mark.parametrize("size", [(40, 40), (24, 56)], ids=["own grid", "another grid"])
def test_tokens_equal_transformers(pair, size):
    ours, oracle = pair
    x = image(2, 3, *size, dtype=torch.float64) * 4 - 2
    with torch.no_grad():
        theirs = oracle(x).last_hidden_state
        tokens = ours(x)
    mine = torch.cat([tokens.cls[:, None], tokens.storage, tokens.patches], dim=1)
    # Their RoPE and table interpolation are float32 inside.
    torch.testing.assert_close(mine, theirs, atol=2e-5, rtol=1e-5)


def test_features_equal_the_hidden_states_of_transformers(pair):
    ours, oracle = pair
    x = image(1, 3, 24, 56, dtype=torch.float64) * 4 - 2
    with torch.no_grad():
        hidden = oracle(x, output_hidden_states=True).hidden_states
        features = ours.features(x, blocks=(0, 1))
    for block, level in enumerate(features):  # hidden state 0 is before the first block
        theirs = hidden[block + 1][:, ours.n_prefix :].transpose(1, 2).reshape(level.shape)
        torch.testing.assert_close(level, theirs, atol=2e-5, rtol=1e-5)


def test_masked_tokens_equal_transformers(pair):
    ours, oracle = pair
    x = image(1, 3, 40, 40, dtype=torch.float64)
    mask = torch.arange(25).remainder(3).eq(0)[None]
    with torch.no_grad():
        theirs = oracle(x, bool_masked_pos=mask).last_hidden_state[:, ours.n_prefix :]
        mine = ours(x, mask=mask).patches
    torch.testing.assert_close(mine, theirs, atol=2e-5, rtol=1e-5)
