"""No image is in two splits, and shipped models learned only from what they may learn from."""

import csv
import hashlib
import os
import re
from collections.abc import Iterator
from pathlib import Path

import imageio.v3 as iio
import numpy as np
import pytest
from PIL import Image
from scipy import ndimage

from napari_dinocell.core.model.files import bundled_models, read_card

ROOT = Path(__file__).resolve().parent.parent
SIDE = 32
ANGLES = (-4, -2, 0, 2, 4)
SAME = 0.9
"""Correlation from which two thumbnails are of one image; unrelated images reach 0.76."""


def index_of(folder: Path) -> list[dict[str, str]]:
    with (folder / "index.csv").open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def thumbnail(pixels: np.ndarray, side: int) -> np.ndarray:
    gray = pixels.astype(np.float32)
    gray = gray.mean(axis=2) if gray.ndim == 3 else gray
    return np.asarray(Image.fromarray(gray).resize((side, side), Image.Resampling.BOX))


def unit(thumbnails: np.ndarray) -> np.ndarray:
    """(n, SIDE * SIDE) of mean 0 and length 1."""
    flat = thumbnails.reshape(len(thumbnails), -1)
    flat = flat - flat.mean(axis=1, keepdims=True)
    return flat / np.maximum(np.linalg.norm(flat, axis=1, keepdims=True), 1e-9)


def turned(large: np.ndarray) -> Iterator[np.ndarray]:
    """Thumbnails (n, SIDE, SIDE) of flips, right angles and small angles of (n, 2 SIDE, 2 SIDE)."""
    for angle in ANGLES:
        tilted = ndimage.rotate(large, angle, (1, 2), reshape=False, order=1, mode="reflect")
        small = tilted.reshape(len(large), SIDE, 2, SIDE, 2).mean(axis=(2, 4))
        for quarter in range(4):
            upright = np.rot90(small, quarter, axes=(1, 2))
            yield from (upright, upright[:, :, ::-1])


def leaks(folder: Path) -> list[tuple[str, str]]:
    """Pairs of images of different splits that are the same image, maybe turned or brightened."""
    rows = index_of(folder)
    hashes, large = [], []
    for row in rows:
        pixels = np.ascontiguousarray(iio.imread(folder / row["image"]))
        shape = f"{pixels.dtype}{pixels.shape}".encode()
        hashes.append(hashlib.sha256(shape + pixels.tobytes()).digest())
        large.append(thumbnail(pixels, 2 * SIDE))
    stack = np.stack(large)
    upright = unit(stack.reshape(len(rows), SIDE, 2, SIDE, 2).mean(axis=(2, 4)))
    alike = np.equal.outer(hashes, hashes)
    for version in turned(stack):
        alike |= upright @ unit(version).T > SAME
    splits = np.array([row["split"] for row in rows])
    found = np.argwhere(alike & (splits[:, np.newaxis] != splits))
    return sorted({tuple(sorted((rows[i]["image"], rows[j]["image"]))) for i, j in found})


def texture(seed: int, shape: tuple[int, ...] = (96, 130)) -> np.ndarray:
    noise = np.random.default_rng(seed).normal(size=shape)
    smooth = ndimage.gaussian_filter(noise, (4, 4, 0)[: len(shape)])
    return np.round(127 + 60 * smooth / smooth.std()).clip(0, 255).astype(np.uint8)


def write_index(folder: Path, images: dict[str, np.ndarray]) -> Path:
    """`images` by path; the split is the first folder of it."""
    lines = ["set,split,image"]
    for name, pixels in images.items():
        (folder / name).parent.mkdir(exist_ok=True)
        iio.imwrite(folder / name, pixels)
        lines.append(f"made_up,{name.split('/')[0]},{name}")
    (folder / "index.csv").write_text("\n".join(lines) + "\n")
    return folder


def clean() -> dict[str, np.ndarray]:
    return {
        "train/a.png": texture(0),
        "train/b.png": texture(1, (80, 80, 3)),
        "val/c.png": texture(2),
        "test/d.png": texture(3),
    }


COPIES = {
    "same pixels in another format": lambda x: x,
    "flipped": lambda x: x[:, ::-1],
    "upside down": lambda x: np.rot90(x, 2),
    "a quarter turn": lambda x: np.rot90(x),
    "tilted by 3 degrees": lambda x: ndimage.rotate(x, 3, reshape=False, order=1, mode="reflect"),
    "darker, 16 bits": lambda x: x.astype(np.uint16) * 20 + 100,
    "half the size": lambda x: x[::2, ::2],
}


def test_different_images_are_no_leak(tmp_path):
    assert leaks(write_index(tmp_path, clean())) == []


def test_a_copy_within_one_split_is_no_leak(tmp_path):
    assert leaks(write_index(tmp_path, clean() | {"val/again.png": texture(2)})) == []


@pytest.mark.parametrize("change", COPIES.values(), ids=COPIES.keys())
def test_a_planted_copy_in_another_split_is_found(tmp_path, change):
    copy = np.ascontiguousarray(change(texture(2)))
    folder = write_index(tmp_path, clean() | {"test/copy.tif": copy})
    assert leaks(folder) == [("test/copy.tif", "val/c.png")]


@pytest.mark.shared
@pytest.mark.slow
@pytest.mark.skipif("DINOCELL_DATA" not in os.environ, reason="DINOCELL_DATA names no data folder")
def test_no_image_of_the_data_folder_is_in_two_splits():
    folder = Path(os.environ["DINOCELL_DATA"])
    assert {row["split"] for row in index_of(folder)} >= {"train", "val", "test"}
    assert leaks(folder) == []


def documented_sets() -> dict[str, str]:
    """License by set, from the table of docs/data.md."""
    page = (ROOT / "docs" / "data.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| ([\w, ]+) \| [^|]+ \| ([^|]+) \|", page, re.MULTILINE)
    return {name: text for names, text in rows for name in names.split(", ") if name != "set"}


def refused(trained_on: tuple[str, ...]) -> list[str]:
    """Sets that are not in the documentation, or only for evaluation by it."""
    licenses = documented_sets()
    return [
        name for name in trained_on if "evaluation only" in licenses.get(name, "evaluation only")
    ]


def test_the_documentation_tells_sets_for_training_from_sets_for_evaluation():
    assert refused(("dsb2018_fluo", "ctc_fluo", "found_in_the_street")) == [
        "ctc_fluo",
        "found_in_the_street",
    ]


@pytest.mark.parametrize("model", bundled_models())
def test_shipped_models_were_trained_on_allowed_sets_and_name_their_licenses(model):
    card = read_card(model)
    assert card.data
    assert refused(card.data) == []
    assert set(card.data) <= set(card.licenses)


@pytest.mark.shared
@pytest.mark.skipif("DINOCELL_DATA" not in os.environ, reason="DINOCELL_DATA names no data folder")
def test_the_index_of_the_data_folder_and_the_documentation_allow_the_same_sets():
    allowed = {
        row["set"]: row["train_allowed"] for row in index_of(Path(os.environ["DINOCELL_DATA"]))
    }
    assert {name for name in allowed if refused((name,))} == {
        name for name, answer in allowed.items() if answer != "yes"
    }
