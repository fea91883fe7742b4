import copy

import pytest
import torch

from napari_dinocell.core.model.network import build_network
from napari_dinocell.core.training.optimizer import (
    learning_rate,
    parameter_groups,
    set_rate,
    update_average,
)

TINY = {
    "encoder": {"kind": "vit", "width": 24, "depth": 4, "heads": 2, "levels": (0, 1, 2, 3)},
    "decoder": {"kind": "unet", "inputs": 24, "widths": (8, 8, 8, 8), "stem": 4},
}


def scale_of(groups, parameter):
    (group,) = [g for g in groups if any(p is parameter for p in g["params"])]
    return group["scale"], group["weight_decay"]


def test_the_rate_at_start_peak_and_end():
    rate = {"peak": 2.0, "final": 0.5, "warmup": 4}
    assert learning_rate(0, 20, **rate) == 0.5
    assert learning_rate(3, 20, **rate) == 2.0
    assert learning_rate(19, 20, **rate) == pytest.approx(0.5)


def test_the_rate_rises_then_falls():
    rates = [learning_rate(s, 50, peak=1.0, final=0.0, warmup=10) for s in range(50)]
    assert rates[:10] == sorted(rates[:10])
    assert rates[9:] == sorted(rates[9:], reverse=True)


def test_rates_fall_by_layer_and_each_parameter_is_in_one_group():
    network = build_network(TINY)
    groups = parameter_groups(network, weight_decay=0.1, encoder_scale=0.5, layer_decay=0.5)
    blocks = network.encoder.blocks
    for block, scale in zip(blocks, (0.0625, 0.125, 0.25, 0.5), strict=True):
        assert scale_of(groups, block.attn.qkv.weight) == (scale, 0.1)
        assert scale_of(groups, block.norm1.weight) == (scale, 0.0)
    assert scale_of(groups, network.encoder.patch_embed.proj.weight)[0] == 0.03125
    assert scale_of(groups, network.encoder.cls_token) == (0.03125, 0.0)
    assert scale_of(groups, network.decoder.head.weight) == (1.0, 0.1)
    assert sum(len(g["params"]) for g in groups) == len(list(network.parameters()))


def test_a_frozen_encoder_has_no_group():
    network = build_network(TINY)
    network.freeze_encoder()
    groups = parameter_groups(network, weight_decay=0.1, encoder_scale=0.5, layer_decay=0.5)
    assert {g["scale"] for g in groups} == {1.0}
    assert sum(len(g["params"]) for g in groups) == len(list(network.decoder.parameters()))


def test_every_group_gets_its_share_of_the_rate():
    network = build_network(TINY)
    groups = parameter_groups(network, weight_decay=0.1, encoder_scale=0.5, layer_decay=0.5)
    optimizer = torch.optim.AdamW(groups, lr=1.0)
    set_rate(optimizer, 0.2)
    assert all(g["lr"] == 0.2 * g["scale"] for g in optimizer.param_groups)


def test_the_average_of_a_constant_is_the_constant_and_early_steps_fade():
    current, average = torch.nn.Linear(3, 3), torch.nn.Linear(3, 3)
    start = copy.deepcopy(average.weight)
    for step in range(200):
        update_average(average, current, 0.9, step)
    torch.testing.assert_close(average.weight, current.weight)
    assert not torch.equal(average.weight, start)


def test_the_average_moves_by_one_minus_momentum():
    current, average = torch.nn.Linear(1, 1), torch.nn.Linear(1, 1)
    with torch.no_grad():
        current.weight.fill_(1.0)
        average.weight.fill_(0.0)
    update_average(average, current, 0.9, step=10_000)
    assert average.weight.item() == pytest.approx(0.1)
