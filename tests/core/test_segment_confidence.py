"""The least confidence of a cell: on the command line, in the run file, and again from there."""

import csv
import json
from pathlib import Path

import imageio.v3 as iio
import numpy as np
import pytest
import tifffile
from test_segment import make_model, scene

from napari_dinocell.core import segment
from napari_dinocell.core.model.files import load_model, save_model


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_model(tmp_path_factory.mktemp("model") / "tiny.safetensors")


@pytest.fixture
def image(tmp_path: Path) -> Path:
    path = tmp_path / "cells.png"
    iio.imwrite(path, scene(1, 128))
    return path


def run(source: Path | None, out: Path, model: Path | None, *options: str) -> int:
    arguments = [*([] if source is None else [str(source)]), "-o", str(out), "--csv", *options]
    if model is not None:
        arguments += ["--model", str(model), "--device", "cpu"]
    return segment.main(arguments)


def rows(out: Path) -> list[dict[str, str]]:
    with (out / "cells_cells.csv").open() as file:
        return list(csv.DictReader(file))


def test_cells_that_are_not_sure_enough_are_left_out_and_a_run_file_says_so(
    model: Path, image: Path, tmp_path: Path
) -> None:
    assert run(image, tmp_path / "all", model) == 0
    everything = rows(tmp_path / "all")
    chances = sorted(float(row["confidence"]) for row in everything)
    least = float(np.mean(chances[len(chances) // 2 - 1 : len(chances) // 2 + 1]))
    kept = [row for row in everything if float(row["confidence"]) >= least]
    assert 0 < len(kept) < len(everything)

    assert run(image, tmp_path / "sure", model, "--min-confidence", str(least)) == 0
    found = rows(tmp_path / "sure")
    assert [row["label"] for row in found] == [str(i + 1) for i in range(len(kept))]
    for name in ("area", "centroid-0", "confidence"):
        assert [row[name] for row in found] == [row[name] for row in kept]
    before = tifffile.imread(tmp_path / "all" / "cells_labels.tif")
    labels = tifffile.imread(tmp_path / "sure" / "cells_labels.tif")
    np.testing.assert_array_equal(labels > 0, np.isin(before, [int(r["label"]) for r in kept]))
    record = json.loads((tmp_path / "sure" / "run.json").read_text())
    assert record["settings"]["min_confidence"] == least
    assert record["files"][0]["count"] == len(kept)

    repeat = ["--from-run", str(tmp_path / "sure" / "run.json")]
    assert run(None, tmp_path / "again", None, *repeat) == 0
    again = tifffile.imread(tmp_path / "again" / "cells_labels.tif")
    np.testing.assert_array_equal(again, labels)
    # What is said on the command line wins; nothing is left out then.
    assert run(None, tmp_path / "none", None, *repeat, "--min-confidence", "0") == 0
    none = tifffile.imread(tmp_path / "none" / "cells_labels.tif")
    np.testing.assert_array_equal(none, before)


def test_nothing_left_out_mixes_with_results_without_the_option(
    model: Path, image: Path, tmp_path: Path
) -> None:
    assert run(image, tmp_path / "out", model) == 0
    iio.imwrite(tmp_path / "second.png", scene(2))
    second = tmp_path / "second.png"
    assert run(second, tmp_path / "out", model, "--min-confidence", "0.999") == 2
    assert run(second, tmp_path / "out", model, "--min-confidence", "0") == 0


@pytest.mark.parametrize("value", ["1.5", "-0.1"])
def test_a_value_that_is_no_probability_is_refused(
    model: Path, image: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], value: str
) -> None:
    assert run(image, tmp_path / "out", model, f"--min-confidence={value}") == 2
    assert f"--min-confidence {value} is not valid" in capsys.readouterr().err


def test_a_model_that_tells_no_confidence_says_so(
    model: Path, image: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    network, card = load_model(model)
    silent = tmp_path / "silent.safetensors"
    save_model(silent, network, card.model_copy(update={"name": "silent", "confidence": {}}))
    assert run(image, tmp_path / "out", silent, "--min-confidence", "0.5") == 2
    assert "model silent tells none" in capsys.readouterr().err
    assert not list((tmp_path / "out").glob("*.tif"))
