"""Reptile: a decoder from which a few steps lead to any task of a family."""

import copy
import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import tifffile
import torch
import yaml
from scipy import ndimage

from napari_dinocell.core.distance import distance_map
from napari_dinocell.core.meta_train import main
from napari_dinocell.core.model.card import ModelCard
from napari_dinocell.core.model.files import load_model, save_model
from napari_dinocell.core.model.network import build_network
from napari_dinocell.core.model.small import SmallDecoderConfig, SmallEncoderConfig
from napari_dinocell.core.training import checkpoint
from napari_dinocell.core.training.augment import AugmentConfig
from napari_dinocell.core.training.config import CropSettings, load_config
from napari_dinocell.core.training.data import LabeledDataset
from napari_dinocell.core.training.folders import read_folder
from napari_dinocell.core.training.meta_config import InnerSettings, MetaConfig
from napari_dinocell.core.training.meta_loop import meta_train
from napari_dinocell.core.training.meta_tasks import TaskFamily
from napari_dinocell.core.training.reptile import (
    loss_after,
    move,
    reptile_step,
    state_of,
    train_on_task,
)

WIDTHS = (8, 8, 12, 12, 16)
INNER = InnerSettings(steps=3, lr=3e-3, weight_decay=0.0, batch=2, balance=0.0)
CROPS = CropSettings(size=48, diameter=13.0)


@pytest.fixture(autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def network_of(seed=0):
    """Network with fresh weights and an encoder that stays so."""
    torch.manual_seed(seed)
    network = build_network(
        {
            "encoder": SmallEncoderConfig(widths=WIDTHS, blocks=(0, 1, 1, 1, 1)),
            "decoder": SmallDecoderConfig(inputs=WIDTHS, widths=(12, 12, 8, 8)),
        }
    )
    network.freeze_encoder()
    return network.eval()


@pytest.fixture(scope="module")
def trained():
    """Weights after a training on both tasks mixed: where the two ways part."""
    return mixed_start(0)


def mixed_start(seed):
    network = network_of(seed)
    network.requires_grad_(True).train()
    optimizer = torch.optim.AdamW(network.parameters(), 5e-3)
    for step in range(40):
        fields = [
            field(kind, 1000 + 2 * step + number) for number, kind in enumerate(("bright", "dim"))
        ]
        image, target = (
            torch.from_numpy(np.stack(part))[:, None].float()
            for part in zip(
                *((plane, distance_map(labels, 0.2)) for plane, labels in fields), strict=True
            )
        )
        loss = (network(image) - target).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    network.freeze_encoder()
    return network.eval()


def field(kind, seed):
    """Discs of two gray levels, of which one kind alone is labeled: the task says which."""
    rng = np.random.default_rng(seed)
    plane, labels = np.full((96, 96), 0.1), np.zeros((96, 96), np.int32)
    y, x = np.indices(plane.shape)
    for number, (row, column) in enumerate(np.ndindex(5, 5)):
        cy, cx = 9.5 + 19 * np.array([row, column]) + rng.uniform(-2, 2, 2)
        inside = (y - cy) ** 2 + (x - cx) ** 2 <= 36
        is_bright = rng.random() < 0.5
        plane[inside] = 0.9 if is_bright else 0.45
        if is_bright == (kind == "bright"):
            labels[inside] = number + 1
    plane = ndimage.gaussian_filter(plane, 0.7) + 0.01 * rng.standard_normal(plane.shape)
    return plane.clip(0, 1), labels


def write_field(folder, name, kind, seed):
    plane, labels = field(kind, seed)
    for part, array in (
        ("images", (plane * 255).astype(np.uint8)),
        ("labels", labels.astype(np.uint16)),
    ):
        (folder / part).mkdir(parents=True, exist_ok=True)
        tifffile.imwrite(folder / part / f"{name}.tif", array)


@pytest.fixture(scope="module")
def fields(tmp_path_factory):
    """Folders with fields of the two tasks, to train on and to be held out."""
    folder = tmp_path_factory.mktemp("fields")
    for part, seed in (("training", 0), ("held_out", 100)):
        for number in range(4):
            for kind in ("bright", "dim"):
                write_field(folder / part / kind, f"{part}_{kind}{number}", kind, seed + number)
    return folder


def family(fields, part, network, seed=0):
    images = [
        item for kind in ("bright", "dim") for item in read_folder(fields / part / kind, name=kind)
    ]
    return TaskFamily(
        LabeledDataset(images), CROPS, AugmentConfig.off(flip=0.5), network, seed=seed
    )


def adapted_loss(network, held_out, n_tasks=8):
    """Mean loss on new tasks after a few steps on each."""
    losses = []
    for number in range(n_tasks):
        task = held_out.draw(number)
        *support, query = held_out.batches(task, number, INNER.steps + 1, INNER.batch)
        losses.append(loss_after(network, support, query, INNER)[1])
    return float(np.mean(losses))


def test_a_task_is_one_group_and_both_sets_come_up(fields):
    tasks = family(fields, "training", network_of())
    assert len(tasks) == 8
    drawn = [tasks.draw(step) for step in range(40)]
    assert {name for name, _ in drawn} == {"bright", "dim"}
    assert len(set(drawn)) == 8
    assert drawn == [tasks.draw(step) for step in range(40)]
    one, same, other = (tasks.batches(drawn[0], step, 2, 3) for step in (0, 0, 1))
    assert [len(batch.image) for batch in one] == [3, 3]
    assert torch.equal(one[1].image, same[1].image)
    assert not torch.equal(one[0].image, other[0].image)


def test_the_step_goes_a_part_of_the_way_to_the_weights_of_the_task(fields):
    network, twin = network_of(), network_of()
    tasks = family(fields, "training", network)
    batches = tasks.batches(tasks.draw(0), 0, 3, 2)
    before = state_of(network)
    train_on_task(twin, batches, INNER)
    reptile_step(network, batches, INNER, 0.25)
    there, now = state_of(twin), state_of(network)
    assert any(not torch.equal(before[name], there[name]) for name in before)
    for name, value in now.items():
        if name.startswith("encoder") or "running" in name or "num_batches" in name:
            assert torch.equal(value, before[name]), name
        else:
            wanted = before[name] + 0.25 * (there[name] - before[name])
            assert torch.allclose(value, wanted, atol=1e-6), name


@pytest.mark.parametrize(("rate", "wanted"), [(0.0, [1.0, 2.0]), (1.0, [3.0, 8.0])])
def test_rate_0_stays_and_rate_1_arrives(rate, wanted):
    module = torch.nn.Linear(2, 1, bias=False)
    module.weight.data = torch.tensor([[3.0, 8.0]])
    move(module, {"weight": torch.tensor([[1.0, 2.0]])}, rate)
    assert module.weight.flatten().tolist() == wanted


def test_meta_learned_weights_adapt_better_in_few_steps_than_plain_ones(fields, trained):
    plain, meta = copy.deepcopy(trained), copy.deepcopy(trained)
    tasks = family(fields, "training", plain)
    n_tasks = 60
    # Plain: the same steps at the same rate, on all tasks mixed.
    mixture = [
        batch
        for step in range(n_tasks)
        for batch in tasks.batches(tasks.draw(step), step, INNER.steps, INNER.batch)
    ]
    order = np.random.default_rng(0).permutation(len(mixture))
    train_on_task(plain, [mixture[i] for i in order], INNER)
    for step in range(n_tasks):
        batches = mixture[step * INNER.steps : (step + 1) * INNER.steps]
        reptile_step(meta, batches, INNER, 0.7 * (1 - step / n_tasks))
    held_out = family(fields, "held_out", plain)
    assert adapted_loss(meta, held_out) < 0.8 * adapted_loss(plain, held_out)


@pytest.fixture
def run_file(fields, tmp_path):
    """Configuration of a short run on the fields, from a model with fresh weights."""
    network = network_of()
    base = tmp_path / "base.safetensors"
    card = ModelCard(
        name="base",
        architecture=network.architecture,
        peak=0.5,
        fill=0.2,
        diameter=13,
        licenses={"old": "MIT", "bright": "unknown"},
    )
    save_model(base, network, card)
    content = {
        "name": "discs-meta",
        "out": str(tmp_path / "out"),
        "model": str(base),
        "data": {"source": str(fields / "training" / "bright"), "held_out": 0.3},
        "crops": {"size": 32, "diameter": 13},
        "inner": {"steps": 2, "lr": 1e-2},
        "steps": 6,
        "checkpoint_every": 3,
        "validate_every": 3,
        "validation_tasks": 2,
        "keep": 10,
        "device": "cpu",
        "licenses": {"bright": "CC0 1.0"},
    }
    path = tmp_path / "meta.yaml"
    path.write_text(yaml.safe_dump(content), encoding="utf-8")
    return path


def test_the_configuration_of_the_documents_loads(tmp_path):
    page = (Path(__file__).parents[3] / "docs" / "adapt.md").read_text(encoding="utf-8")
    (block,) = [
        text for text in re.findall(r"```yaml\n(.*?)```", page, re.DOTALL) if "meta" in text
    ]
    (tmp_path / "meta.yaml").write_text(block, encoding="utf-8")
    overrides = re.search(r"core\.meta_train meta\.yaml (.+)", page)
    assert overrides is not None
    config = load_config(MetaConfig, tmp_path / "meta.yaml", overrides[1].split())
    assert (config.name, config.model, config.steps) == ("small-meta", "small", 1000)


def test_a_run_that_goes_on_ends_like_one_that_was_never_stopped(run_file, tmp_path):
    path = meta_train(load_config(MetaConfig, run_file))
    whole = checkpoint.load("auto", tmp_path / "out")
    assert whole is not None
    assert whole["step"] == 6
    (tmp_path / "out" / "checkpoint-0000006.pt").unlink()
    assert meta_train(load_config(MetaConfig, run_file)) == path
    resumed = checkpoint.load("auto", tmp_path / "out")
    assert resumed is not None
    assert resumed["best"] == whole["best"]
    for part in ("decoder", "best_decoder"):
        for name, value in whole[part].items():
            assert torch.equal(value, resumed[part][name]), (part, name)

    network, card = load_model(path)
    base, _ = load_model(tmp_path / "base.safetensors")
    assert (card.name, card.data) == ("discs-meta", ("bright",))
    assert card.licenses == {"old": "MIT", "bright": "CC0 1.0"}
    for name, value in network.encoder.state_dict().items():
        assert torch.equal(value, base.encoder.state_dict()[name]), name
    log = [json.loads(line) for line in (tmp_path / "out" / "log.jsonl").read_text().splitlines()]
    looks = [entry["held_out_adapted"] for entry in log if "held_out_adapted" in entry]
    assert min(looks) == whole["best"]


def test_sets_that_must_not_be_trained_on_are_refused_as_in_training(
    fields, run_file, tmp_path, capsys
):
    lines = ["set,split,image,label,group,train_allowed"]
    for name, allowed in (("bright", "yes"), ("dim", "no")):
        for number, split in enumerate(("train", "train", "val")):
            stem = f"{name}/{{}}/training_{name}{number}.tif"
            paths = ",".join(stem.format(part) for part in ("images", "labels"))
            lines.append(f"{name},{split},{paths},{name}{number},{allowed}")
    folder = tmp_path / "indexed"
    shutil.copytree(fields / "training", folder)
    (folder / "index.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    source = f"data.source={folder}"
    assert main([str(run_file), source, "data.sets={bright: 1.0, dim: 1.0}"]) == 2
    assert "dim must not be trained on" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
    # Without names, what may be trained on is taken.
    assert main([str(run_file), source, "steps=1"]) == 0
    assert load_model(tmp_path / "out" / "discs-meta.safetensors")[1].data == ("bright",)


def test_the_command_runs_and_says_in_one_sentence_what_is_wrong(run_file, tmp_path, capsys):
    assert main([str(run_file), "steps=1"]) == 0
    capsys.readouterr()
    assert load_model(tmp_path / "out" / "discs-meta.safetensors")[1].name == "discs-meta"
    for override, words in (
        ("inner.step=3", "did you mean 'inner.steps'"),
        ("crops.pool=8", "crops of tasks are new"),
        ("rate=2", "Setting rate"),
    ):
        assert main([str(run_file), override]) == 2
        error = capsys.readouterr().err.strip()
        assert words in error
        assert len(error.splitlines()) == 1
