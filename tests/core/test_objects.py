"""Objects measured from the cells of their planes are what scikit-image measures in space."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from skimage.measure import regionprops_table

from napari_dinocell.core.measure import measure
from napari_dinocell.core.objects import measure_objects

stacks = arrays(np.int32, (3, 7, 8), elements=st.integers(0, 4))
VOXEL = (2.0, 0.5, 0.25)


def by_planes(labels, image, size=None):
    tables = []
    for z, plane in enumerate(labels):
        table = measure(plane, image[z], size)
        tables.append({"z": np.full(len(table["label"]), z), **table})
    return {name: np.concatenate([t[name] for t in tables]) for name in tables[0]}


@settings(deadline=None, max_examples=60)
@given(stacks, st.integers(0, 99))
def test_figures_are_those_of_the_object_in_space(labels, seed):
    image = np.random.default_rng(seed).normal(100, 20, labels.shape)
    found = measure_objects(by_planes(labels, image, VOXEL[1:]), VOXEL)
    names = ["label", "area", "centroid", "intensity_mean", "intensity_min", "intensity_max"]
    expected = regionprops_table(labels, image, properties=[*names, "intensity_std"])
    np.testing.assert_array_equal(found["label"], expected["label"])
    np.testing.assert_array_equal(found["volume"], expected["area"])
    for name in expected:
        if name not in ("label", "area"):
            np.testing.assert_allclose(found[name], expected[name], rtol=1e-6)
    in_um = regionprops_table(labels, spacing=VOXEL, properties=["area", "centroid"])
    np.testing.assert_allclose(found["volume_um3"], in_um["area"])
    for axis in range(3):
        np.testing.assert_allclose(found[f"centroid-{axis}_um"], in_um[f"centroid-{axis}"])
    for label, first, last, n in zip(
        *(found[name] for name in ("label", "z_first", "z_last", "n_planes")), strict=True
    ):
        there = np.flatnonzero((labels == label).any((1, 2)))
        assert (there[0], there[-1], len(there)) == (first, last, n)


def test_an_object_of_a_movie_has_a_row_in_each_frame():
    labels = np.zeros((2, 3, 6, 6), np.int32)
    labels[0, :2, 1:4, 1:4] = 5
    labels[1, 1:, 2:4, 2:6] = 5
    tables = []
    for frame, stack in enumerate(labels):
        table = by_planes(stack, np.ones(stack.shape))
        tables.append({"frame": np.full(len(table["label"]), frame), **table})
    whole = {name: np.concatenate([t[name] for t in tables]) for name in tables[0]}
    found = measure_objects(whole)
    assert found["frame"].tolist() == [0, 1]
    assert found["label"].tolist() == [5, 5]
    assert found["volume"].tolist() == [18, 16]
    assert found["area_max"].tolist() == [9, 8]
    assert "volume_um3" not in found


def test_without_planes_or_with_an_impossible_voxel_it_is_one_sentence():
    plane = measure(np.ones((3, 3), int))
    with pytest.raises(ValueError, match="no column z"):
        measure_objects(plane)
    with pytest.raises(ValueError, match="three positive numbers"):
        measure_objects({"z": np.zeros(1), **plane}, (0.0, 1.0, 1.0))
