"""Starting weights in the layouts that users have, and the checks on the first losses."""

import logging
import math

import pytest
import torch

from napari_dinocell.core.errors import ModelFileError
from napari_dinocell.core.model.vit import VisionTransformer
from napari_dinocell.core.pretrain.network import ENCODERS
from napari_dinocell.core.pretrain.start import Gate, check_initial_losses, make_network


def file_of(tmp_path, **changes):
    """Official-layout file of a network like `tiny`, and the network."""
    with torch.random.fork_rng():
        torch.manual_seed(5)
        network = VisionTransformer(ENCODERS["tiny"].model_copy(update=changes)).eval()
    state = {k.replace("pos_embed.weight", "pos_embed"): v for k, v in network.state_dict().items()}
    torch.save(state, tmp_path / "start.pth")
    return network


def test_invariant_20_a_start_from_patch_16_sees_what_it_saw_at_twice_the_size(
    tmp_path, configured, caplog
):
    large = file_of(tmp_path, patch=16)
    with caplog.at_level(logging.INFO):
        network = make_network(configured(f"model.weights={tmp_path / 'start.pth'}"))
    assert "patch 16 folded to 8" in caplog.text
    image = torch.rand(2, 3, 32, 32)
    twice = image.repeat_interleave(2, 2).repeat_interleave(2, 3)
    with torch.no_grad():
        one, other = network.backbone(image), large(twice)
    torch.testing.assert_close(one.cls, other.cls, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(one.patches, other.patches, rtol=1e-4, atol=1e-4)


def test_a_start_from_dinov2_names_what_begins_anew(tmp_path, configured):
    file_of(tmp_path, position="learned", n_storage_tokens=0, mask_key_bias=False)
    path = f"model.weights={tmp_path / 'start.pth'}"
    with pytest.raises(ModelFileError, match=r"missing .*storage_tokens"):
        make_network(configured(path))
    network = make_network(configured(path, "model.new_tensors=[storage_tokens, mask_token]"))
    assert network.backbone.config.position == "rope"


def test_networks_of_one_seed_are_equal_and_leave_the_random_state_alone(configured):
    before = torch.get_rng_state()
    one, other = (make_network(configured()).state_dict() for _ in range(2))
    assert torch.equal(before, torch.get_rng_state())
    assert all(torch.equal(value, other[name]) for name, value in one.items())
    another = make_network(configured("seed=1")).state_dict()
    assert not torch.equal(
        one["ibot_head.prototypes.weight"], another["ibot_head.prototypes.weight"]
    )
    assert not torch.equal(one["ibot_head.mlp.0.weight"], one["dino_head.mlp.0.weight"])


@pytest.mark.parametrize(
    ("dino", "ibot", "name"),
    [(0.9, 0.5, "DINO"), (1.0, 1.0, "iBOT"), (1.0, 0.4, "iBOT"), (math.nan, 0.5, "DINO")],
)
def test_first_losses_far_from_ln_K_are_a_wiring_error(configured, dino, ibot, name):
    config = configured("heads.prototypes=8192")
    ln_k = math.log(8192)
    check_initial_losses(ln_k, 0.5 * ln_k, config, 0.5)
    with pytest.raises(ValueError, match=rf"first {name} loss .* must give"):
        check_initial_losses(dino * ln_k, ibot * ln_k, config, 0.5)


def test_the_gate_asks_both_losses_over_the_last_steps(configured):
    config = configured("heads.gate=0.5", "heads.prototypes=8192")
    ln_k = math.log(8192)
    good = (ln_k - 0.6, 0.5 * (ln_k - 0.6))
    gate = Gate(config, [(ln_k, ln_k)] * 10)
    for _ in range(50):
        gate.note(*good)
    gate.check(0.5)
    for stuck in ((ln_k, good[1]), (good[0], 0.5 * ln_k)):
        with pytest.raises(RuntimeError, match="weight_norm"):
            Gate(config, [stuck] * 50).check(0.5)
    Gate(configured("heads.gate=0"), [(9.0, 9.0)] * 50).check(0.5)
