"""Runs of the real program on small images: resumption, processes, files."""

import json
import os
import signal
import subprocess
import sys

import numpy as np
import pytest
import torch
import yaml

from napari_dinocell.core.model.files import load_model
from napari_dinocell.core.training import checkpoint
from napari_dinocell.core.training.config import Config, load_config
from napari_dinocell.core.training.loop import train

MODULE = ["-m", "napari_dinocell.core.train"]


@pytest.fixture
def run_file(specimen, tmp_path):
    """Configuration of a run of the small network on discs; `out` is left to the test."""
    for i in range(5):
        plane, labels = specimen.discs((96, 96), 8, 40, seed=i)
        specimen.write(f"data/images/disc{i}.tif", plane)
        specimen.write(f"data/labels/disc{i}.tif", labels.astype(np.uint16))
    path = tmp_path / "run.yaml"
    content = {
        "name": "discs",
        "out": str(tmp_path / "out"),
        "data": {"source": str(tmp_path / "data")},
        "model": {"encoder": "small", "freeze_encoder": False},
        "crops": {"size": 32, "diameter": 16, "pool": 8},
        "loss": {"balance": 0.0},
        "optimizer": {"warmup": 2},
        "steps": 6,
        "batch": 4,
        "device": "cpu",
        "precision": "float32",
        "threads": 1,
        "checkpoint_every": 1,
        "keep": 10,
        "log_every": 1,
    }
    path.write_text(yaml.safe_dump(content), encoding="utf-8")
    return path


def start(*words, launcher=(), **pipes):
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        [sys.executable, *launcher, *MODULE, *map(str, words)],
        env=environment, stderr=subprocess.PIPE, text=True, **pipes,
    )  # fmt: skip


def trained(folder):
    state = checkpoint.load("auto", folder)
    assert state is not None
    return state


def assert_same_run(one, other):
    assert one["step"] == other["step"]
    for part in ("trained", "averaged"):
        for name, value in one[part].items():
            assert torch.equal(value, other[part][name]), (part, name)


def test_the_loss_falls_and_a_usable_model_is_written(run_file, tmp_path):
    config = load_config(Config, run_file, ["steps=40", "crops.size=64", "optimizer.lr=0.004"])
    path = train(config)
    log = [json.loads(line) for line in (tmp_path / "out" / "log.jsonl").read_text().splitlines()]
    losses = [entry["loss"] for entry in log if "loss" in entry]
    assert np.mean(losses[-5:]) < 0.6 * np.mean(losses[:5])
    assert "objective" in log[-1]
    network, card = load_model(path)
    assert card.data == ("data",)
    assert card.diameter == 16
    assert network(torch.rand(1, 1, 40, 48)).shape == (1, 1, 40, 48)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_a_stopped_run_goes_on_bit_by_bit(run_file, tmp_path, number):
    process = start(run_file, f"out={tmp_path / 'stopped'}")
    assert process.stderr is not None
    with process.stderr:
        for line in process.stderr:
            if line.startswith("step 3/"):
                break
        process.send_signal(number)
        rest = process.stderr.read()
    code = process.wait()
    if number == signal.SIGTERM:
        assert code == 130
        assert "Stopped after step" in rest
    assert trained(tmp_path / "stopped")["step"] < 6
    for name in ("stopped", "whole"):
        with start(run_file, f"out={tmp_path / name}") as process:
            _, errors = process.communicate()
            assert process.returncode == 0, errors
    assert_same_run(trained(tmp_path / "stopped"), trained(tmp_path / "whole"))


@pytest.mark.parametrize("part", ["decoder", "network"])
def test_two_processes_equal_one(run_file, tmp_path, part):
    # With Adam's usual eps a gradient of the size of a rounding error makes a step of full size.
    options = ["steps=3", "optimizer.eps=0.1"]
    if part == "decoder":
        options += [
            "model.encoder=vits8",
            "model.freeze_encoder=true",
            f"crops.cache={tmp_path / 'cache'}",
        ]
    torchrun = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    for name, launcher in (("two", torchrun), ("one", ())):
        with start(run_file, f"out={tmp_path / name}", *options, launcher=launcher) as process:
            _, errors = process.communicate()
            assert process.returncode == 0, errors
    one, two = trained(tmp_path / "one"), trained(tmp_path / "two")
    whole = [
        torch.cat([v.double().flatten() for v in state["trained"].values()]) for state in (one, two)
    ]
    assert (whole[1] - whole[0]).norm() <= 1e-5 * whole[0].norm()
    logs = [
        [json.loads(line) for line in (tmp_path / name / "log.jsonl").read_text().splitlines()]
        for name in ("one", "two")
    ]
    pairs = [(a["loss"], b["loss"]) for a, b in zip(*logs, strict=True) if "loss" in a]
    assert len(pairs) == 3
    assert [a for a, _ in pairs] == pytest.approx([b for _, b in pairs], rel=1e-5)


def test_a_loss_that_is_not_finite_stops_the_run_and_names_the_crops(run_file):
    config = load_config(Config, run_file, ["optimizer.lr=1e30", "optimizer.warmup=0", "steps=50"])
    with pytest.raises(FloatingPointError, match=r"crops \["):
        train(config)


def test_a_warm_start_begins_where_the_other_run_ended(run_file, tmp_path):
    first = train(load_config(Config, run_file, ["steps=2"]))
    words = [f"model.init={first}", f"out={tmp_path / 'next'}", "steps=1", "optimizer.lr=1e-12"]
    second = train(load_config(Config, run_file, words))
    one, other = load_model(first)[0], load_model(second)[0]
    for (name, value), begun in zip(one.named_parameters(), other.parameters(), strict=True):
        torch.testing.assert_close(begun, value, atol=1e-3, rtol=0.1, msg=name)


def test_offline_weights_and_biases_gets_numbers_histograms_and_pictures(run_file, tmp_path):
    pytest.importorskip("wandb", reason="needs the extra train")
    with start(run_file, "steps=1", "wandb=offline") as process:
        _, errors = process.communicate()
        assert process.returncode == 0, errors
    (stored,) = (tmp_path / "out" / "wandb").glob("offline-run-*/run-*.wandb")
    content = stored.read_bytes()
    for name in (b"loss", b"gradients/", b"validation"):
        assert name in content
    assert list((tmp_path / "out" / "wandb").rglob("validation*.png"))


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["nonsense"], "no configuration nonsense; give a YAML file or one of cytoplasm, "),
        (["RUN", "stps=3"], "did you mean 'steps'"),
        (["RUN", "data.source=absent"], "no folder absent; check data.source"),
        (["RUN", "model.encoder_weights=absent.safetensors"], "absent.safetensors"),
        (["RUN", "device=cuda:77"], "cuda:77"),
    ],
)
def test_a_mistake_of_the_user_is_one_sentence(run_file, words, sentence):
    words = [str(run_file) if word == "RUN" else word for word in words]
    with start(*words) as process:
        _, errors = process.communicate()
    assert process.returncode == 2
    assert sentence in errors
    assert "Traceback" not in errors
