"""The few-shot benchmark: honest divisions, the real adaptation, rows that are taken up again."""

import csv
import json
import sys
from pathlib import Path

import imageio.v3 as iio
import numpy as np
import pytest

from napari_dinocell.core.adapt import Example, Limits, Recipe, adapt
from napari_dinocell.core.model.files import save_model
from napari_dinocell.core.training.data import LabeledImage

from .specimens import BRIGHT, DIM, discs, lattice

sys.path.insert(0, str(Path(__file__).parents[3] / "benchmarks"))

import few_shot
import few_shot_report
from few_shot_data import Shots, annotate_shots, divide, read_set
from few_shot_methods import METHODS, try_all

LIMITS = Limits(feature_seconds=600, training_seconds=600, n_views=1)


def scene(seed, size=112):
    rng = np.random.default_rng(seed)
    centers = lattice((size, size), 24, rng, 3)
    return discs((size, size), centers, 7, rng.choice([BRIGHT, DIM], len(centers)), seed)


@pytest.fixture
def folder(tmp_path):
    """Data folder with a set of eight images in five groups and two splits."""
    columns = ["set", "split", "image", "label", "group", "train_allowed"]
    rows = []
    for number in range(8):
        plane, labels = scene(number)
        paths = {}
        for kind, array in (
            ("image", (plane.clip(0, 1) * 255).astype(np.uint8)),
            ("label", labels.astype(np.uint16)),
        ):
            paths[kind] = f"{kind}{number}.png"
            iio.imwrite(tmp_path / paths[kind], array)
        group = f"field{min(number, 4)}"
        split = "train" if number < 2 else "test"
        rows.append(
            {"set": "discs", "split": split, "group": group, "train_allowed": "no", **paths}
        )
    with open(tmp_path / "index.csv", "w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, columns)
        writer.writeheader()
        writer.writerows(rows)
    return tmp_path


@pytest.mark.parametrize("by", ["group", "image"])
def test_images_that_judge_share_nothing_with_those_that_are_annotated(by):
    images = [
        LabeledImage("cells", f"movie{index % 7}", Path(f"{index}.png"), Path("none.png"))
        for index in range(40)
    ]
    divisions = [divide(images, 5, seed, by) for seed in range(20)]
    for one in divisions:
        assert 1 <= len(one.query) <= 5
        assert not set(one.query) & set(one.support)
        if by == "group":
            groups = ({images[i].group for i in side} for side in (one.query, one.support))
            assert not set.intersection(*groups)
    assert len({tuple(one.query) for one in divisions}) > 10, "seeds draw other images"
    assert divide(images, 5, 3, by).query == divisions[3].query


def test_a_set_of_one_movie_cannot_be_divided_by_group():
    images = [LabeledImage("cells", "movie", Path(f"{i}.png"), Path("none.png")) for i in range(4)]
    with pytest.raises(ValueError, match="one group only"):
        divide(images, 2, 0, "group")


def test_more_shots_of_a_seed_contain_the_fewer_ones(folder):
    dataset = read_set(folder, "discs")
    assert len(dataset) == 8, "all splits are read"
    support = list(range(8))

    def annotated(text):
        examples = annotate_shots(dataset, support, Shots.parse(text), seed=1)
        return {
            (example.name, int(number))
            for example in examples
            for number in np.unique(example.labels[example.labels > 0])
        }

    few, more = annotated("2"), annotated("25")
    assert (len(few), len(more)) == (2, 25)
    assert few < more
    (whole,) = annotate_shots(dataset, support, Shots.parse("1i"), seed=1)
    assert np.array_equal(whole.labels, dataset.read(0)[1])
    assert whole.complete_regions.all()
    with pytest.raises(ValueError, match="8 images to annotate, not 9"):
        annotate_shots(dataset, support, Shots.parse("9i"), seed=1)
    with pytest.raises(ValueError, match="'5x' is no number"):
        Shots.parse("5x")


def test_what_is_kept_is_what_adapt_keeps(small_base):
    plane, labels = scene(11, 160)
    example = Example(plane, np.where(labels <= 10, labels, 0))
    recipe = Recipe(epochs=6, learning_rate=3e-3)
    adapted = adapt(small_base, [example], recipe=recipe, limits=LIMITS, device="cpu")
    outcome = try_all(*small_base, [example], recipe, LIMITS)
    assert outcome.report.verdict == adapted.report.verdict
    kept = outcome.candidates["kept"]
    assert kept.at == adapted.thresholds
    wanted = adapted.network.state_dict()
    for name, value in kept.network.state_dict().items():
        assert np.array_equal(value.numpy(), wanted[name].numpy()), name
    assert set(outcome.candidates) == set(METHODS)


def test_rows_are_written_once_and_a_stopped_run_goes_on(small_base, folder, tmp_path, capsys):
    network, card = small_base
    model = tmp_path / "discs.safetensors"
    save_model(model, network, card.model_copy(update={"data": ("elsewhere",)}))
    out = tmp_path / "out"
    words = f"{folder} --base {model} --sets discs --shots 3 1i --seeds 1 --queries 2 --out {out}"
    boxes = ["--feature-seconds", "2", "--training-seconds", "1"]
    options = few_shot.options_of([*words.split(), *boxes])
    assert few_shot.run(options) == 2 * len(METHODS)
    rows = out / "rows.jsonl"
    lines = rows.read_text().splitlines(keepends=True)
    for row in map(json.loads, lines):
        assert 0 <= row["ap50"] <= 1
        assert row["n_true"] > 10
    assert few_shot.run(options) == 0
    rows.write_text("".join(lines[:-2]) + lines[-2][:20])  # stopped in the middle of a line
    assert few_shot.run(options) == len(METHODS)
    assert len(rows.read_text().splitlines()) == len(lines)

    few_shot_report.plot(few_shot.read_rows(rows), out / "plot.png")
    assert iio.imread(out / "plot.png").std() > 5
    table = few_shot_report.markdown(few_shot.read_rows(rows))
    assert "| 3 cells |" in table
    assert "| 1 image |" in table

    options.queries = 1
    with pytest.raises(ValueError, match="other settings"):
        few_shot.run(options)


def test_a_base_is_not_measured_on_a_set_that_it_has_seen(small_base, folder, tmp_path, capsys):
    network, card = small_base
    model = tmp_path / "discs.safetensors"
    save_model(model, network, card.model_copy(update={"data": ("discs",)}))
    arguments = [str(folder), "--base", str(model), "--sets", "discs", "--out", str(tmp_path / "o")]
    assert few_shot.run(few_shot.options_of(arguments)) == 0
    assert "was trained on discs" in capsys.readouterr().out


def test_the_spread_is_that_of_the_gains_not_of_the_scores():
    rows = [
        {"set": "s", "base": "b", "weights": "w", "kind": "cells", "shots": 5, "seed": seed,
         "method": method, "op_csb": base + gain * (method != "base"), "ap50": 0.5,
         "verdict": "better"}
        for seed, base, gain in ((0, 0.2, 0.1), (1, 0.8, 0.2))
        for method in METHODS
    ]  # fmt: skip
    ((_, shots),) = few_shot_report.grouped(rows).items()
    mean, spread = few_shot_report.values(shots[Shots("cells", 5)], "kept", "op_csb")
    assert mean == pytest.approx(0.65)
    assert spread == pytest.approx(0.1 / 2**0.5)
