"""The segment command, with a tiny untrained network whose thresholds lie inside its range."""

import csv
import io
import json
import re
import signal
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import imageio.v3 as iio
import numpy as np
import numpy.typing as npt
import pytest
import tifffile
import torch

from napari_dinocell.core import segment
from napari_dinocell.core.model.card import ModelCard
from napari_dinocell.core.model.files import save_model
from napari_dinocell.core.model.network import DINOCell
from napari_dinocell.core.model.small import (
    SmallDecoder,
    SmallDecoderConfig,
    SmallEncoder,
    SmallEncoderConfig,
)
from napari_dinocell.core.segmenter import Segmenter

WIDTHS = (4, 4, 4, 4, 4)
SIDE = 64


def scene(seed: int = 0, side: int = SIDE) -> npt.NDArray[np.uint16]:
    """Bright discs on a dark ground, 16 bits."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:side, :side]
    plane = 300 + 20 * rng.standard_normal((side, side))
    for cy, cx in rng.uniform(8, side - 8, (6, 2)):
        plane += 4000 * ((y - cy) ** 2 + (x - cx) ** 2 < 36)
    return plane.astype(np.uint16)


def make_model(path: Path, seed: int = 0) -> Path:
    torch.manual_seed(seed)
    network = DINOCell(
        SmallEncoder(SmallEncoderConfig(widths=WIDTHS, blocks=(0, 0, 0, 0, 0))),
        SmallDecoder(SmallDecoderConfig(inputs=WIDTHS, widths=WIDTHS[1:])),
    ).eval()
    card = ModelCard(
        name="tiny",
        architecture=network.architecture,
        peak=0.5,
        fill=0.1,
        diameter=12,
        tile=64,
        overlap=16,
        confidence={"intercept": 0.0, "height": 1.0, "prominence": 1.0, "mean": 1.0},
    )
    distance = np.asarray(Segmenter(network, card, "cpu").predict(scene()).maps[0]) / 65535
    fill, peak = np.percentile(distance, (70, 85))
    save_model(path, network, card.model_copy(update={"peak": float(peak), "fill": float(fill)}))
    return path


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_model(tmp_path_factory.mktemp("model") / "tiny.safetensors")


@pytest.fixture
def images(tmp_path: Path) -> Path:
    folder = tmp_path / "images"
    folder.mkdir()
    iio.imwrite(folder / "a.png", scene(0))
    tifffile.imwrite(folder / "b.ome.tif", scene(1), metadata={
        "axes": "YX", "PhysicalSizeX": 0.5, "PhysicalSizeY": 0.25,
        "PhysicalSizeXUnit": "µm", "PhysicalSizeYUnit": "µm",
    })  # fmt: skip
    return folder


def run(model: Path, *arguments: object) -> int:
    return segment.main([*map(str, arguments), "--model", str(model), "--device", "cpu"])


def read_csv(path: Path) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(path.read_text(encoding="utf-8"))))


def labels_of(path: Path) -> npt.NDArray[Any]:
    return np.asarray(tifffile.imread(path))


def test_a_folder_gives_every_kind_of_result_for_each_image(
    model: Path, images: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    assert run(model, images, "-o", out, "--overlay", "--csv", "--rois", "--geojson") == 0
    for stem in ("a", "b"):
        labels = labels_of(out / f"{stem}_labels.tif")
        assert labels.shape == (SIDE, SIDE)
        assert labels.dtype == np.uint16
        ids = np.unique(labels[labels > 0])
        np.testing.assert_array_equal(ids, np.arange(1, len(ids) + 1))
        assert len(ids) > 1
        rows = read_csv(out / f"{stem}_cells.csv")
        np.testing.assert_array_equal([int(row["label"]) for row in rows], ids)
        np.testing.assert_array_equal(
            [int(row["area"]) for row in rows], np.bincount(labels.ravel())[1:]
        )
        assert all(0 <= float(row["confidence"]) <= 1 for row in rows)
        assert iio.imread(out / f"{stem}_overlay.png").shape == (SIDE, SIDE, 3)
        assert len(zipfile.ZipFile(out / f"{stem}_rois.zip").namelist()) >= len(ids)
        features = json.loads((out / f"{stem}_cells.geojson").read_text())["features"]
        assert len(features) == len(ids)


def test_labels_are_those_of_the_python_interface(
    model: Path, images: Path, tmp_path: Path
) -> None:
    run(model, images / "a.png", "-o", tmp_path)
    expected = Segmenter.from_pretrained(model, "cpu").predict(scene(0)).labels()
    written = labels_of(tmp_path / "a_labels.tif")
    np.testing.assert_array_equal(written > 0, expected > 0)
    pairs = {(int(a), int(b)) for a, b in zip(written.ravel(), expected.ravel(), strict=True)}
    assert len(pairs) == len(np.unique(expected)) == len(np.unique(written))


def test_pixel_size_is_kept_and_gives_micrometers(
    model: Path, images: Path, tmp_path: Path
) -> None:
    run(model, images, "-o", tmp_path, "--csv")
    with tifffile.TiffFile(tmp_path / "b_labels.tif") as file:
        assert re.search(r'PhysicalSizeY="0\.25"', file.ome_metadata or "")
    row = read_csv(tmp_path / "b_cells.csv")[0]
    assert float(row["area_um2"]) == pytest.approx(float(row["area"]) * 0.125)
    assert "area_um2" not in read_csv(tmp_path / "a_cells.csv")[0]
    assert run(model, images / "a.png", "-o", tmp_path / "um", "--csv", "--pixel-size", "0.5") == 0
    row = read_csv(tmp_path / "um" / "a_cells.csv")[0]
    assert float(row["area_um2"]) == pytest.approx(float(row["area"]) * 0.25)


def test_summary_has_a_row_per_image_with_count_and_confluency(
    model: Path, images: Path, tmp_path: Path
) -> None:
    run(model, images, "-o", tmp_path)
    rows = {Path(row["source"]).name: row for row in read_csv(tmp_path / "summary.csv")}
    labels = labels_of(tmp_path / "a_labels.tif")
    assert int(rows["a.png"]["count"]) == labels.max()
    assert float(rows["a.png"]["confluency"]) == pytest.approx((labels > 0).mean(), rel=1e-6)
    areas = np.bincount(labels.ravel())[1:]
    assert float(rows["a.png"]["area_mean"]) == pytest.approx(areas.mean(), rel=1e-6)


def test_a_stack_is_segmented_plane_by_plane(model: Path, tmp_path: Path) -> None:
    stack = np.stack([scene(0), scene(1), scene(2)])
    np.save(tmp_path / "stack.npy", stack)
    how = ("--axes", "TYX", "--diameter", "none")
    assert run(model, tmp_path / "stack.npy", "-o", tmp_path, *how, "--csv") == 0
    labels = labels_of(tmp_path / "stack_labels.tif")
    segmenter = Segmenter.from_pretrained(model, "cpu")
    for t, plane in enumerate(stack):
        alone = segmenter.predict(plane, diameter=None).labels()
        np.testing.assert_array_equal(labels[t] > 0, alone > 0)
    rows = read_csv(tmp_path / "stack_cells.csv")
    counts = [sum(int(row["frame"]) == t for row in rows) for t in range(3)]
    assert counts == [int(plane.max()) for plane in labels]


def test_channels_are_chosen_by_number_and_all_are_measured(model: Path, tmp_path: Path) -> None:
    np.save(tmp_path / "two.npy", np.stack([np.zeros((SIDE, SIDE), np.uint16), scene(0)]))
    options = ("--axes", "CYX", "--channel", 1, "--csv")
    assert run(model, tmp_path / "two.npy", "-o", tmp_path / "out", *options) == 0
    np.save(tmp_path / "one.npy", scene(0))
    run(model, tmp_path / "one.npy", "-o", tmp_path / "out2", "--csv")
    two = labels_of(tmp_path / "out" / "two_labels.tif")
    np.testing.assert_array_equal(two, labels_of(tmp_path / "out2" / "one_labels.tif"))
    row = read_csv(tmp_path / "out" / "two_cells.csv")[0]
    assert float(row["intensity_mean-0"]) == 0
    same = read_csv(tmp_path / "out2" / "one_cells.csv")[0]
    assert row["intensity_mean-1"] == same["intensity_mean"]


def test_thresholds_on_the_command_line_win(model: Path, images: Path, tmp_path: Path) -> None:
    run(model, images / "a.png", "-o", tmp_path / "1", "--peak", 0.9999, "--fill", 0.9998)
    assert labels_of(tmp_path / "1" / "a_labels.tif").max() == 0
    run(model, images / "a.png", "-o", tmp_path / "2", "--min-area", 40)
    assert np.bincount(labels_of(tmp_path / "2" / "a_labels.tif").ravel())[1:].min() >= 40
    assert read_csv(tmp_path / "1" / "summary.csv")[0]["count"] == "0"


def test_a_result_of_another_input_does_not_count_as_finished(
    model: Path, images: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, other, moved = tmp_path / "out", tmp_path / "other", tmp_path / "moved"
    run(model, images / "a.png", "-o", out)
    other.mkdir()
    iio.imwrite(other / "a.png", scene(7))
    assert run(model, other / "a.png", "-o", out) == 2
    assert "is the result of" in capsys.readouterr().err
    assert run(model, other / "a.png", "-o", out, "--overwrite") == 0
    files = json.loads((out / "run.json").read_text())["files"]
    assert [Path(file["source"]).parent.name for file in files] == ["other"]
    other.rename(moved)
    assert run(model, moved / "a.png", "-o", out) == 0
    assert "finished before" in capsys.readouterr().err


def test_finished_files_are_skipped_and_missing_kinds_are_made(
    model: Path, images: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    run(model, images / "a.png", "-o", out)
    first = (out / "a_labels.tif").stat().st_mtime_ns
    assert run(model, images, "-o", out) == 0
    assert (out / "a_labels.tif").stat().st_mtime_ns == first
    assert len(read_csv(out / "summary.csv")) == 2
    assert run(model, images, "-o", out, "--csv") == 0
    assert (out / "a_cells.csv").exists()
    second = (out / "a_labels.tif").stat().st_mtime_ns
    assert run(model, images, "-o", out, "--csv", "--overwrite") == 0
    assert (out / "a_labels.tif").stat().st_mtime_ns > second


@pytest.mark.parametrize("extra", [[], ["--csv"]])
def test_results_of_two_settings_are_not_mixed(
    model: Path, images: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], extra: list[str]
) -> None:
    out = tmp_path / "out"
    run(model, images, "-o", out)
    before = (out / "a_labels.tif").read_bytes()
    other = ("--peak", 0.99, *extra)
    assert run(model, images, "-o", out, *other) == 2
    assert "other settings" in capsys.readouterr().err
    assert (out / "a_labels.tif").read_bytes() == before
    assert run(model, images, "-o", out, *other, "--overwrite") == 0
    assert json.loads((out / "run.json").read_text())["settings"]["peak"] == 0.99


def test_a_broken_file_does_not_stop_the_others(
    model: Path, images: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (images / "0 broken.png").write_bytes((images / "a.png").read_bytes()[:200])
    (images / "no image.tif").write_bytes(b"II*\0nonsense")
    np.save(images / "which axes.npy", np.zeros((3, SIDE, SIDE), np.uint8))
    out = tmp_path / "out"
    assert run(model, images, "-o", out) == 1
    assert {path.name for path in out.glob("*.tif")} == {"a_labels.tif", "b_labels.tif"}
    end = capsys.readouterr().err.strip().splitlines()[-3:]
    assert all(line.startswith("Failed: ") for line in end)
    assert "--axes" in end[-1]
    failed = json.loads((out / "run.json").read_text())["failed"]
    assert [Path(entry["source"]).name for entry in failed] == [
        "0 broken.png",
        "no image.tif",
        "which axes.npy",
    ]
    assert not [path for path in out.iterdir() if path.name.startswith(".")]


def test_an_image_that_cannot_be_segmented_does_not_harm_its_batch(
    model: Path, images: Path, tmp_path: Path
) -> None:
    """Small images share a batch; the one in the middle lacks the channel that was asked for."""
    tifffile.imwrite(images / "aa.tif", np.stack([scene(0)] * 2), metadata={"axes": "CYX"})
    out = tmp_path / "out"
    assert run(model, images, "-o", out) == 1
    assert {path.name for path in out.glob("*.tif")} == {"a_labels.tif", "b_labels.tif"}
    alone = tmp_path / "alone"
    run(model, images / "b.ome.tif", "-o", alone)
    np.testing.assert_array_equal(
        labels_of(out / "b_labels.tif"), labels_of(alone / "b_labels.tif")
    )


BAD_USAGE = {
    "no output": (["a.png"], "--output"),
    "no input": (["-o", "out"], "no input"),
    "absent input": (["absent.png", "-o", "out"], "absent.png"),
    "empty folder": (["empty", "-o", "out"], "no image"),
    "absent model": (["a.png", "-o", "out", "--model", "nothing"], "nothing"),
    "foreign model": (["a.png", "-o", "out", "--model", "a.png"], "a.png"),
    "absent device": (["a.png", "-o", "out", "--device", "cuda:77"], "cuda:77"),
    "wrong peak": (["a.png", "-o", "out", "--peak", "1.5"], "--peak"),
    "peak below fill": (["a.png", "-o", "out", "--peak", "0.2", "--fill", "0.3"], "peak must be"),
    "wrong diameter": (["a.png", "-o", "out", "--diameter", "big"], "--diameter"),
    "negative diameter": (["a.png", "-o", "out", "--diameter", "-3"], "--diameter"),
    "wrong pixel size": (["a.png", "-o", "out", "--pixel-size", "1,2,3"], "--pixel-size"),
    "wrong axes": (["a.png", "-o", "out", "--axes", "YQ"], "Q"),
    "wrong name": (["a.png", "-o", "out", "--name", "x"], "--name"),
    "over an input": (["c.tif", "-o", ".", "--name", "{stem}"], "replace an input"),
    "one stem twice": (["a.png", "sub/a.png", "-o", "out"], "both be written"),
    "output is a file": (["a.png", "-o", "c.tif"], "is a file"),
    "output below a file": (["a.png", "-o", "c.tif/out"], "c.tif"),
    "absent run file": (["--from-run", "run.json", "-o", "out"], "run.json"),
    "foreign run file": (["--from-run", "other.json", "-o", "out"], "other.json"),
    "unknown option": (["a.png", "-o", "out", "--pek", "0.5"], "--pek"),
    "fill below the floor": (["a.png", "-o", "out", "--fill", "0.001"], "--fill"),
    "no tiles": (["a.png", "-o", "out", "--batch", "0"], "--batch"),
    "one bad image": (["broken.png", "-o", "out"], "broken.png"),
}


@pytest.mark.parametrize(("arguments", "words"), BAD_USAGE.values(), ids=BAD_USAGE.keys())
def test_bad_usage_is_one_sentence_and_exit_code_2(
    model: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    words: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    for folder in ("empty", "sub"):
        Path(folder).mkdir()
    for name in ("a.png", "sub/a.png"):
        iio.imwrite(name, scene(0))
    tifffile.imwrite("c.tif", scene(0))
    Path("broken.png").write_bytes(b"\x89PNG\r\n")
    Path("other.json").write_text('{"peak": 1}')
    before = Path("c.tif").read_bytes()
    if "--model" not in arguments:
        arguments = [*arguments, "--model", str(model)]
    assert segment.main([*arguments, "--quiet"]) == 2
    shown = capsys.readouterr()
    assert words in shown.err
    assert "Traceback" not in shown.err
    assert shown.out == ""
    assert Path("c.tif").read_bytes() == before
    assert not list(tmp_path.rglob("*_labels.tif"))


def test_the_diameter_is_estimated_given_or_left(model: Path, images: Path, tmp_path: Path) -> None:
    expected = {(): "estimate", ("--diameter", "12"): "diameter", ("--diameter", "none"): "none"}
    for how, reason in expected.items():
        out = tmp_path / "_".join(("out", *how))
        assert run(model, images / "a.png", "-o", out, *how) == 0
        record = json.loads((out / "run.json").read_text())
        assert record["files"][0]["prediction"]["scaling"]["reason"] == reason
        assert run(model, "--from-run", out / "run.json", "-o", tmp_path / f"{out.name} again") == 0
        again = labels_of(tmp_path / f"{out.name} again" / "a_labels.tif")
        np.testing.assert_array_equal(again, labels_of(out / "a_labels.tif"))
    out = tmp_path / "out"
    assert run(model, images, "-o", out, "--diameter", "none") != 0, "two sizes in one folder"


def test_json_goes_to_stdout_alone_and_is_the_run_record(
    model: Path, images: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run(model, images, "-o", tmp_path / "out", "--json")
    shown = capsys.readouterr()
    assert json.loads(shown.out) == json.loads((tmp_path / "out" / "run.json").read_text())
    assert re.search(r"a\.png: \d+ cells (of about [\d.]+ px )?in ", shown.err)


def test_dry_run_lists_the_work_and_writes_nothing(
    model: Path, images: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    assert run(model, images, "-o", out, "--dry-run", "--csv", "--json") == 0
    jobs = json.loads(capsys.readouterr().out)["jobs"]
    assert [Path(job["outputs"][-1]).name for job in jobs] == ["a_labels.tif", "b_labels.tif"]
    assert not out.exists()


def test_a_path_that_is_not_ascii_works(model: Path, images: Path, tmp_path: Path) -> None:
    source = images / "Zellen µ 細胞.png"
    iio.imwrite(source, scene(0))
    assert run(model, source, "-o", tmp_path / "größe", "--csv", "--overlay") == 0
    assert (tmp_path / "größe" / "Zellen µ 細胞_labels.tif").exists()


def test_the_image_is_not_changed(model: Path, images: Path, tmp_path: Path) -> None:
    before = {path: path.read_bytes() for path in images.iterdir()}
    run(model, images, "-o", images, "--csv", "--overlay")
    assert {path: path.read_bytes() for path in before} == before


def shell(*arguments: object, **options: Any) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "napari_dinocell.core.segment", *map(str, arguments)]
    return subprocess.run(
        command, capture_output=True, text=True, timeout=300, check=False, **options
    )


def test_the_process_ends_with_the_exit_code(model: Path, images: Path, tmp_path: Path) -> None:
    (images / "broken.png").write_bytes(b"")
    done = shell(images, "-o", tmp_path, "--model", model, "--device", "cpu")
    assert done.returncode == 1
    assert done.stdout == ""
    assert "broken.png" in done.stderr.splitlines()[-1]


@pytest.mark.skipif(sys.platform == "win32", reason="limits on file sizes are POSIX")
def test_a_full_disk_leaves_no_half_written_file(model: Path, images: Path, tmp_path: Path) -> None:
    import resource  # noqa: PLC0415 - absent on Windows

    iio.imwrite(images / "large.png", scene(3, side=512))

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (40_000, 40_000))

    options = ("-o", tmp_path / "out", "--model", model, "--device", "cpu", "--overlay")
    done = shell(images, *options, preexec_fn=limit)
    assert done.returncode == 1
    assert "large_overlay.png cannot be written" in done.stderr
    assert "Traceback" not in done.stderr
    names = {path.name for path in (tmp_path / "out").iterdir()}
    assert "a_labels.tif" in names
    assert not [name for name in names if "large" in name or name.startswith(".")]


@pytest.mark.skipif(sys.platform == "win32", reason="signals are POSIX")
def test_ctrl_c_keeps_finished_files_and_ends_with_130(model: Path, tmp_path: Path) -> None:
    for index in range(60):
        np.save(tmp_path / f"{index:02}.npy", scene(index, side=256))
    out = tmp_path / "out"
    command = [sys.executable, "-m", "napari_dinocell.core.segment", str(tmp_path)]
    command += ["-o", str(out), "--model", str(model), "--device", "cpu", "--overlay"]

    def listen() -> None:
        # A test run in the background ignores Ctrl-C, and its children inherit that.
        signal.signal(signal.SIGINT, signal.SIG_DFL)

    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, preexec_fn=listen) as process:
        assert process.stderr is not None
        for line in process.stderr:
            if line.startswith("[2/60]"):
                process.send_signal(signal.SIGINT)
                break
        rest = process.stderr.read()
        assert process.wait(timeout=120) == 130
    assert "Interrupted" in rest
    assert "Traceback" not in rest
    finished = {path.name for path in out.glob("*_labels.tif")}
    assert 2 <= len(finished) < 60
    for name in finished:
        assert labels_of(out / name).shape == (256, 256)
    record = json.loads((out / "run.json").read_text())
    assert {file["outputs"][-1] for file in record["files"]} == finished
    assert not [path.name for path in out.iterdir() if path.name.startswith(".")]


def test_images_of_every_dtype_are_segmented_alike(model: Path, tmp_path: Path) -> None:
    """12 bits in any integer or float type of any byte order are one and the same image."""
    plane = scene(0)
    for dtype in ("u2", ">u2", "i4", ">f4", "f8", "u4"):
        name = dtype.replace(">", "big")
        np.save(tmp_path / f"{name}.npy", plane.astype(dtype))
    assert run(model, tmp_path, "-o", tmp_path / "out") == 0
    results = [labels_of(path) for path in sorted((tmp_path / "out").glob("*.tif"))]
    assert len(results) == 6
    assert all(np.array_equal(result, results[0]) for result in results)
    assert results[0].max() > 0
