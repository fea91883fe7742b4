import csv
import os
from pathlib import Path

import numpy as np
import pytest
import tifffile
from imageio.v3 import imwrite

from napari_dinocell.core.pretrain.config import DataSettings
from napari_dinocell.core.pretrain.sources import open_fields, plane_count
from napari_dinocell.core.stream.manifest import Manifest

from .conftest import write_fields


def opened(*sources, **settings):
    settings = {"axes": "CYX", **settings}
    return open_fields(DataSettings(sources=tuple(map(str, sources)), **settings))


def test_every_tiff_of_a_folder_is_a_field_and_its_folder_the_plate(fields):
    training, held_out = opened(fields, held_out=0)
    assert held_out is None
    assert len(training) == 8
    assert {r.plate for r in training} == {f"plate{i}" for i in range(4)}
    assert {r.channels for r in training} == {("1", "2", "3")}


def test_whole_plates_are_held_out_and_more_plates_move_none(fields, tmp_path):
    training, held_out = opened(fields, held_out=0.5, split_seed=3)
    plates = [{r.plate for r in part} for part in (training, held_out)]
    assert not plates[0] & plates[1]
    assert plates[0] | plates[1] == {f"plate{i}" for i in range(4)}
    more = tmp_path / "more" / "fields"
    write_fields(more)
    os.rename(more / "plate0", more / "another")
    _, again = opened(more, held_out=0.5, split_seed=3)
    assert {r.plate for r in again} - {"another"} == plates[1] - {"plate0"}


def test_a_source_can_be_held_out_as_a_whole(fields, tmp_path):
    write_fields(tmp_path / "elsewhere")
    training, held_out = opened(
        fields, tmp_path / "elsewhere", held_out=0, held_out_sources=("elsewhere",)
    )
    assert {r.source for r in training} == {"fields"}
    assert {r.source for r in held_out} == {"elsewhere"}
    with pytest.raises(ValueError, match="No field is from nowhere"):
        opened(fields, held_out_sources=("nowhere",))


def test_an_index_names_channels_groups_and_splits(fields):
    rows = [
        ("plate0/field0.tif", "DNA|ER|Brightfield", "g0", "train", "0.5", "yes"),
        ("plate1/field1.tif", "DNA|ER|Brightfield", "g1", "val", "", "yes"),
        ("plate2/field2.tif", "DNA|ER|Brightfield", "g2", "train", "", "no"),
    ]
    with (fields / "index.csv").open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream)
        names = ("path", "channels", "group", "split", "pixel_size_um", "train_allowed")
        writer.writerows([names, *rows])
    training, held_out = opened(fields)
    (one,), (other,) = training, held_out
    assert one.channels == ("DNA", "ER", "Brightfield")
    assert one.kinds == ("fluorescence", "fluorescence", "brightfield")
    assert (one.plate, one.pixel_size_um) == ("g0", 0.5)
    assert (other.plate, other.pixel_size_um) == ("g1", None)


def test_labeled_images_are_fields_of_one_channel_or_of_color(tmp_path):
    rng = np.random.default_rng(0)
    for folder in ("images", "labels"):
        (tmp_path / "set" / folder).mkdir(parents=True)
    for name, shape in (("gray", (40, 50)), ("color", (40, 50, 3))):
        imwrite(
            tmp_path / "set" / "images" / f"{name}.png",
            rng.integers(255, size=shape, dtype=np.uint8),
        )
        imwrite(tmp_path / "set" / "labels" / f"{name}.png", np.eye(40, 50, dtype=np.uint8))
    training, _ = opened(tmp_path / "set", held_out=0)
    channels = {Path(r.addresses[0]).stem: r.channels for r in training}
    assert channels["gray"] == ("channel 0",)
    assert channels["color"] == ("color red", "color green", "color blue")


def test_a_manifest_alone_is_split_as_the_folder_that_it_lists(fields, tmp_path):
    everything, _ = opened(fields, held_out=0)
    everything.write(tmp_path / "manifest.parquet")
    options = {"held_out": 0.5, "split_seed": 3, "moved": {str(fields): "s3://bucket"}}
    for one, other in zip(
        opened(fields, **options), opened(tmp_path / "manifest.parquet", **options), strict=True
    ):
        assert list(one) == list(other)
        assert one.sha256 == other.sha256
    with pytest.raises(ValueError, match="No field is from nowhere"):
        opened(tmp_path / "manifest.parquet", held_out_sources=("nowhere",))
    with pytest.raises(ValueError, match="left to train on"):
        opened(tmp_path / "manifest.parquet", held_out_sources=("fields",))


def test_a_manifest_and_a_folder_can_be_mixed_and_addresses_moved(fields, tmp_path):
    training, _ = opened(fields, held_out=0)
    training.write(tmp_path / "manifest.parquet")
    write_fields(tmp_path / "other", n=2)
    moved = {str(fields): "s3://bucket/fields"}
    mixed, _ = opened(tmp_path / "manifest.parquet", tmp_path / "other", held_out=0, moved=moved)
    assert len(mixed) == 10
    addresses = [r.addresses[0] for r in mixed if r.source == "fields"]
    assert all(a.startswith("s3://bucket/fields/plate") for a in addresses)
    moved_back = Manifest(r for r in mixed if r.source == "fields")
    assert moved_back.sha256 == training.sha256


def test_fields_with_nothing_but_left_out_channels_are_not_drawn(fields):
    with pytest.raises(ValueError, match="left to train on"):
        opened(fields, held_out=0, left_out=("1", "2", "3"))
    training, _ = opened(fields, held_out=0, left_out=("1",))
    assert len(training) == 8


def test_axes_are_never_guessed(fields):
    with pytest.raises(ValueError, match=r"data\.axes=CYX"):
        opened(fields, axes=None)


@pytest.mark.parametrize("name", ["empty", "absent"])
def test_a_source_with_nothing_is_one_sentence(tmp_path, name):
    (tmp_path / "empty").mkdir()
    with pytest.raises((ValueError, FileNotFoundError), match=name):
        opened(tmp_path / name)


def test_planes_are_counted_from_the_header(tmp_path):
    cases = {
        "stack.tif": (np.zeros((4, 20, 30), np.uint16), {"photometric": "minisblack"}, 4),
        "plane.tif": (np.zeros((20, 30), np.uint8), {}, 1),
        "color.tif": (np.zeros((20, 30, 3), np.uint8), {"photometric": "rgb"}, 3),
    }
    for name, (pixels, options, n) in cases.items():
        tifffile.imwrite(tmp_path / name, pixels, **options)
        assert plane_count(tmp_path / name) == n


@pytest.mark.shared
def test_real_fields_of_many_laboratories_are_opened():
    data = os.environ.get("DINOCELL_DATA")
    if data is None:
        pytest.skip("DINOCELL_DATA does not name the folder of real images.")
    training, held_out = opened(Path(data) / "multichannel")
    assert len(training) + len(held_out) == 57
    assert {len(r.channels) for r in training} >= {2, 3, 5}
    groups = [{r.plate for r in part} for part in (training, held_out)]
    assert not groups[0] & groups[1]
