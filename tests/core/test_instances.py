"""Threshold tree: what it cuts, against definitions and scikit-image's watershed."""

from __future__ import annotations

import os
from pathlib import Path

import imageio.v3 as iio
import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import ndimage
from skimage.segmentation import watershed

from napari_dinocell.core import flood as flood_kernels
from napari_dinocell.core.distance import distance_map
from napari_dinocell.core.instances import FLOOR, LEVELS, flood, quantize, warm_up

EIGHT = np.ones((3, 3))
sides = st.tuples(st.integers(1, 12), st.integers(1, 12))
# Few levels: plateaus, ties and saddles at equal height everywhere.
terraces = arrays(np.uint16, sides, elements=st.integers(0, 6).map(lambda v: v * 10_000))
bytes_ = st.integers(0, 65535)
rough = arrays(np.uint16, sides, elements=bytes_)
levels = st.integers(400, 65000)


@st.composite
def smooth(draw):
    """Blurred noise: many basins of several pixels each."""
    seed, blur = draw(st.integers(0, 2**32 - 1)), draw(st.floats(0.5, 3))
    shape = draw(st.tuples(st.integers(1, 40), st.integers(1, 40)))
    noise = ndimage.gaussian_filter(np.random.default_rng(seed).random(shape), blur)
    noise -= noise.min()
    return quantize(noise / max(noise.max(), 1e-9))


maps = st.one_of(terraces, rough, smooth())


def threshold(level):
    """A threshold strictly between two levels, so that no rounding is in play."""
    return (level + 0.5) / LEVELS


def marker_watershed(quantized, peak_level, fill_level):
    """The definition: flood from the 8-connected components above peak."""
    markers, n_markers = ndimage.label(quantized > peak_level, EIGHT)
    mask = quantized > fill_level
    return (
        watershed(-quantized.astype(np.int32), markers, mask=mask, connectivity=2),
        markers,
        n_markers,
    )


def check_against_watershed(quantized, peak_level, fill_level):
    """Same foreground, one cell per marker; return pixels that went to the other side."""
    cut = flood(quantized).cut(threshold(peak_level), threshold(fill_level))
    expected, markers, n_markers = marker_watershed(quantized, peak_level, fill_level)
    np.testing.assert_array_equal(cut.labels > 0, expected > 0)
    pairs = {(m, c) for m, c in zip(markers[markers > 0], cut.labels[markers > 0], strict=True)}
    assert len(pairs) == len({c for _, c in pairs}) == len(cut.ids) == n_markers
    name = np.zeros(int(cut.labels.max(initial=0)) + 1, int)
    for marker, cell in pairs:
        name[cell] = marker
    return int((name[cut.labels] != expected).sum()), int((expected > 0).sum())


@settings(deadline=None, max_examples=300)
@given(maps, levels, levels)
def test_foreground_and_markers_equal_scikit_images_watershed(quantized, one, other):
    assume(one != other)
    check_against_watershed(quantized, max(one, other), min(one, other))


def test_border_pixels_rarely_go_to_the_other_side():
    rng = np.random.default_rng(0)
    moved = total = 0
    for _ in range(200):
        noise = ndimage.gaussian_filter(rng.random((64, 64)), rng.uniform(1, 3))
        quantized = quantize((noise - noise.min()) / np.ptp(noise))
        fill, peak = np.sort(rng.integers(3000, 60000, 2))
        different, foreground = check_against_watershed(quantized, int(peak) + 1, int(fill))
        moved, total = moved + different, total + foreground
    assert moved / total < 0.005


@pytest.mark.shared
@pytest.mark.parametrize("name", ["dsb2018_fluo", "usiigaci_phase", "dsb2018_stained"])
def test_maps_of_real_cells_equal_scikit_images_watershed(name):
    folder = os.environ.get("DINOCELL_DATA")
    if not folder:
        pytest.skip("DINOCELL_DATA is not set: real labels are not at hand.")
    rng = np.random.default_rng(1)
    moved = total = 0
    for file in sorted(Path(folder, name, "val", "labels").glob("*.png"))[:5]:
        distance = distance_map(iio.imread(file).astype(np.int32), lift=0.2)
        noise = ndimage.gaussian_filter(rng.standard_normal(distance.shape), 1.5)
        quantized = quantize(np.clip(distance + 0.05 * noise / noise.std(), 0, 1))
        for peak, fill in [(37748, 8519), (30801, 5898), (50000, 20000)]:
            different, foreground = check_against_watershed(quantized, peak, fill)
            moved, total = moved + different, total + foreground
    assert total > 0
    assert moved / total < 0.005


@settings(deadline=None, max_examples=100)
@given(maps, levels, levels)
def test_table_equals_sums_over_the_labels(quantized, one, other):
    assume(one != other)
    cut = flood(quantized).cut(threshold(max(one, other)), threshold(min(one, other)))
    assert set(cut.ids) == set(np.unique(cut.labels)) - {0}
    assert np.all(np.diff(cut.ids) > 0)
    for cell, area, height, mean in zip(cut.ids, cut.areas, cut.heights, cut.means, strict=True):
        values = quantized[cut.labels == cell] / LEVELS
        assert area == len(values)
        assert height == values.max()
        assert mean == pytest.approx(values.mean())


@settings(deadline=None, max_examples=100)
@given(maps, levels, levels)
def test_prominence_is_how_far_one_descends_on_the_way_to_another_cell(quantized, one, other):
    assume(one != other)
    cut = flood(quantized).cut(threshold(max(one, other)), threshold(min(one, other)))
    for cell, height, prominence in zip(cut.ids, cut.heights, cut.prominences, strict=True):
        expected = height
        # Lower the water until the component of this cell's maximum holds another cell's maximum.
        for water in np.unique(quantized[quantized > int(FLOOR * LEVELS)])[::-1]:
            parts, _ = ndimage.label(quantized >= water, EIGHT)
            own = (cut.labels == cell) & (quantized == round(height * LEVELS))
            others = (quantized > max(one, other)) & (cut.labels != cell)
            if set(parts[own]) & (set(parts[others]) - {0}):
                expected = height - water / LEVELS
                break
        assert prominence == pytest.approx(expected, abs=1e-9)


@settings(deadline=None, max_examples=150)
@given(maps, levels, levels, st.floats(0.01, 1))
def test_prominence_filter_merges_touching_cells_and_leaves_none_below_it(
    quantized, one, other, min_prominence
):
    assume(one != other)
    peak, fill = threshold(max(one, other)), threshold(min(one, other))
    tree = flood(quantized)
    free, filtered = tree.cut(peak, fill), tree.cut(peak, fill, min_prominence=min_prominence)
    # Merged, never cut anew: same foreground, and each cell lies in one cell of the filtered cut.
    np.testing.assert_array_equal(free.labels > 0, filtered.labels > 0)
    pairs = set(zip(free.labels.ravel(), filtered.labels.ravel(), strict=True))
    assert len(pairs) == len(set(free.labels.ravel()))
    assert set(filtered.ids) <= set(free.ids)
    if min_prominence <= peak - fill:
        assert np.all(filtered.prominences >= min_prominence - 1e-9)


@settings(deadline=None, max_examples=100)
@given(maps, levels, levels, st.integers(0, 30))
def test_area_filter_removes_small_cells_and_touches_no_other(quantized, one, other, min_area):
    assume(one != other)
    tree = flood(quantized)
    peak, fill = threshold(max(one, other)), threshold(min(one, other))
    free, filtered = tree.cut(peak, fill), tree.cut(peak, fill, min_area=min_area)
    large = free.ids[free.areas >= min_area]
    np.testing.assert_array_equal(filtered.ids, large)
    np.testing.assert_array_equal(
        filtered.labels, np.where(np.isin(free.labels, large), free.labels, 0)
    )


@settings(deadline=None, max_examples=100)
@given(maps, st.lists(st.tuples(levels, levels), min_size=2, max_size=6))
def test_a_cell_keeps_its_id_as_long_as_its_highest_pixel_is_the_same(quantized, pairs):
    tree = flood(quantized)
    place_of: dict[int, set] = {}
    for one, other in pairs:
        if one == other:
            continue
        cut = tree.cut(threshold(max(one, other)), threshold(min(one, other)))
        for cell in cut.ids:
            values = np.where(cut.labels == cell, quantized, 0)
            # The maximum may be shared by several pixels: compare the plateau of the named basin.
            top = (tree.basins == cell) & (values == values.max())
            assert top.any(), "the id doesn't name a highest basin"
            place_of.setdefault(int(cell), set()).add(tuple(np.argwhere(top)[0]))
    assert all(len(places) == 1 for places in place_of.values())


@settings(deadline=None, max_examples=100)
@given(maps, levels, levels, st.data())
def test_window_equals_the_crop_of_the_whole_cut(quantized, one, other, data):
    assume(one != other)
    peak, fill = threshold(max(one, other)), threshold(min(one, other))
    filters = {"min_area": 4, "min_prominence": 0.1}
    window = tuple(
        slice(*sorted(data.draw(st.tuples(*[st.integers(0, n)] * 2)))) for n in quantized.shape
    )
    tree = flood(quantized)
    whole, part = tree.cut(peak, fill, **filters), tree.cut(peak, fill, window=window, **filters)
    np.testing.assert_array_equal(part.labels, whole.labels[window])
    for column in ("ids", "areas", "heights", "prominences", "means"):
        np.testing.assert_array_equal(getattr(part, column), getattr(whole, column))


@settings(deadline=None, max_examples=60)
@given(maps, levels, levels, st.integers(0, 3), st.booleans())
def test_number_of_cells_and_heights_survive_turning_and_flipping(
    quantized, one, other, turns, flip
):
    assume(one != other)
    turned = np.rot90(quantized, turns)[:, ::-1] if flip else np.rot90(quantized, turns)
    cuts = [
        flood(plane).cut(threshold(max(one, other)), threshold(min(one, other)), min_prominence=0.1)
        for plane in (quantized, turned)
    ]
    assert len(cuts[0].ids) == len(cuts[1].ids)
    np.testing.assert_array_equal(cuts[0].heights, cuts[1].heights)


@settings(deadline=None, max_examples=60)
@given(maps, levels, levels)
def test_pixel_pairs_reduced_in_many_small_lots_give_the_same_cells(quantized, one, other):
    assume(one != other)
    peak, fill = threshold(max(one, other)), threshold(min(one, other))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(flood_kernels, "EDGE_BUFFER", 1)
        lots = flood(quantized).cut(peak, fill, min_prominence=0.05)
    at_once = flood(quantized).cut(peak, fill, min_prominence=0.05)
    np.testing.assert_array_equal(lots.ids, at_once.ids)
    np.testing.assert_array_equal(lots.prominences, at_once.prominences)
    np.testing.assert_array_equal(lots.labels > 0, at_once.labels > 0)


def test_read_only_and_strided_maps_are_accepted():
    quantized = np.zeros((20, 20), np.uint16)
    quantized[4:9, 4:9] = 50000
    strided = quantized[::2, ::2]
    quantized.flags.writeable = False
    assert len(flood(quantized).cut(0.5, 0.1).ids) == 1
    assert len(flood(strided).cut(0.5, 0.1).ids) == 1


@pytest.mark.parametrize("shape", [(0, 0), (0, 7), (1, 1), (1, 9), (50, 1)])
def test_planes_of_any_size_are_cut(shape):
    cut = flood(np.full(shape, 0.8, np.float32)).cut(0.5, 0.1)
    assert cut.labels.shape == shape
    assert len(cut.ids) == min(1, cut.labels.size)
    assert np.all(cut.labels == 1)


def test_warm_up_leaves_nothing_to_compile():
    warm_up()
    compiled = {k: len(getattr(flood_kernels, k).signatures) for k in ("_steepest", "_gather")}
    flood(np.random.default_rng(0).random((30, 31)))
    assert compiled == {k: len(getattr(flood_kernels, k).signatures) for k in compiled}


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"peak": 0.08, "fill": 0.09}, "Peak 0.08 is not above fill 0.09"),
        ({"peak": 0.5, "fill": 0.001}, "Fill is 0.001"),
        ({"peak": 1.0, "fill": 0.1}, "Peak is 1.0"),
        ({"peak": float("nan"), "fill": 0.1}, "Peak is nan"),
        ({"peak": 0.5, "fill": 0.1, "min_area": -1}, "Minimum area"),
        ({"peak": 0.5, "fill": 0.1, "min_prominence": 2.0}, "Minimum prominence"),
        ({"peak": 0.5, "fill": 0.1, "window": (slice(0, 4, 2), slice(0, 4))}, "steps"),
        ({"peak": 0.5, "fill": 0.1, "out": np.zeros((2, 2), np.int32)}, "Out has shape"),
        ({"peak": 0.5, "fill": 0.1, "out": np.zeros((9, 9))}, "integer array"),
    ],
)
def test_bad_cuts_are_refused_with_a_sentence(arguments, words):
    tree = flood(np.full((9, 9), 0.7))
    with pytest.raises(ValueError, match=words.replace(".", r"\.")):
        tree.cut(**arguments)
