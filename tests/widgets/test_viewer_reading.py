"""24: an image that lies on disk in blocks that suit planes badly is told before the run."""

import dask.array as da
import numpy as np
import pytest
import zarr
from napari.layers import Image

from napari_dinocell.widgets.layers import layer_part
from napari_dinocell.widgets.reading import read_note, read_ratio

pytestmark = pytest.mark.qt

SHAPE = (50, 2000, 2000)  # 1.6 GB of 64 bits


def part_of(chunks, axes="ZYX", shape=SHAPE, dtype=np.float64, **part):
    lazy = da.zeros(shape, chunks=chunks, dtype=dtype)
    return layer_part(Image(lazy, contrast_limits=(0, 1), rgb=False), axes, **part)


@pytest.mark.parametrize(
    ("chunks", "times"),
    [
        ((1, 2000, 2000), 1),  # a block is a plane
        ((1, 512, 512), 1),  # blocks are tiles of planes
        ((50, 64, 64), 50),  # each plane needs all blocks, which no cache holds
        ((10, 64, 64), 10),
    ],
)
def test_24_blocks_that_suit_planes_badly_are_told(chunks, times):
    part = part_of(chunks)
    ratio, n_bytes = read_ratio(part)
    assert ratio == pytest.approx(times, rel=0.05)
    assert n_bytes == pytest.approx(times * np.prod(SHAPE) * 8, rel=0.05)
    note = read_note(part)
    assert ("blocks of 50 x 64 x 64 (ZYX), 50 times" in note) == (times == 50)
    assert bool(note) == (times > 1)


def test_24_what_is_small_or_asked_for_once_is_not_told():
    assert not read_note(part_of((50, 64, 64), shape=(50, 256, 256)))
    assert not read_note(part_of((50, 64, 64), planes={"Z": 3}, region=(slice(0, 99),) * 2))
    # A small window of each plane: the blocks of all planes stay in the cache.
    ratio, _ = read_ratio(part_of((50, 64, 64), region=(slice(0, 640), slice(0, 640))))
    assert ratio == pytest.approx(1)


def test_24_other_channels_in_a_block_count(tmp_path):
    ratio, _ = read_ratio(part_of((4, 1, 64, 64), axes="CZYX", shape=(4, 2, 640, 640)))
    assert ratio == pytest.approx(4)
    plane = zarr.create_array(tmp_path / "a.zarr", shape=(300, 300), chunks=(100, 300), dtype="u2")
    assert read_ratio(layer_part(Image(plane, contrast_limits=(0, 1)), "YX"))[0] == 1
    assert read_ratio(layer_part(Image(np.zeros((9, 9))), "YX")) == (1.0, 0)


def test_24_the_panel_says_it_before_the_run(make_panel, wait):
    lazy = da.zeros(SHAPE, chunks=(50, 64, 64))
    viewer, panel = make_panel()
    viewer.add_image(lazy, axis_labels=("z", "y", "x"), contrast_limits=(0, 1))
    wait(panel.button.isEnabled)
    assert "⚠ Slow to read" in panel.status.text()
    assert panel.button.isEnabled()
