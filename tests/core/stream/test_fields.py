import shutil

import numpy as np
import pytest
import tifffile

from napari_dinocell.core.stream.fetch import BrokenObjectError, Fetcher
from napari_dinocell.core.stream.fields import FieldReader
from napari_dinocell.core.stream.records import FieldRecord
from napari_dinocell.core.stream.stores import Stores

from .plates import plane, record, write_plate


@pytest.fixture
def reader():
    reader = FieldReader(Fetcher(Stores()), n_threads=4, memory_bytes=10**6)
    yield reader
    reader.close()


def test_channels_are_stacked_in_the_order_of_the_record_with_16_bits(reader, tmp_path):
    manifest = write_plate(tmp_path, 2)
    for n, row in enumerate(manifest):
        field = reader.read(row)
        assert field.channels.dtype == np.uint16
        np.testing.assert_array_equal(field.channels, [plane(n, 0), plane(n, 1)])
        for channel, range_ in zip(field.channels, field.ranges, strict=True):
            assert range_.low == pytest.approx(np.percentile(channel, 1.0), abs=1)


def test_a_field_read_again_comes_from_memory(reader, tmp_path):
    row = write_plate(tmp_path, 1)[0]
    first = reader.read(row)
    shutil.rmtree(tmp_path)
    assert reader.read(row) is first
    assert reader.fetcher.counters["memory_hits"] == 1


def test_files_of_several_channels_and_types_are_joined_without_loss(reader, tmp_path):
    color = np.stack([plane(0, c) // 32 for c in range(3)]).astype(np.uint8)
    elevation = (plane(0, 3) / np.float32(7)).astype(np.float32)
    tifffile.imwrite(tmp_path / "rgb.tif", np.moveaxis(color, 0, -1).copy(), photometric="rgb")
    tifffile.imwrite(tmp_path / "dem.tif", elevation)
    addresses = (str(tmp_path / "rgb.tif"), str(tmp_path / "dem.tif"))
    row = FieldRecord("", "", "map", "", "1", ("R", "G", "B", "height"), addresses)
    field = reader.read(row)
    np.testing.assert_array_equal(field.channels[:3], color)
    np.testing.assert_array_equal(field.channels[3], elevation)


def break_size(folder):
    tifffile.imwrite(folder / "P0" / "0 RNA.tif", plane(0, 1, 32))


def break_planes(folder):
    tifffile.imwrite(folder / "P0" / "0 RNA.tif", np.stack([plane(0, 1)] * 2))


def break_content(folder):
    noise = np.random.default_rng(0).poisson(500, (64, 64)).astype(np.uint16)
    for channel in ("DNA", "RNA"):
        tifffile.imwrite(folder / "P0" / f"0 {channel}.tif", noise)


def break_file(folder):
    (folder / "P0" / "0 RNA.tif").unlink()


@pytest.mark.parametrize(
    ("damage", "kind"),
    [
        (break_size, "shape"),
        (break_planes, "shape"),
        (break_content, "empty"),
        (break_file, "not found"),
    ],
)
def test_a_field_that_cannot_be_used_is_refused_by_name(reader, tmp_path, damage, kind):
    write_plate(tmp_path, 1)
    damage(tmp_path)
    with pytest.raises(BrokenObjectError) as caught:
        reader.read(record(0, str(tmp_path)))
    assert caught.value.kind == kind
    assert "0" in str(caught.value)


def test_one_channel_without_contrast_is_no_reason_to_drop_the_field(reader, tmp_path):
    write_plate(tmp_path, 1)
    noise = np.random.default_rng(0).poisson(500, (64, 64)).astype(np.uint16)
    tifffile.imwrite(tmp_path / "P0" / "0 RNA.tif", noise)
    field = reader.read(record(0, str(tmp_path)))
    assert [r.is_empty for r in field.ranges] == [False, True]
