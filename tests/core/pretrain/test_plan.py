import math

import numpy as np
import pytest
import torch

from napari_dinocell.core.pretrain.network import SelfSupervisedNetwork
from napari_dinocell.core.pretrain.optimizer import follow_plan, parameter_groups
from napari_dinocell.core.pretrain.plan import make_plan
from napari_dinocell.core.pretrain.start import make_network


def plan_of(configured, *overrides):
    config = configured(
        "epochs=20", "steps_per_epoch=10", "batch=64", "heads.steps=50", "heads.warmup=10",
        "heads.still=5", "optimizer.warmup_epochs=5", "teacher.temperature_epochs=6", *overrides,
    )  # fmt: skip
    return make_plan(config)


def test_every_array_has_a_value_for_every_step(configured):
    plan = plan_of(configured)
    arrays = [v for v in vars(plan).values() if isinstance(v, np.ndarray)]
    assert len(arrays) == 6
    assert {len(a) for a in arrays} == {50 + 200}


def test_the_backbone_rests_in_stage_a_and_rises_from_0_in_stage_b(configured):
    rate = plan_of(configured).backbone_rate
    assert (rate[:50] == 0).all()
    assert rate[50] == 0
    assert rate[50 + 50] == 5e-5  # after five epochs, at a batch of 64
    assert rate[-1] == 1e-6
    assert (np.diff(rate[50:101]) > 0).all()


def test_heads_warm_up_once_and_do_not_fall_when_the_backbone_wakes(configured):
    plan = plan_of(configured)
    assert plan.head_rate[0] == 0
    assert plan.head_rate[10:101] == pytest.approx(5e-4)
    assert (plan.prototype_rate[:5] == 0).all()
    assert (plan.prototype_rate[5:] == plan.head_rate[5:]).all()


def test_without_stage_a_heads_warm_up_with_the_backbone(configured):
    plan = plan_of(configured, "heads.steps=0")
    assert plan.head_rate == pytest.approx(10 * plan.backbone_rate)


def test_momentum_and_temperature_reach_their_ends(configured):
    plan = plan_of(configured)
    assert (plan.momentum[:50] == 0.99).all()
    assert plan.momentum[50] == 0.996
    assert plan.momentum[-1] == 1.0
    assert plan.temperature[0] == plan.temperature[50] == 0.04
    assert plan.temperature[50 + 60] == plan.temperature[-1] == 0.07


def test_rates_and_momentum_follow_the_batch(configured):
    plan = plan_of(configured, "batch=256")
    assert plan.backbone_rate.max() == pytest.approx(1e-4)
    assert plan.momentum[50] == pytest.approx(0.996**4)


@pytest.fixture
def network(configured) -> SelfSupervisedNetwork:
    return make_network(configured())


def test_invariant_14_every_parameter_is_in_one_group_with_its_scale_and_decay(network):
    groups = parameter_groups(network, layer_decay=0.9, patch_embed_scale=0.2)
    place = {id(p): g for g in groups for p in g["params"]}
    assert sum(len(g["params"]) for g in groups) == len(place) == len(list(network.parameters()))
    depth = len(network.backbone.blocks)
    expected = {
        "backbone.patch_embed.proj.weight": (0.2 * 0.9 ** (depth + 1), True),
        "backbone.patch_embed.proj.bias": (0.2 * 0.9 ** (depth + 1), False),
        "backbone.cls_token": (0.9 ** (depth + 1), True),
        "backbone.blocks.0.attn.qkv.weight": (0.9**depth, True),
        f"backbone.blocks.{depth - 1}.ls1.gamma": (0.9, False),
        "backbone.norm.weight": (1.0, False),
        "dino_head.mlp.0.weight": (1.0, True),
        "ibot_head.prototypes.weight": (1.0, True),
    }
    named = dict(network.named_parameters())
    for name, (scale, is_decayed) in expected.items():
        group = place[id(named[name])]
        assert group["scale"] == pytest.approx(scale), name
        assert group["is_decayed"] is is_decayed, name


def test_a_step_of_the_plan_reaches_the_optimizer(network, configured):
    plan = plan_of(configured)
    optimizer = torch.optim.AdamW(parameter_groups(network, layer_decay=0.9, patch_embed_scale=0.2))
    follow_plan(optimizer, plan, 3)
    rates = {g["part"]: g["lr"] for g in optimizer.param_groups if g["scale"] == 1.0}
    assert rates == {"backbone": 0.0, "head": plan.head_rate[3], "prototypes": 0.0}
    follow_plan(optimizer, plan, 120)
    for group in optimizer.param_groups:
        assert math.isclose(group["weight_decay"], 0.04 if group["is_decayed"] else 0.0)
        if group["part"] == "backbone":
            assert group["lr"] == pytest.approx(plan.backbone_rate[120] * group["scale"])
