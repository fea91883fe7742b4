import json
import subprocess
import sys
from pathlib import Path

import imageio.v3 as iio
import numpy as np
import pytest
import tifffile

from napari_dinocell.core.evaluate import main


@pytest.fixture
def folders(tmp_path: Path) -> tuple[str, str]:
    """Three images; in the second prediction one of four cells is missing, the third is empty."""
    true, pred = tmp_path / "true", tmp_path / "pred"
    true.mkdir()
    pred.mkdir()
    labels = np.kron([[5, 0, 9], [0, 0, 0], [70, 0, 300]], np.ones((6, 6), int)).astype(np.uint16)
    for name, missing in (("a", 0), ("b", 300)):
        iio.imwrite(true / f"{name}.png", labels)
        tifffile.imwrite(pred / f"{name}_labels.tif", np.where(labels == missing, 0, labels))
    iio.imwrite(true / "c.png", labels * 0)
    tifffile.imwrite(pred / "c_labels.tif", labels)
    return str(true), str(pred)


def test_json_on_stdout_holds_the_scores(folders, capsys):
    true, pred = folders
    assert main(["--pred", pred, "--true", true, "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    pooled = result["pooled"]
    assert pooled["seg"] == pytest.approx(7 / 8)
    assert pooled["det"] == pytest.approx(1 - (10 + 4) / 80)
    assert pooled["ap50"] == pytest.approx(7 / 12)
    assert (pooled["n_images"], pooled["n_empty"], pooled["n_spurious"]) == (3, 1, 4)
    assert len(result["images"]) == 3


def test_table_is_printed_without_json(folders, capsys):
    true, pred = folders
    assert main(["--pred", pred, "--true", true]) == 0
    out, err = capsys.readouterr()
    assert "OP_CSB" in out
    assert "0.875" in out
    assert err == ""


def test_the_table_has_a_row_per_image_before_the_pooled_scores(folders, capsys):
    true, pred = folders
    assert main(["--pred", pred, "--true", true]) == 0
    out = capsys.readouterr().out
    rows = [[cell.strip() for cell in line.strip("│ ").split("│")] for line in out.splitlines()]
    images = {row[0]: row for row in rows if row[0] in ("a", "b", "c")}
    assert list(images) == ["a", "b", "c"]
    # Set, true cells, found cells, SEG; the third image has no reference, so SEG is undefined.
    assert images["a"][1:5] == ["true", "4", "4", "1.000"]
    assert images["b"][1:5] == ["true", "4", "3", "0.750"]
    assert images["c"][1:5] == ["true", "0", "4", ""]
    assert out.index("image") < out.index("images")


def test_the_documented_command_runs_without_torch(folders):
    true, pred = folders
    code = (
        "import sys, runpy; sys.argv = ['evaluate', *sys.argv[1:]]\n"
        "try: runpy.run_module('napari_dinocell.core.evaluate', run_name='__main__')\n"
        "finally: assert 'torch' not in sys.modules"
    )
    command = [sys.executable, "-c", code, "--pred", pred, "--true", true, "--json"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["pooled"]["n_true"] == 8


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ([], "Give either --pred and --true"),
        (["--pred", "{pred}"], "Give either --pred and --true"),
        (["--pred", "{pred}", "--true", "{true}", "--model", "x"], "Give either"),
        (["--pred", "{pred}/nowhere", "--true", "{true}"], "nowhere; give the folder"),
        (["--pred", "{true}", "--true", "{true}"], "give two folders"),
    ],
)
def test_wrong_arguments_are_one_sentence_and_exit_code_two(folders, capsys, arguments, sentence):
    true, pred = folders
    assert main([a.format(true=true, pred=pred) for a in arguments]) == 2
    out, err = capsys.readouterr()
    assert sentence in err
    assert out == ""
    assert "Traceback" not in err
    assert len(err.strip().splitlines()) == 1


def test_a_missing_prediction_and_another_shape_are_named(folders, capsys):
    true, pred = folders
    tifffile.imwrite(Path(pred) / "b_labels.tif", np.zeros((5, 5), np.uint16))
    assert main(["--pred", pred, "--true", true]) == 2
    assert "b: True labels have the shape (18, 18)" in capsys.readouterr().err
    (Path(pred) / "b_labels.tif").unlink()
    assert main(["--pred", pred, "--true", true]) == 2
    assert "1 of 3 reference images have no prediction" in capsys.readouterr().err


def test_a_broken_label_file_is_named(folders, capsys):
    true, pred = folders
    (Path(pred) / "a_labels.tif").write_bytes(b"II*\0nonsense")
    assert main(["--pred", pred, "--true", true]) == 2
    assert "a_labels.tif" in capsys.readouterr().err
