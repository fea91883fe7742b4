"""Labeled images, their decoding, and the data set with its cache."""

from __future__ import annotations

import pickle
from dataclasses import replace

import numpy as np
import pytest
import tifffile
from hypothesis import given, settings
from hypothesis import strategies as st

from napari_dinocell.core.errors import ImageFileError
from napari_dinocell.core.training.data import ByteCache, LabeledDataset, LabeledImage
from napari_dinocell.core.training.decode import read_labels, read_plane


@settings(deadline=None, max_examples=60)
@given(st.lists(st.integers(0, 9), min_size=1), st.integers(0, 40))
def test_cache_holds_the_most_recent_values_that_fit(keys, bound):
    cache = ByteCache(bound)
    held: list[int] = []
    for key in keys:
        built = []
        assert cache.get(key, lambda k=key, b=built: (b.append(k) or k * 10, k)) == key * 10
        assert bool(built) == (key not in held)
        held = [k for k in held if k != key] + [key]
        while sum(held) > bound and len(held) > 1:
            held.pop(0)
        assert cache.n_bytes == sum(held)


def test_cache_drops_the_value_that_was_not_used_for_longest():
    cache = ByteCache(20)
    for key in ("a", "b", "a", "c"):
        cache.get(key, lambda k=key: (k, 10))
    assert cache.get("a", lambda: ("rebuilt", 10)) == "a"
    assert cache.get("b", lambda: ("rebuilt", 10)) == "rebuilt"


def test_pickled_data_set_leaves_decoded_pixels_behind(specimen):
    dataset = specimen.dataset(1)
    dataset.cache.get(0, lambda: (np.zeros(1 << 20), 1 << 23))
    copy = pickle.loads(pickle.dumps(dataset))
    assert len(pickle.dumps(dataset)) < 1 << 16
    assert copy.cache.n_bytes == 0
    np.testing.assert_array_equal(copy.read(0)[1], dataset.read(0)[1])


@pytest.mark.parametrize("weights", [{"a": 1.0, "b": 3.0}, {"a": 0.0, "b": 2.0}])
def test_sets_are_drawn_in_proportion_to_their_weights(tmp_path, weights):
    dataset = _mixture(tmp_path, weights)
    share = sum(p for p, i in zip(dataset.probabilities, dataset, strict=True) if i.set_name == "a")
    assert share == pytest.approx(weights["a"] / sum(weights.values()))
    assert dataset.probabilities.sum() == pytest.approx(1)


def test_sets_without_weights_count_as_the_root_of_their_number_of_images(tmp_path):
    dataset = _mixture(tmp_path, None)
    assert dataset.set_weights == {"a": 3.0, "b": 2.0}


def test_images_with_four_times_the_instances_are_drawn_twice_as_often(tmp_path):
    few = LabeledImage("a", "few", tmp_path / "few.png", tmp_path / "l.png", n_instances=4)
    dataset = LabeledDataset([few, replace(few, n_instances=16)])
    assert dataset.probabilities[1] == pytest.approx(2 * dataset.probabilities[0])


def test_subset_keeps_the_weights_of_the_sets(tmp_path):
    subset = _mixture(tmp_path, {"a": 1.0, "b": 3.0}).subset([0, 1, 9])
    assert subset.set_weights == {"a": 1.0, "b": 3.0}
    assert len(subset) == 3


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        ({"c": 1.0}, r"name c, but the sets are a, b"),
        ({"a": -1.0}, r"below 0"),
        ({"a": 0.0, "b": 0.0}, r"at least one above"),
    ],
)
def test_impossible_weights_are_refused(tmp_path, weights, message):
    with pytest.raises(ValueError, match=message):
        _mixture(tmp_path, weights)


def test_no_images_and_weights_of_zero_are_refused(tmp_path):
    with pytest.raises(ValueError, match="no labeled images"):
        LabeledDataset([])
    with pytest.raises(ValueError, match="weights must be positive"):
        LabeledImage("a", "g", tmp_path / "a.png", tmp_path / "b.png", weight=0)


@pytest.mark.parametrize("suffix", [".png", ".tif"])
def test_sixteen_bits_survive(specimen, suffix):
    ramp = np.arange(64 * 64, dtype=np.uint16).reshape(64, 64) * 16 + 1
    plane = read_plane(specimen.write(f"ramp{suffix}", ramp))
    assert plane.dtype == np.uint16
    np.testing.assert_array_equal(plane, ramp)


def test_sixteen_bit_color_survives(specimen):
    color = np.arange(8 * 8 * 3, dtype=np.uint16).reshape(8, 8, 3) * 300
    np.testing.assert_array_equal(read_plane(specimen.write("color.tif", color)), color)


def test_color_with_equal_channels_is_gray_and_alpha_is_dropped(specimen):
    gray = np.arange(64, dtype=np.uint8).reshape(8, 8)
    as_color = np.stack([gray] * 3, axis=-1)
    np.testing.assert_array_equal(read_plane(specimen.write("rgb.png", as_color)), gray)
    rgba = np.dstack([gray, gray + 1, gray + 2, np.full_like(gray, 255)])
    np.testing.assert_array_equal(read_plane(specimen.write("a.png", rgba)), rgba[..., :3])


def test_channel_stack_of_two_becomes_color_with_an_empty_third(specimen):
    stack = np.arange(2 * 8 * 9, dtype=np.uint16).reshape(2, 8, 9)
    plane = read_plane(specimen.write("stack.tif", stack), axes="CYX")
    np.testing.assert_array_equal(np.moveaxis(plane[..., :2], 2, 0), stack)
    assert not plane[..., 2].any()


def test_stack_of_planes_is_refused_with_what_to_do(specimen):
    path = specimen.folder / "stack.tif"
    tifffile.imwrite(path, np.zeros((5, 8, 9), np.uint8), metadata={"axes": "ZYX"}, imagej=True)
    with pytest.raises(ImageFileError, match="one plane per file"):
        read_plane(path)


def test_labels_of_any_integer_type_keep_their_ids(specimen):
    labels = np.array([[0, 7], [65536, 2147483647]], np.uint32)
    read = read_labels(specimen.write("labels.tif", labels))
    assert read.dtype == np.int32
    np.testing.assert_array_equal(read, labels)


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (np.array([[0.0, 1.5]], np.float32), "dtype float32"),
        (np.array([[-1, 2]], np.int16), "ids from -1 to 2"),
        (np.array([[0, 1 << 31]], np.uint32), "ids from 0 to 2147483648"),
        (np.random.default_rng(0).integers(0, 9, (4, 4, 3)).astype(np.uint8), "one plane"),
    ],
)
def test_labels_that_are_none_are_refused(specimen, labels, message):
    with pytest.raises(ImageFileError, match=message):
        read_labels(specimen.write("labels.tif", labels))


def test_image_and_labels_of_two_sizes_are_refused(specimen):
    item = specimen.item("a", np.zeros((8, 9), np.uint8), np.zeros((9, 8), np.int32))
    with pytest.raises(ImageFileError, match="8 x 9 px, but its labels are 9 x 8"):
        LabeledDataset([item]).read(0)


def test_absent_image_is_named(specimen):
    item = specimen.item("a", np.zeros((8, 9), np.uint8), np.zeros((8, 9), np.int32))
    item.image.unlink()
    with pytest.raises(FileNotFoundError, match=r"a\.tif"):
        LabeledDataset([item]).read(0)


def _mixture(folder, weights):
    images = [
        LabeledImage(name, f"{name}{i}", folder / f"{name}{i}.png", folder / "labels.png")
        for name, n in (("a", 9), ("b", 4))
        for i in range(n)
    ]
    return LabeledDataset(images, weights)
