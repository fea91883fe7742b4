"""The main path with stub networks: what comes out must follow from what goes in."""

import numpy as np
import pytest
import torch
from scipy import ndimage
from stub_networks import Blur, Broken, ColorProbe, MidScale, OutOfMemory, Stub, stub_card

from napari_dinocell.core.errors import Cancelled
from napari_dinocell.core.images import image_from_array
from napari_dinocell.core.intensity import IntensityRange, intensity_range, normalize
from napari_dinocell.core.segmenter import Segmenter
from napari_dinocell.core.tiles import TileGrid

UNIT = IntensityRange(0.0, 1.0, False)


def segmenter(network=None, batch_size=None, **card):
    return Segmenter(network or Stub(), stub_card(**card), "cpu", batch_size)


def discs(shape, radius=8, n=60, seed=0):
    """Bright discs that do not touch, and how many there are."""
    rng, plane, count = np.random.default_rng(seed), np.zeros(shape, np.float32), 0
    y, x = np.ogrid[: shape[0], : shape[1]]
    for cy, cx in rng.uniform(0, shape, (n, 2)):
        squares = (y - cy) ** 2 + (x - cx) ** 2
        if not plane[squares <= (radius + 4) ** 2].any():
            plane[squares <= radius**2] = 1
            count += 1
    return plane, count


def same_cells(first, second):
    """Whether two label arrays are equal up to the names of the cells."""
    pairs = np.unique(np.stack([first.ravel(), second.ravel()]), axis=1)
    return len(np.unique(pairs[0])) == len(np.unique(pairs[1])) == pairs.shape[1]


@pytest.mark.parametrize("shape", [(1, 1), (7, 3), (50, 50), (101, 333), (257, 256), (640, 300)])
def test_the_map_of_an_identity_network_is_the_normalized_plane(shape):
    plane = np.random.default_rng(0).random(shape)
    prediction = segmenter().predict(plane, ranges=[UNIT], diameter=None)
    assert prediction.shape == prediction.maps[0].shape == shape
    np.testing.assert_allclose(prediction.maps[0] / 65535, plane, atol=0.51 / 65535)


def test_labels_are_the_connected_bright_regions():
    plane, count = discs((400, 500))
    labels = segmenter().predict(plane * 1000 + 100, diameter=None).labels()
    expected, n = ndimage.label(plane)
    assert n == count == len(np.unique(labels)) - 1
    assert labels.dtype == np.int32
    assert same_cells(labels, expected)


def test_shifting_the_image_changes_no_label_away_from_the_border():
    """The receptive field, 31 px, is below the overlap; zeros at tile edges make the map wrong."""
    plane, _ = discs((800, 700), n=500, seed=1)
    blurred = segmenter(Blur(5), peak=0.3, fill=0.1)
    whole = blurred.predict(plane, ranges=[UNIT], diameter=None)
    for dy, dx in ((1, 1), (13, 101), (64, 57), (191, 130)):
        shifted = blurred.predict(plane[dy:, dx:], ranges=[UNIT], diameter=None)
        margin = np.s_[50:-50, 50:-50]
        steps = shifted.maps[0].astype(int) - whole.maps[0][dy:, dx:]
        assert np.abs(steps[margin]).max() <= 1  # of 65535: rounding
        here, there = shifted.labels()[margin], whole.labels()[dy:, dx:][margin]
        assert len(np.unique(here)) > 100
        assert same_cells(here, there)


@pytest.mark.parametrize("kind", ["noise", "constant", "nan", "bright pixel"])
@pytest.mark.parametrize("shape", [(40, 60), (300, 400)])
def test_planes_without_structure_have_no_cells_and_no_tiles(kind, shape):
    plane = np.random.default_rng(0).normal(100, 5, shape)
    if kind == "constant":
        plane[:] = 7
    elif kind == "nan":
        plane[:] = np.nan
    elif kind == "bright pixel":
        plane[5, 5] = 1e5
    model = segmenter()
    calls = []
    prediction = model.predict(plane, progress=lambda *call: calls.append(call), diameter=None)
    assert not prediction.labels().any()
    assert prediction.labels().shape == shape
    assert model.network.seen == []
    assert calls[-1] == (calls[0][1], calls[0][1])
    assert any("no contrast" in note for note in prediction.notes)


@pytest.mark.parametrize(
    "dtype", ["?", "u1", "u2", "u4", "i2", "i8", "f2", "f4", "f8", ">u2", ">f4"]
)
def test_every_dtype_gives_the_same_labels(dtype):
    plane, _ = discs((120, 130))
    expected = segmenter().predict(plane, diameter=None).labels()
    typed = plane.astype(dtype) if dtype == "?" else (plane * 100).astype(dtype)
    np.testing.assert_array_equal(segmenter().predict(typed, diameter=None).labels(), expected)


def test_negative_floats_and_odd_memory_layouts_give_the_same_labels():
    plane, _ = discs((120, 130))
    expected = segmenter().predict(plane, diameter=None).labels()
    for other in (plane - 1e4, np.asfortranarray(plane), plane[::-1, ::-1].copy()[::-1, ::-1]):
        np.testing.assert_array_equal(segmenter().predict(other, diameter=None).labels(), expected)


def test_read_only_input_is_accepted_and_nothing_is_written_to_it():
    plane, _ = discs((120, 130))
    plane[4, 4] = np.nan
    before = plane.copy()
    plane.flags.writeable = False
    segmenter().predict(plane, diameter=None)
    np.testing.assert_array_equal(plane, before)


def test_nan_has_no_map_and_is_reported():
    plane, _ = discs((120, 130), n=200)
    plane[20:60, 30:90] = np.nan
    prediction = segmenter().predict(plane, diameter=None)
    assert not prediction.maps[0][20:60, 30:90].any()
    assert prediction.maps[0].any()
    assert prediction.notes[0].startswith("2400 of the pixels")


def test_images_in_common_batches_equal_images_one_by_one():
    planes = [discs(shape, seed=i)[0] * (i + 1) for i, shape in enumerate([(90, 70)] * 5)]
    planes += [discs((300, 260))[0], discs((40, 40))[0], discs((300, 260), seed=3)[0]]
    together = segmenter(Blur(), batch_size=4)
    alone = segmenter(Blur(), batch_size=1)
    for plane, prediction in zip(planes, together.predict_many(planes, diameter=None), strict=True):
        np.testing.assert_array_equal(
            prediction.maps[0], alone.predict(plane, diameter=None).maps[0]
        )
    assert max(shape[0] for shape in together.network.seen) == 4
    assert len(together.network.seen) < len(alone.network.seen) / 2


def test_many_images_of_rare_shapes_come_out_in_order_and_before_the_end():
    drawn = []

    def images():
        for i in range(60):
            drawn.append(i)
            yield np.pad(np.ones((10, 10)), ((4, 8 * (i % 7)), (4, 8 * (i % 5))))

    model = segmenter(batch_size=2)
    predictions = model.predict_many(images(), diameter=None)
    first = next(predictions)
    assert len(drawn) < 15
    assert [first.shape, *(p.shape for p in predictions)] == [
        (14 + 8 * (i % 7), 14 + 8 * (i % 5)) for i in range(60)
    ]


def test_the_batch_is_halved_when_memory_runs_out_and_stays_so():
    plane, _ = discs((600, 600))
    model = segmenter(OutOfMemory(limit=3), batch_size=8)
    map_ = model.predict(plane, ranges=[UNIT], diameter=None).maps[0]
    np.testing.assert_array_equal(map_, np.rint(plane * 65535))
    failed = [entry for entry in model.network.seen if isinstance(entry, int)]
    assert failed == [8, 4]
    model.predict(plane, diameter=None)
    assert [entry for entry in model.network.seen if isinstance(entry, int)] == failed


def test_allocators_that_raise_plain_runtime_errors_are_understood():
    def error(_):
        return RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory")

    model = segmenter(OutOfMemory(2, error), batch_size=4)
    assert model.predict(discs((600, 600))[0], diameter=None).labels().any()


def test_one_tile_that_does_not_fit_is_one_sentence():
    with pytest.raises(
        MemoryError, match=r"One tile of 256 x 256 px does not fit into .* cpu; free"
    ):
        segmenter(OutOfMemory(0), batch_size=4).predict(discs((300, 300))[0], diameter=None)


def test_other_errors_of_the_network_are_not_taken_for_lack_of_memory():
    with pytest.raises(RuntimeError, match="mat1 and mat2"):
        segmenter(Broken()).predict(discs((30, 30))[0], diameter=None)


@pytest.mark.parametrize("after", [0, 1, 5, 9])
def test_cancelling_stops_within_one_batch(after):
    model = segmenter(batch_size=2)
    stack = np.stack([discs((300, 300), seed=i)[0] for i in range(5)])

    def cancel():
        return len(model.network.seen) >= after

    with pytest.raises(Cancelled):
        model.predict(stack, "ZYX", cancel=cancel, diameter=None)
    assert len(model.network.seen) == after
    assert model.predict(stack[0], diameter=None).labels().any()


def test_progress_ascends_from_zero_to_its_total():
    stack = np.stack([discs((300, 300))[0], np.zeros((300, 300)), discs((300, 300))[0]])
    calls = []
    segmenter(batch_size=3).predict(
        stack, "TYX", progress=lambda *call: calls.append(call), diameter=None
    )
    done, totals = zip(*calls, strict=True)
    assert set(totals) == {3 * len(TileGrid(300, 300))}
    assert done[0] == 0
    assert done[-1] == totals[0]
    assert list(done) == sorted(done)
    assert len(set(done)) > 3


@pytest.mark.parametrize("axes", ["TZYX", "ZYXT", "YXTZ", "XYTZ"])
def test_planes_of_a_stack_are_treated_one_by_one_in_any_order_of_axes(axes):
    stack = np.stack([discs((60, 50), seed=i)[0] * (i + 1) for i in range(6)]).reshape(2, 3, 60, 50)
    moved = np.moveaxis(stack, [0, 1, 2, 3], [axes.index(a) for a in "TZYX"])
    if axes == "ZYXT":
        moved = np.transpose(stack, (1, 2, 3, 0))
    prediction = segmenter().predict(moved, axes, diameter=None)
    labels = np.transpose(prediction.labels(), [prediction.axes.index(a) for a in "TZYX"])
    assert prediction.axes == axes
    assert prediction.n_planes == 6
    for t in range(2):
        for z in range(3):
            np.testing.assert_array_equal(
                labels[t, z], segmenter().predict(stack[t, z], diameter=None).labels()
            )


def test_a_channel_is_chosen_and_leaves_the_output():
    image = np.zeros((2, 80, 90))
    image[1], count = discs((80, 90))
    prediction = segmenter().predict(image, "CYX", channel=1, diameter=None)
    assert prediction.axes == "YX"
    assert len(np.unique(prediction.labels())) - 1 == count


def test_an_unnamed_third_axis_is_refused():
    with pytest.raises(ValueError, match="YXS"):
        segmenter().predict(np.zeros((80, 90, 3), np.uint8), diameter=None)


@pytest.mark.parametrize(("is_color", "channels"), [(True, 3), (False, 1)])
def test_color_goes_in_as_the_card_says(is_color, channels):
    image = np.zeros((64, 72, 3), np.uint8)
    image[..., 0] = discs((64, 72))[0] * 255
    model = segmenter(ColorProbe(), input={"color": is_color})
    prediction = model.predict(image, "YXS", diameter=None)
    assert prediction.shape == (64, 72)
    assert {shape[1] for shape in model.network.seen} == {channels}
    assert prediction.maps[0].any() == is_color


def test_transparent_pixels_are_background():
    image = np.full((64, 72, 4), 255, np.uint8)
    image[..., :3] = discs((64, 72))[0][..., None] * 255
    image[:, 30:, 3] = 0
    labels = segmenter().predict(image, "YXS", diameter=None).labels()
    assert labels[:, :30].any()
    assert not labels[:, 30:].any()


def test_cells_twice_as_large_are_computed_at_half_the_size():
    plane = ndimage.zoom(discs((150, 200), radius=10, n=40)[0], 4, order=0)
    model = segmenter(diameter=24)
    prediction = model.predict(plane, diameter=96)
    assert prediction.scale == 0.25
    assert model.network.seen == [(1, 1, 152, 200)]
    expected, count = ndimage.label(plane)
    labels = prediction.labels()
    assert labels.shape == plane.shape
    assert len(np.unique(labels)) - 1 == count
    assert ((labels > 0) == (expected > 0)).mean() > 0.99


def test_the_pixel_size_scales_where_image_and_model_know_theirs():
    plane = discs((100, 100))[0]
    knows = segmenter(pixel_size_um=0.5)
    known = knows.predict(plane, pixel_size_um=0.25).scaling
    assert (known.scale, known.reason) == (0.5, "pixel size")
    assert knows.predict(plane, pixel_size_um=0.25, diameter=24).scale == 1.0
    assert knows.predict(plane, pixel_size_um=0.25, diameter=None).scale == 1.0
    assert knows.predict(plane).scaling.reason == "estimate"
    assert segmenter().predict(plane, pixel_size_um=0.25).scaling.reason == "estimate"


@pytest.mark.parametrize("n_diameters", [1, 3])
def test_no_image_is_dropped_where_diameters_are_too_few_or_too_many(n_diameters):
    plane, _ = discs((64, 64), radius=12, n=4, seed=2)
    with pytest.raises(ValueError, match="zip"):
        list(segmenter().predict_many([plane, plane], diameter=[24.0] * n_diameters))


@pytest.mark.parametrize("radius", [6, 12, 24, 40])
def test_the_estimated_diameter_is_that_of_the_cells(radius):
    plane, _ = discs((500, 500), radius=radius, n=200, seed=2)
    plane += np.random.default_rng(0).normal(0, 0.02, plane.shape)
    model = segmenter(MidScale(24), peak=0.5, fill=0.1, diameter=24)
    scaling = model.predict(plane, diameter="auto").scaling
    assert scaling.reason == "estimate"
    assert scaling.n_cells > 3
    assert scaling.diameter == pytest.approx(2 * radius, rel=0.25)
    assert model.estimate(plane) == scaling


@pytest.mark.parametrize(("surety", "most", "least"), [(9.0, 4, 2), (-3.0, 12, 7)])
def test_a_sure_model_looks_a_few_times_and_a_doubtful_one_at_every_size(surety, most, least):
    """The same cells, and a confidence near 1 or 0."""
    plane, _ = discs((500, 500), radius=8, n=200, seed=2)
    sure = {"intercept": surety, "height": 0.0, "prominence": 0.0, "mean": 0.0}
    model = segmenter(MidScale(24), peak=0.5, fill=0.1, diameter=24, confidence=sure)
    assert model.estimate(plane).n_cells > 3
    assert least <= len(model.network.seen) <= most


def test_an_estimate_depends_on_its_image_alone():
    planes = [discs((300, 300), radius=r, n=80, seed=r)[0] for r in (6, 12, 24)]
    model = segmenter(MidScale(24), peak=0.5, fill=0.1, diameter=24)
    alone = [model.estimate(plane) for plane in planes]
    together = [prediction.scaling for prediction in model.predict_many([*planes, *planes[::-1]])]
    assert together == [*alone, *alone[::-1]]
    assert len({scaling.scale for scaling in alone}) > 1


def test_the_cells_that_are_measured_are_looked_for_where_they_are():
    """A ring of small cells: its middle is empty, and wider than a tile at any of the scales."""
    plane, _ = discs((1500, 1500), radius=7, n=2000, seed=3)
    y, x = np.indices(plane.shape)
    plane[np.hypot(y - 750, x - 750) < 600] = 0
    plane += np.random.default_rng(0).normal(0, 0.02, plane.shape)
    model = segmenter(MidScale(24), peak=0.5, fill=0.1, diameter=24)
    assert model.predict(plane).scaling.diameter == pytest.approx(14, rel=0.25)


def test_one_perfect_speck_does_not_outweigh_a_field_of_cells():
    plane, _ = discs((500, 500), radius=20, n=60, seed=4)
    plane += np.random.default_rng(0).normal(0, 0.02, plane.shape)
    plane[:60, :60] = 0
    plane[28:34, 28:34] = 3
    model = segmenter(MidScale(24), peak=0.5, fill=0.1, diameter=24)
    assert model.predict(plane).scaling.diameter == pytest.approx(40, rel=0.25)


def test_an_estimate_without_cells_is_labeled_and_changes_nothing():
    plane, _ = discs((100, 100))
    prediction = segmenter(peak=0.99, fill=0.98).predict(
        plane * 0.5, diameter="auto", ranges=[UNIT]
    )
    assert prediction.scaling.reason == "no cells found"
    assert prediction.scale == 1.0
    assert any("No cells were found" in note for note in prediction.notes)


@pytest.mark.parametrize(
    ("diameter", "message"),
    [
        (0, "Diameter is 0.0; it must be a positive number"),
        (-3, "must be a positive number"),
        (float("nan"), "must be a positive number"),
        (1e5, "would resize the image by 0.00024"),
        ("big", "'big'; give a number of pixels, or 'auto'"),
    ],
)
def test_impossible_diameters_are_refused(diameter, message):
    with pytest.raises(ValueError, match=message):
        segmenter().predict(discs((30, 30))[0], diameter=diameter)


def test_devices_that_are_not_there_are_refused():
    absent = f"cuda:{torch.cuda.device_count()}"
    with pytest.raises(ValueError, match=f"Device {absent} is not available here; choose auto or"):
        Segmenter(Stub(), stub_card(), absent)
    with pytest.raises(ValueError, match="Device 'gpuu' is unknown"):
        Segmenter(Stub(), stub_card(), "gpuu")


def test_ranges_of_a_prediction_treat_a_part_like_the_whole():
    plane, _ = discs((300, 300), n=20)
    plane[:100, :100] *= 0.4
    whole = segmenter().predict(plane, diameter=None)
    part = segmenter().predict(plane[:100, :100], ranges=whole.ranges, diameter=None)
    np.testing.assert_array_equal(part.maps[0], whole.maps[0][:100, :100])


def test_the_network_sees_what_training_would_show_it():
    """Training normalizes a whole plane with the same two functions."""
    plane = (discs((64, 64))[0] * 3000 + np.random.default_rng(0).normal(500, 30, (64, 64))).astype(
        "u2"
    )
    expected = np.clip(normalize(plane, intensity_range(plane)), 0, 1)
    result = segmenter().predict(image_from_array(plane), diameter=None).maps[0] / 65535
    np.testing.assert_allclose(result, expected, atol=1 / 65535)


def test_the_callers_network_is_left_as_it_is():
    network = torch.nn.Sequential(torch.nn.Conv2d(1, 1, 3, padding=1), torch.nn.Sigmoid()).train()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    Segmenter(network, stub_card(), "cpu").predict(discs((60, 60))[0], diameter=None)
    assert network.training
    assert all(torch.equal(before[name], value) for name, value in network.state_dict().items())
