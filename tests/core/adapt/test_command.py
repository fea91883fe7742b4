"""From files to a model file, by the real command."""

import json
import os
import shutil
import signal
import subprocess
import sys

import numpy as np
import pytest
import tifffile

from napari_dinocell.core.adapt.command import main
from napari_dinocell.core.images import Image, read_image
from napari_dinocell.core.intensity import IntensityRange
from napari_dinocell.core.model.files import load_model, read_card, save_model
from napari_dinocell.core.project import Project
from napari_dinocell.core.segmenter import Segmenter
from napari_dinocell.core.training.readers import read_labeled

from .specimens import BRIGHT, DIM, discs, lattice

QUICK = ["--epochs", "8", "--learning-rate", "0.003", "--device", "cpu"]
QUICK += ["--feature-seconds", "600", "--seconds", "600"]


@pytest.fixture(autouse=True)
def library(tmp_path, monkeypatch):
    monkeypatch.setenv("NAPARI_DINOCELL_HOME", str(tmp_path / "home"))
    return tmp_path / "home" / "models"


@pytest.fixture
def files(tmp_path, small_base):
    """A base model and an image in which six dim cells are labeled."""
    network, card = small_base
    card = card.model_copy(
        update={"input": card.input.model_copy(update={"percentiles": (1.0, 99.0)})}
    )
    save_model(tmp_path / "discs.safetensors", network, card)
    rng = np.random.default_rng(0)
    centers = lattice((128, 128), 24, rng, 2)
    levels = rng.choice([BRIGHT, DIM], len(centers))
    plane, labels = discs((128, 128), centers, 7, levels)
    annotated = np.flatnonzero(levels == DIM)[:6] + 1
    tifffile.imwrite(tmp_path / "cells.tif", plane)
    partial = np.where(np.isin(labels, annotated), labels, 0).astype(np.uint16)
    tifffile.imwrite(tmp_path / "partial.tif", partial)
    return tmp_path


def arguments(folder, *more, labels="partial.tif", output="mine.safetensors"):
    return [
        str(folder / "cells.tif"),
        *("--labels", str(folder / labels)),
        *("--model", str(folder / "discs.safetensors")),
        *("--output", str(folder / "out" / output)),
        *QUICK,
        *more,
    ]


def test_images_and_labels_become_a_model_and_a_report(files, library, capsys):
    assert main(arguments(files, "--json")) == 0
    printed = json.loads(capsys.readouterr().out)
    report = json.loads((files / "out" / "mine.json").read_text())
    assert printed == report
    assert report["verdict"] == "better"
    assert report["n_cells"] == 6
    assert len(report["folds"]) == 3
    card = read_card(files / "out" / "mine.safetensors")
    assert card.name == "mine"
    assert card.peak == report["after"]["peak"]
    assert card.adaptation["base"] == "discs"
    small, whole = (
        (files / path).stat().st_size for path in ("out/mine.safetensors", "discs.safetensors")
    )
    assert small < whole + 20_000, "only the decoder, and the report in its card"

    # The base may go, and with it its encoder: the copy in the library does.
    (files / "discs.safetensors").unlink()
    assert len(list(library.rglob("*.safetensors"))) == 1
    predicted = Segmenter.from_pretrained(files / "out" / "mine.safetensors", "cpu").predict(
        tifffile.imread(files / "cells.tif")
    )
    assert len(np.unique(predicted.labels())) > 6


def test_the_model_file_needs_the_base_or_the_library_and_a_full_one_neither(files, library):
    assert main(arguments(files, "--full", output="full.safetensors")) == 0
    assert not library.exists()
    (files / "discs.safetensors").unlink()
    _, card = load_model(files / "out" / "full.safetensors")
    assert card.name == "full"


def test_there_is_no_model_file_whose_encoder_could_not_be_kept(files, monkeypatch, capsys):
    (files / "taken").write_text("a file where the library's folder should be")
    monkeypatch.setenv("NAPARI_DINOCELL_HOME", str(files / "taken"))
    assert main(arguments(files)) == 2
    assert "taken" in capsys.readouterr().err
    assert not (files / "out" / "mine.safetensors").exists()


def test_a_project_takes_its_model_up(files, capsys):
    project = Project.create(files / "project")
    plane, partial = (tifffile.imread(files / f"{name}.tif") for name in ("cells", "partial"))
    range_ = IntensityRange(0.1, 0.85, False)
    project.add("a", Image(plane, "YX"), partial, intensity=range_)
    model = ["--model", str(files / "discs.safetensors")]
    assert main([str(project.folder), *model, *QUICK]) == 0
    (entry,) = Project(project.folder).models
    assert entry.file == "models/adapted.safetensors"
    assert entry.verdict == "better"
    assert load_model(project.folder / entry.file, folders=[files])[1].fill == entry.fill
    assert main([str(project.folder), *model, *QUICK]) == 2
    assert "--overwrite" in capsys.readouterr().err


def test_a_folder_made_by_hand_stays_one_and_train_reads_it_as_before(files):
    for kind, name in (("images", "cells"), ("labels", "partial")):
        (files / "hand" / kind).mkdir(parents=True)
        shutil.copy(files / f"{name}.tif", files / "hand" / kind / "a.tif")
    model = ["--model", str(files / "discs.safetensors")]
    assert main([str(files / "hand"), *model, *QUICK]) == 0
    assert (files / "hand" / "models" / "adapted.safetensors").is_file()
    assert not (files / "hand" / "project.json").exists()
    _, labels = read_labeled(files / "hand").read(0)
    assert labels.min() == 0, "no unknown pixels: a folder, not a project"


@pytest.mark.parametrize(
    ("output", "report", "sentence"),
    [
        ("project.safetensors", None, "project.json is a place of the project's own files"),
        ("labels/a.safetensors", "r.json", "labels/a.safetensors is a place of"),
        ("models/a.safetensors", "regions/a.json", "regions/a.json is a place of"),
        ("models/a.safetensors", "background/a.tif", "background/a.tif is a place of"),
        ("models/a.safetensors", "images/new.json", "images/new.json is a place of"),
        ("models/a.safetensors", "../cells.tif", "is an input"),
        ("models/a.safetensors", "models/a.safetensors", "both model and report"),
    ],
)
def test_outputs_never_fall_on_what_a_project_holds(files, output, report, sentence, capsys):
    project = Project.create(files / "project")
    partial = tifffile.imread(files / "partial.tif")
    there = files / "cells.tif"
    project.add("a", read_image(there), partial, reference=there)
    before = {path: path.read_bytes() for path in files.rglob("*") if path.is_file()}
    words = [str(project.folder), "--model", str(files / "discs.safetensors"), *QUICK]
    words += ["--output", str(project.folder / output)]
    words += [] if report is None else ["--report", str(project.folder / report)]
    assert main(words) == 2
    assert sentence in capsys.readouterr().err.replace("\n", "")
    after = {path: path.read_bytes() for path in files.rglob("*") if path.is_file()}
    assert after == before


def test_ctrl_c_keeps_the_best_so_far(files):
    words = [sys.executable, "-m", "napari_dinocell.core.adapt"]
    words += arguments(files, "--epochs", "100000", "--unverified")
    two = tifffile.imread(files / "partial.tif")
    two[two > np.unique(two)[2]] = 0
    tifffile.imwrite(files / "partial.tif", two)
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    with subprocess.Popen(words, env=environment, stderr=subprocess.PIPE, text=True) as process:
        for line in process.stderr:
            if "Training" in line and not line.rstrip().endswith(" at step 0"):
                break
        process.send_signal(signal.SIGINT)
        rest = process.stderr.read()
    assert process.returncode == 0, rest
    report = json.loads((files / "out" / "mine.json").read_text())
    assert report["is_cancelled"]
    assert (files / "out" / "mine.safetensors").is_file()


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (["--labels", "x.tif"], "2 times --labels"),
        (["--background", "a.tif", "--background", "b.tif"], "2 times --background"),
        (["--model", "absent"], "There is no model absent"),
        (["--output", "here.pt"], "must end with .safetensors"),
        (["--start", "hot"], "start: Input should be 'warm' or 'random', not 'hot'"),
        (["--device", "cuda:77"], "cuda:77"),
        (["--channel", "DAPI"], "DAPI"),
    ],
)
def test_a_mistake_is_one_sentence_and_nothing_is_written(files, change, sentence, capsys):
    assert main(arguments(files, *change)) == 2
    error = capsys.readouterr().err
    assert sentence in error
    assert "Traceback" not in error
    assert not (files / "out").exists()


def test_labels_of_another_size_or_kind_and_too_few_cells_are_refused(files, capsys):
    partial = tifffile.imread(files / "partial.tif")
    tifffile.imwrite(files / "cut.tif", partial[:50])
    tifffile.imwrite(files / "float.tif", partial.astype(np.float32))
    two = np.where(partial <= np.unique(partial)[2], partial, 0)
    tifffile.imwrite(files / "two.tif", two)
    tifffile.imwrite(files / "one.tif", np.where(two == two.max(), two, 0))
    tifffile.imwrite(files / "stack.tif", np.stack([partial, partial]), metadata={"axes": "TYX"})
    for labels, sentence in (
        ("cut.tif", "have the shape (50, 128), the image has (128, 128)"),
        ("float.tif", "float32"),
        ("two.tif", "2 cells are labeled; with fewer than 3"),
        ("one.tif", "1 cell is labeled; with fewer than 3"),
        ("stack.tif", "stack.tif does not have the axes YX of its image"),
        ("absent.tif", "absent.tif"),
    ):
        assert main(arguments(files, labels=labels)) == 2
        assert sentence in capsys.readouterr().err
    assert not (files / "out").exists()


def test_labels_are_asked_for_and_a_misspelt_project_is_named(files, capsys):
    for given, sentence in (
        (files / "cells.tif", "Labels are missing; give --labels once per image, or one project."),
        (files / "porject", "porject does not exist"),
    ):
        assert main([str(given), "--output", str(files / "out" / "mine.safetensors")]) == 2
        assert sentence in capsys.readouterr().err


def test_an_output_that_is_an_input_or_is_there_is_refused(files, capsys):
    base = files / "discs.safetensors"
    assert main(arguments(files, "--output", str(base))) == 2
    assert "is the base" in capsys.readouterr().err
    other = shutil.copy(base, files / "other.safetensors")
    assert main(arguments(files, "--output", str(other))) == 2
    assert "is there already" in capsys.readouterr().err


def test_nothing_better_is_exit_code_one_and_no_model(files, capsys):
    base = Segmenter.from_pretrained(files / "discs.safetensors", "cpu")
    found = base.predict(tifffile.imread(files / "cells.tif")).labels()
    assert found.max() >= 8, "nothing is better than the base on what the base found itself"
    tifffile.imwrite(files / "found.tif", found.astype(np.uint16))
    assert main(arguments(files, labels="found.tif")) == 1
    report = json.loads((files / "out" / "mine.json").read_text())
    assert report["verdict"] == "unchanged"
    assert not (files / "out" / "mine.safetensors").exists()
    assert report["sentence"] in capsys.readouterr().err
