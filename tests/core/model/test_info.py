import json

import pytest

from napari_dinocell.core import info
from napari_dinocell.core.info import measure_cost
from napari_dinocell.core.model.files import save_model
from napari_dinocell.core.model.network import build_network

from .tiny import ROPE, UNET, WIDTH, card, network


def test_operations_of_the_transformer_follow_from_its_shape():
    made = build_network({"encoder": ROPE, "decoder": UNET})
    D, n_patches = WIDTH, 4 * 4
    N = n_patches + 5
    linear = N * (3 * D * D + D * D + 2 * 4 * D * D)
    attention = 2 * N * N * D
    expected = 2 * (n_patches * 3 * 64 * D + ROPE.depth * (linear + attention))
    assert measure_cost(made, window=32).encoder_gflop == pytest.approx(expected / 1e9)


def test_operations_of_a_network_without_borders_grow_with_its_area():
    made = network("small")
    one, four = measure_cost(made, window=32), measure_cost(made, window=64)
    assert four.encoder_gflop == pytest.approx(4 * one.encoder_gflop)
    assert four.decoder_gflop == pytest.approx(4 * one.decoder_gflop)


def test_counting_leaves_the_network_in_its_mode():
    made = network("small").train()
    before = made.decoder.state_dict()["stages.0.refine.0.norm.running_mean"].clone()
    measure_cost(made, window=16)
    assert made.training
    after = made.decoder.state_dict()["stages.0.refine.0.norm.running_mean"]
    assert (before == after).all()


def test_command_prints_measured_parameters_and_the_card(tmp_path, capsys):
    made = network("small")
    path = tmp_path / "tiny.safetensors"
    save_model(path, made, card(made, notes="made for a test"))
    assert info.main([str(path), "--window", "32", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)[str(path)]
    n_decoder = sum(p.numel() for p in made.decoder.parameters())
    assert found["cost"]["decoder_parameters"] == n_decoder
    assert found["card"]["notes"] == "made for a test"
    assert info.main([str(path), "--window", "32"]) == 0
    assert "made for a test" in capsys.readouterr().out


def test_absent_model_is_one_sentence_and_code_2(tmp_path, capsys):
    assert info.main([str(tmp_path / "no.safetensors")]) == 2
    err = capsys.readouterr().err
    assert err.startswith("There is no model")
    assert err.count("\n") == 1
