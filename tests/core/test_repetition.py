"""A run that is fed back: the same bytes, or a reason why not."""

import json
import re
from pathlib import Path

import imageio.v3 as iio
import pytest
from test_segment import make_model, run, scene

from napari_dinocell.core import segment
from napari_dinocell.core.model.files import load_model, save_model


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_model(tmp_path_factory.mktemp("model") / "tiny.safetensors")


@pytest.fixture
def images(tmp_path: Path) -> Path:
    folder = tmp_path / "images"
    folder.mkdir()
    for number, name in enumerate(("a.png", "b.tif")):
        iio.imwrite(folder / name, scene(number))
    return folder


def test_a_run_file_reproduces_the_run(model: Path, images: Path, tmp_path: Path) -> None:
    options = ("--csv", "--min-area", 20, "--diameter", 10, "--name", "{stem}-{ext}_labels")
    assert run(model, images, "-o", tmp_path / "1", *options) == 0
    record = json.loads((tmp_path / "1" / "run.json").read_text())
    assert re.fullmatch("[0-9a-f]{64}", record["model"]["sha256"])
    assert record["settings"]["peak"] == pytest.approx(
        record["files"][0]["prediction"]["thresholds"]["peak"]
    )
    assert len(record["files"][0]["prediction"]["normalization"]["ranges"]) == 1
    assert "torch" in record["versions"]
    again = ["--from-run", str(tmp_path / "1" / "run.json"), "-o", str(tmp_path / "2")]
    assert segment.main(again) == 0
    for name in ("a-png_labels.tif", "b-tif_labels.tif", "a-png_cells.csv", "b-tif_cells.csv"):
        first, second = (tmp_path / n / name for n in "12")
        assert first.read_bytes() == second.read_bytes()
    repeated = json.loads((tmp_path / "2" / "run.json").read_text())
    assert repeated["settings"] == record["settings"]
    assert repeated["model"] == record["model"]


def test_a_repeated_run_takes_the_scales_that_were_estimated_then(
    model: Path, images: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """On another machine the estimate itself may come out differently."""
    assert run(model, images, "-o", tmp_path / "1") == 0
    path = tmp_path / "1" / "run.json"
    record = json.loads(path.read_text())
    for file in record["files"]:
        file["prediction"]["scaling"] |= {"scale": 0.75, "reason": "estimate"}
    path.write_text(json.dumps({**record, "device": "cuda:0"}))
    (images / "a.png").write_bytes((images / "a.png").read_bytes() + b"changed")
    assert segment.main(["--from-run", str(path), "-o", str(tmp_path / "2")]) == 0
    said = capsys.readouterr().err
    assert "was on cuda:0, this one is on cpu" in said
    assert "a.png has changed" in said
    changed, same = json.loads((tmp_path / "2" / "run.json").read_text())["files"]
    assert same["prediction"]["scaling"]["scale"] == 0.75
    assert changed["prediction"]["scaling"]["scale"] != 0.75
    given = ("--from-run", path, "-o", tmp_path / "3", "--diameter", "none")
    assert segment.main([*map(str, given)]) == 0
    files = json.loads((tmp_path / "3" / "run.json").read_text())["files"]
    assert [file["prediction"]["scaling"]["scale"] for file in files] == [1.0, 1.0]


def test_a_run_is_not_repeated_with_other_weights(
    images: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = make_model(tmp_path / "m.safetensors", seed=1)
    run(path, images / "a.png", "-o", tmp_path / "1")
    make_model(path, seed=2)
    assert segment.main(["--from-run", str(tmp_path / "1"), "-o", str(tmp_path / "2")]) == 2
    assert "weights" in capsys.readouterr().err


def test_a_run_is_not_repeated_with_other_settings_of_the_model(
    images: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = make_model(tmp_path / "m.safetensors")
    run(path, images / "a.png", "-o", tmp_path / "1")
    network, card = load_model(path)
    save_model(path, network, card.model_copy(update={"notes": "Other words."}))
    assert segment.main(["--from-run", str(tmp_path / "1"), "-o", str(tmp_path / "2")]) == 0
    save_model(path, network, card.model_copy(update={"min_prominence": 0.3}))
    assert segment.main(["--from-run", str(tmp_path / "1"), "-o", str(tmp_path / "3")]) == 2
    assert "settings of the model" in capsys.readouterr().err
