"""The comparison with other programs: adapters, their protocol, paired differences, the tables."""

import csv
import json
import math
import os
import re
import subprocess
import sys
from pathlib import Path

import imageio.v3 as iio
import numpy as np
import pytest
import tifffile

from napari_dinocell.core.metrics import pool, score_image
from napari_dinocell.core.model.card import ModelCard
from napari_dinocell.core.model.files import save_model
from napari_dinocell.core.model.network import DINOCell
from napari_dinocell.core.model.small import (
    SmallDecoder,
    SmallDecoderConfig,
    SmallEncoder,
    SmallEncoderConfig,
)

sys.path.insert(0, str(Path(__file__).parents[1] / "benchmarks"))

import compare_peers
from paired import paired_difference
from peer_runs import read_adapters
from peers.protocol import CANNOT_RUN, gray_uint8, resize_labels, rgb_uint8

PEERS = Path(__file__).parents[1] / "benchmarks" / "peers"
ADAPTER = """
import numpy as np
from protocol import Peer, serve

def load(settings):
    settings.existing_weights()
    return Peer({function}, "1.2", "toy")

raise SystemExit(serve(load))
"""


def discs(shift: int = 0) -> np.ndarray:
    """Three discs of radius 10, two of which touch; and `shift` px lower."""
    y, x = np.indices((90, 90))
    labels = np.zeros((90, 90), np.int32)
    for number, (cy, cx) in enumerate(((20, 20), (20, 39), (50, 60)), start=1):
        labels[((y - cy - shift) ** 2 + (x - cx) ** 2 <= 100) & (labels == 0)] = number
    return labels


@pytest.mark.parametrize("adapter", read_adapters().values(), ids=lambda adapter: adapter.name)
def test_every_adapter_pins_its_peer_and_names_licenses(adapter):
    assert adapter.title
    assert adapter.trained_on
    assert adapter.code_license
    assert adapter.weights_license
    if adapter.own_environment:
        wanted = [*adapter.dependencies, *adapter.without_requirements]
        assert any("==" in requirement for requirement in wanted)
        assert any(requirement.startswith("tifffile") for requirement in wanted)
        torch = [requirement for requirement in wanted if re.match(r"torch\b", requirement)]
        assert all("<2.14" in requirement for requirement in torch)
    compile(adapter.path.read_text(encoding="utf-8"), adapter.path, "exec")


def run_adapter(tmp_path: Path, function: str, weights: str | None) -> subprocess.CompletedProcess:
    (tmp_path / "images").mkdir()
    tifffile.imwrite(tmp_path / "images" / "a.tif", (100 * (discs() > 0)).astype(np.uint16))
    tifffile.imwrite(
        tmp_path / "images" / "b.tif", np.zeros((40, 50, 3), np.uint8), photometric="rgb"
    )
    (tmp_path / "settings.json").write_text(json.dumps({"weights": weights}))
    script = tmp_path / "toy_adapter.py"
    script.write_text(ADAPTER.format(function=function))
    return subprocess.run(
        [sys.executable, script, *(tmp_path / n for n in ("images", "settings.json", "labels"))],
        env=os.environ | {"PYTHONPATH": str(PEERS)},
        capture_output=True, text=True, check=False,
    )  # fmt: skip


def test_an_adapter_writes_labels_of_the_image_and_its_times(tmp_path):
    function = "lambda x: (x if x.ndim == 2 else x[..., 0]).astype(np.uint8)"
    done = run_adapter(tmp_path, function, str(tmp_path))
    assert done.returncode == 0, done.stderr
    labels = tifffile.imread(tmp_path / "labels" / "a.tif")
    assert labels.dtype == np.int32
    np.testing.assert_array_equal(labels, 100 * (discs() > 0))
    result = json.loads((tmp_path / "labels" / "result.json").read_text())
    assert (result["version"], result["model"]) == ("1.2", "toy")
    assert result["seconds"].keys() == {"a", "b"}


@pytest.mark.parametrize("weights", [None, "/there/is/nothing"])
def test_an_adapter_without_weights_says_so_in_one_sentence(tmp_path, weights):
    done = run_adapter(tmp_path, "None", weights)
    assert done.returncode == CANNOT_RUN
    assert done.stderr.count("\n") == 1
    assert "weights" in done.stderr
    assert not (tmp_path / "labels" / "result.json").exists()


def test_labels_of_another_size_are_refused(tmp_path):
    done = run_adapter(tmp_path, "lambda x: np.zeros((3, 3), int)", str(tmp_path))
    assert done.returncode not in (0, CANNOT_RUN)
    assert "(3, 3)" in done.stderr
    assert not (tmp_path / "labels" / "result.json").exists()


def test_labels_are_resized_by_the_nearest_pixel():
    labels = discs()
    np.testing.assert_array_equal(resize_labels(labels, labels.shape), labels)
    doubled = resize_labels(labels, (180, 180))
    np.testing.assert_array_equal(doubled, labels.repeat(2, 0).repeat(2, 1))
    np.testing.assert_array_equal(resize_labels(doubled, (90, 90)), labels)


def test_eight_bit_images_span_the_range_whatever_the_input():
    wide = np.array([[1000, 1500], [1250, 2000]], np.uint16)
    np.testing.assert_array_equal(gray_uint8(wide), [[0, 128], [64, 255]])
    assert gray_uint8(np.full((2, 2), 7.0)).max() == 0
    assert rgb_uint8(wide).shape == (2, 2, 3)
    color = np.arange(12, dtype=np.uint8).reshape(2, 2, 3)
    np.testing.assert_array_equal(rgb_uint8(color), color)


def test_a_paired_difference_is_that_of_the_pooled_scores():
    truth = [discs(shift) for shift in range(8)]
    good = [score_image(labels, labels) for labels in truth]
    # Every second image loses one of three cells.
    half = [score_image(t, np.where(t == 1 + (i % 2), 0, t) if i % 2 else t)
            for i, t in enumerate(truth)]  # fmt: skip
    gain = paired_difference(good, half, "ap50")
    assert gain.value == pytest.approx(1 - pool(half).ap50) == pytest.approx(4 / 24)
    assert 0 < gain.low < gain.value < gain.high <= 1 / 3
    loss = paired_difference(half, good, "ap50")
    assert (loss.value, loss.low, loss.high) == (-gain.value, -gain.high, -gain.low)


def test_a_method_does_not_differ_from_itself():
    scores = [score_image(discs(), discs(shift)) for shift in range(6)]
    same = paired_difference(scores, scores, "op_csb")
    assert (same.value, same.low, same.high) == (0, 0, 0)


def test_one_image_gives_no_interval_and_other_images_are_refused():
    one = [score_image(discs(), discs())]
    assert math.isnan(paired_difference(one, one, "ap50").low)
    with pytest.raises(ValueError, match="same images"):
        paired_difference(one, [*one, *one], "ap50")


@pytest.fixture
def data(tmp_path) -> Path:
    rng = np.random.default_rng(0)
    rows = []
    for index in range(3):
        labels = discs(5 * index)
        image = (60 + 120 * (labels > 0) + rng.normal(0, 6, labels.shape)).astype(np.uint8)
        iio.imwrite(tmp_path / f"{index}.png", image)
        iio.imwrite(tmp_path / f"{index}_labels.png", labels.astype(np.uint16))
        rows.append(["discs", "val", f"{index}.png", f"{index}_labels.png", f"g{index}", "yes"])
    with (tmp_path / "index.csv").open("w", newline="") as file:
        head = ["set", "split", "image", "label", "group", "train_allowed"]
        csv.writer(file).writerows([head, *rows])
    return tmp_path


def test_the_comparison_scores_ours_and_a_peer_and_lists_who_was_not_run(data, capsys):
    encoder = SmallEncoder(SmallEncoderConfig(widths=(4,) * 5, blocks=(0,) * 5))
    decoder = SmallDecoder(SmallDecoderConfig(inputs=(4,) * 5, widths=(4,) * 4))
    network = DINOCell(encoder, decoder)
    card = ModelCard(
        name="tiny", architecture=network.architecture, peak=0.9, fill=0.5, diameter=20
    )
    save_model(str(data / "tiny.safetensors"), network, card)
    out = data / "out"
    arguments = [str(data), "--models", str(data / "tiny.safetensors"), "--out", str(out)]
    arguments += ["--peers", "otsu_watershed", "cellpose"]
    assert compare_peers.main(arguments) == 0
    text = capsys.readouterr().out
    assert text.strip() == (out / "compare.md").read_text().strip()
    assert "Cellpose-SAM: not run: its weights are not here" in text
    results = json.loads((out / "compare.json").read_text())
    by_method = {row["method"]: row for row in results["results"]}
    assert by_method["Otsu + watershed"]["ap50"] == 1.0
    assert by_method["Otsu + watershed"]["n_true"] == by_method["tiny"]["n_true"] == 9
    for row in by_method.values():
        assert row["median_seconds"] > 0
        assert row["peak_bytes"] > 20e6  # an interpreter and numpy
    line = next(line for line in text.splitlines() if line.startswith("| discs | tiny |"))
    difference = by_method["tiny"]["ap50"] - 1
    assert f"{difference:+.3f} (" in line
    shown = iio.imread(out / "val-discs.png")
    assert len(np.unique(shown.reshape(-1, shown.shape[2]), axis=0)) > 20  # grays, and outlines
