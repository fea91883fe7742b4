"""Everything odd that a folder of images may hold, in one run of the command."""

import json
from pathlib import Path
from typing import Any

import imageio.v3 as iio
import numpy as np
import numpy.typing as npt
import pytest
import tifffile
from test_segment import SIDE, make_model, scene

from napari_dinocell.core import segment

RNG = np.random.default_rng(0)
PLANE = scene(0)
FLOATS = PLANE.astype(np.float64)


def with_values(*values: float) -> npt.NDArray[np.float64]:
    """The scene with a few pixels of its dark corner replaced."""
    plane = FLOATS.copy()
    plane[: len(values), 0] = values
    return plane


def one_bright_pixel() -> npt.NDArray[np.uint8]:
    plane = np.zeros((SIDE, SIDE), np.uint8)
    plane[30, 30] = 255
    return plane


SAME = {  # The pixels of the scene, in other words.
    "big endian": PLANE.astype(">u2"),
    "uint32": PLANE.astype(np.uint32),
    "float64": FLOATS,
    "negative": FLOATS - 5000,
    "huge": FLOATS * 1e30,
}
CELLS = {  # Something is found, whatever.
    "nan": with_values(np.nan, np.nan),
    "infinite": with_values(np.inf, -np.inf),
    "bool": PLANE > 2000,
    "odd size": PLANE[:61, :53],
}
NOTHING = {  # No contrast, no cells.
    "all nan": np.full((SIDE, SIDE), np.nan),
    "zero": np.zeros((SIDE, SIDE), np.uint8),
    "constant": np.full((SIDE, SIDE), 40000, np.uint16),
    "noise": RNG.normal(100, 10, (SIDE, SIDE)),
    "bright pixel": one_bright_pixel(),
    "1x1": np.uint8([[7]]),
    "7x3": RNG.integers(0, 255, (7, 3), np.uint8),
}
REFUSED = {
    "5-D": (np.zeros((2, 2, 2, SIDE, SIDE), np.uint8), "--axes TZCYX"),
    "6-D": (np.zeros((2, 2, 2, 2, SIDE, SIDE), np.uint8), "is not that of an image"),
    "three channels": (np.stack([PLANE] * 3), "--axes CYX"),
    "three last": (np.stack([PLANE] * 3, -1), "--axes YXS or --axes YXC"),
    "complex": (FLOATS + 1j, "magnitude"),
    "no pixels": (np.zeros((0, 5)), "is empty"),
    "text": (np.array([["a", "b"]]), "not supported"),
}
BROKEN = {
    "corrupt.tif": b"II*\0" + bytes(range(256)),
    "not a picture.png": b"hello",
    "nothing.tif": b"",
    "zip.npy": b"PK\x03\x04",
}


def write(folder: Path, kinds: dict[str, npt.NDArray[Any]]) -> None:
    for name, array in kinds.items():
        np.save(folder / f"{name}.npy", array)


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, int, dict[str, Any], str]:
    """The output folder, the exit code, the record and what was said on stderr."""
    folder = tmp_path_factory.mktemp("odd")
    model = make_model(tmp_path_factory.mktemp("model") / "tiny.safetensors")
    np.save(folder / "reference.npy", PLANE)
    for kinds in (SAME, CELLS, NOTHING):
        write(folder, kinds)
    write(folder, {name: array for name, (array, _) in REFUSED.items()})
    for name, content in BROKEN.items():
        (folder / name).write_bytes(content)
    tifffile.imwrite(folder / "µ 細胞.tif", PLANE)
    gray = (PLANE // 20).astype(np.uint8)
    iio.imwrite(folder / "gray.png", gray)
    iio.imwrite(folder / "rgba.png", np.dstack([gray] * 3 + [np.full_like(gray, 255)]))
    iio.imwrite(folder / "whole.png", gray)
    (folder / "cut short.png").write_bytes((folder / "whole.png").read_bytes()[:-200])
    out = folder / "out"
    arguments = [folder, "-o", out, "--csv", "--overlay", "--model", model, "--device", "cpu"]
    with pytest.MonkeyPatch.context() as patch:
        said: list[str] = []
        patch.setattr("sys.stderr", _Listener(said))
        code = segment.main([*map(str, arguments)])
    return out, code, json.loads((out / "run.json").read_text()), "".join(said)


class _Listener:
    """A stderr that is read afterwards; capsys does not reach into a fixture of the module."""

    def __init__(self, said: list[str]) -> None:
        self.write = said.append

    def flush(self) -> None: ...

    def isatty(self) -> bool:
        return False


def labels(out: Path, name: str) -> npt.NDArray[Any]:
    return np.asarray(tifffile.imread(out / f"{name}_labels.tif"))


def test_one_bad_image_costs_no_other_and_no_traceback_is_shown(results) -> None:
    out, code, record, said = results
    assert code == 1
    assert "Traceback" not in said
    assert "Warning" not in said
    good = {"reference", "µ 細胞", "gray", "rgba", "whole", *SAME, *CELLS, *NOTHING}
    assert {path.name.removesuffix("_labels.tif") for path in out.glob("*.tif")} == good
    assert len(record["files"]) == len(good)


@pytest.mark.parametrize("name", [*SAME, "µ 細胞"])
def test_the_same_pixels_in_another_type_give_the_same_cells(results, name: str) -> None:
    expected = labels(results[0], "reference")
    assert expected.max() > 1
    np.testing.assert_array_equal(labels(results[0], name), expected)


def test_gray_in_color_is_gray(results) -> None:
    np.testing.assert_array_equal(labels(results[0], "rgba"), labels(results[0], "gray"))


@pytest.mark.parametrize("name", CELLS)
def test_a_few_bad_values_and_odd_sizes_do_not_hide_the_cells(results, name: str) -> None:
    assert labels(results[0], name).shape == CELLS[name].shape
    assert labels(results[0], name).max() > 0


@pytest.mark.parametrize("name", NOTHING)
def test_where_nothing_is_nothing_is_found(results, name: str) -> None:
    assert labels(results[0], name).shape == NOTHING[name].shape
    assert labels(results[0], name).max() == 0
    assert "planes show no contrast" in results[3]


@pytest.mark.parametrize("name", [*REFUSED, *BROKEN, "cut short.png"])
def test_what_cannot_be_read_is_named_in_one_sentence(results, name: str) -> None:
    errors = {Path(entry["source"]).name: entry["error"] for entry in results[2]["failed"]}
    file = name if "." in name else f"{name}.npy"
    words = REFUSED[name][1] if name in REFUSED else Path(file).name
    assert words in errors[file]
    assert "\n" not in errors[file]
    assert "object at 0x" not in errors[file]
    assert "<_io" not in errors[file]
    assert errors[file].endswith(".")
