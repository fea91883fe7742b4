"""The segment command with `--link`: one id per cell in files of every kind."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest
import tifffile
import torch
from test_segment import labels_of, make_model, run, scene

from napari_dinocell.core.link import link


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_model(tmp_path_factory.mktemp("model") / "tiny.safetensors")


@pytest.fixture
def stack(tmp_path: Path) -> Path:
    """Four planes of other cells, then the last one again."""
    planes = [scene(seed) for seed in (0, 1, 2, 2)]
    path = tmp_path / "stack.ome.tif"
    tifffile.imwrite(path, np.stack(planes), metadata={"axes": "TYX"})
    return path


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as stream:
        return list(csv.DictReader(stream))


def test_linked_labels_are_those_of_the_planes_linked_afterwards(
    model: Path, stack: Path, tmp_path: Path
) -> None:
    run(model, stack, "-o", tmp_path / "alone")
    assert run(model, stack, "-o", tmp_path / "out", "--link", "t", "--csv", "--rois") == 0
    alone = labels_of(tmp_path / "alone" / "stack_labels.tif")
    linked = labels_of(tmp_path / "out" / "stack_labels.tif")
    expected = link(alone, "TYX", "t")
    np.testing.assert_array_equal(linked, expected.labels)
    np.testing.assert_array_equal(linked[2], linked[3])
    record = json.loads((tmp_path / "out" / "run.json").read_text())
    assert record["files"][0]["count"] == expected.count
    assert record["settings"]["link"] == "t"
    assert rows(tmp_path / "out" / "summary.csv")[0]["count"] == str(expected.count)


def test_every_row_of_the_table_describes_the_cell_of_its_id_and_frame(
    model: Path, stack: Path, tmp_path: Path
) -> None:
    options = ("--link", "t", "--link-gap", 1, "--link-overlap", 0.2)
    assert run(model, stack, "-o", tmp_path / "out", "--csv", *options) == 0
    labels = labels_of(tmp_path / "out" / "stack_labels.tif")
    table = rows(tmp_path / "out" / "stack_cells.csv")
    assert len(table) == sum(len(np.unique(plane[plane > 0])) for plane in labels)
    for row in table:
        area = np.count_nonzero(labels[int(row["frame"])] == int(row["label"]))
        assert area == int(row["area"]) > 0


def test_a_run_file_links_again(model: Path, stack: Path, tmp_path: Path) -> None:
    run(model, stack, "-o", tmp_path / "1", "--link", "t", "--link-gap", 2)
    assert run(model, "--from-run", tmp_path / "1", "-o", tmp_path / "2") == 0
    first, second = (labels_of(tmp_path / n / "stack_labels.tif") for n in "12")
    np.testing.assert_array_equal(first, second)


def test_an_image_without_the_axis_fails_with_a_sentence_before_the_network_sees_it(
    model: Path, stack: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    seen: list[str] = []

    def see(module: torch.nn.Module, inputs: object, output: object) -> None:
        seen.append(type(module).__name__)

    watch = torch.nn.modules.module.register_module_forward_hook(see)
    try:
        assert run(model, stack, "-o", tmp_path / "out", "--link", "z") == 2
        assert "cannot be linked along Z" in capsys.readouterr().err
        assert not (tmp_path / "out" / "stack_labels.tif").exists()
        assert seen == []
        # The same watch sees the network where the axis is there.
        assert run(model, stack, "-o", tmp_path / "out", "--link", "t") == 0
        assert seen
    finally:
        watch.remove()


def test_images_beside_one_without_the_axis_are_linked_all_the_same(
    model: Path, stack: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    plane = tmp_path / "plane.npy"
    np.save(plane, scene(0))
    assert run(model, stack, plane, "-o", tmp_path / "out", "--link", "t") == 1
    assert "Labels with the axes YX cannot be linked along T" in capsys.readouterr().err
    assert sorted(path.name for path in (tmp_path / "out").glob("*_labels.tif")) == [
        "stack_labels.tif"
    ]


@pytest.mark.parametrize("options", [("--link", "x"), ("--link-gap", 1), ("--link-overlap", 0.5)])
def test_what_is_no_link_is_refused_before_the_first_image(
    model: Path, stack: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], options: tuple
) -> None:
    assert run(model, stack, "-o", tmp_path / "out", *options) == 2
    assert "--link" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
