"""Predictions: stored maps, spilling, thresholds, trees, provenance."""

import gc
import json
import tempfile

import numpy as np
import pytest
from stub_networks import Stub, stub_card

from napari_dinocell.core.errors import Cancelled
from napari_dinocell.core.instances import flood
from napari_dinocell.core.intensity import IntensityRange
from napari_dinocell.core.mapstore import MapStore
from napari_dinocell.core.segmenter import Segmenter


@pytest.fixture
def spill_folder(tmp_path, monkeypatch):
    """Folder in which temporary files appear."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return tmp_path


def cone_field(shape=(120, 140), radius=9):
    """Map with one cone of height 0.9 per 30 px."""
    y, x = np.indices(shape)
    distance = np.hypot(y % 30 - 15, x % 30 - 15)
    return np.clip(0.9 * (1 - distance / radius), 0, None)


def predict(array, axes=None, memory_bytes=1 << 30, **card):
    segmenter = Segmenter(Stub(), stub_card(**card), "cpu", memory_bytes=memory_bytes)
    count = array.shape[0] if axes == "ZYX" else 1
    return segmenter.predict(
        array, axes, ranges=[IntensityRange(0.0, 1.0, False)] * count, diameter=None
    )


@pytest.mark.parametrize("memory_bytes", [0, 1 << 30])
def test_maps_are_rounded_to_65535_steps_wherever_they_are_kept(memory_bytes):
    rng = np.random.default_rng(0)
    maps = rng.random((3, 20, 30))
    store = MapStore(3, (20, 30), memory_bytes)
    for plane in (2, 0, 1):
        for top in range(0, 20, 6):
            store.write(plane, top, maps[plane, top : top + 6])
    for plane in range(3):
        np.testing.assert_array_equal(store[plane], np.rint(maps[plane].astype("f4") * 65535))
    assert len(store) == 3
    assert [m.shape for m in store] == [(20, 30)] * 3
    store.close()


def test_values_outside_zero_and_one_are_cut_and_not_wrapped():
    store = MapStore(1, (1, 3))
    store.write(0, 0, np.array([[-0.5, 1.00001, 2.0]]))
    np.testing.assert_array_equal(store[0], [[0, 65535, 65535]])


def test_rows_that_were_never_written_are_zero():
    for memory_bytes in (0, 1 << 30):
        store = MapStore(2, (4, 5), memory_bytes)
        assert not store[1].any()
        store.close()


def test_large_predictions_go_to_a_file_that_ends_with_them(spill_folder):
    stack = np.stack([cone_field(), 0.5 * cone_field()])
    prediction = predict(stack, "ZYX", memory_bytes=1000)
    assert len(list(spill_folder.iterdir())) == 1
    np.testing.assert_allclose(prediction.maps[1] / 65535, stack[1], atol=1e-5)
    labels = prediction.labels(peak=0.6)
    assert labels[0].any()
    assert not labels[1].any()
    with prediction:
        pass
    assert list(spill_folder.iterdir()) == []


def test_a_forgotten_prediction_removes_its_file(spill_folder):
    prediction = predict(cone_field(), memory_bytes=1000)
    assert len(list(spill_folder.iterdir())) == 1
    del prediction
    gc.collect()
    assert list(spill_folder.iterdir()) == []


def test_a_cancelled_call_leaves_no_file_behind(spill_folder):
    segmenter = Segmenter(Stub(), stub_card(), "cpu", batch_size=1, memory_bytes=1000)
    seen = segmenter.network.seen
    during = []

    def cancel():
        during.append(len(list(spill_folder.iterdir())))
        return len(seen) == 3

    with pytest.raises(Cancelled):
        segmenter.predict(
            np.stack([cone_field((300, 300))] * 2), "ZYX", cancel=cancel, diameter=None
        )
    assert max(during) == 1
    assert list(spill_folder.iterdir()) == []


def test_an_abandoned_iterator_leaves_no_file_behind(spill_folder):
    segmenter = Segmenter(Stub(), stub_card(), "cpu", batch_size=1, memory_bytes=1000)
    iterator = segmenter.predict_many([cone_field()] * 9, diameter=None)
    first = next(iterator)
    assert len(list(spill_folder.iterdir())) >= 1
    iterator.close()
    first.close()
    assert list(spill_folder.iterdir()) == []


def test_thresholds_come_from_the_model_unless_given():
    prediction = predict(cone_field(), peak=0.6, fill=0.3, min_area=7)
    chosen = prediction.thresholds(fill=0.2)
    assert (chosen.peak, chosen.fill, chosen.min_area) == (0.6, 0.2, 7)
    expected = flood(prediction.maps[0]).cut(0.6, 0.2, min_area=7).labels
    np.testing.assert_array_equal(prediction.labels(fill=0.2), expected)
    np.testing.assert_array_equal(prediction.cut(0, fill=0.2).labels, expected)


def test_minimum_area_of_the_model_is_converted_to_the_pixels_of_the_image():
    segmenter = Segmenter(Stub(), stub_card(diameter=24, min_area=20), "cpu")
    assert segmenter.predict(cone_field(), diameter=48).thresholds().min_area == 80


@pytest.mark.parametrize(
    ("thresholds", "message"),
    [
        ({"peak": 0.08, "fill": 0.09}, r"Peak 0\.08 is not above fill 0\.09; peak must be larger"),
        ({"peak": 1.5}, r"Peak is 1\.5; it must be below 1"),
        ({"fill": -0.1}, r"Fill is -0\.1; it must be between"),
        ({"min_area": -1}, "Minimum area is -1; it must be 0 or more"),
        ({"min_prominence": 2}, "Minimum prominence is 2; it must be in"),
    ],
)
def test_impossible_thresholds_are_one_sentence(thresholds, message):
    with pytest.raises(ValueError, match=message):
        predict(cone_field()).labels(**thresholds)


def test_trees_are_kept_while_few_and_built_again_when_not():
    prediction = predict(np.stack([cone_field()] * 6), "ZYX")
    first = prediction.tree(0)
    assert prediction.tree(0) is first
    for plane in range(1, 6):
        prediction.tree(plane)
    again = prediction.tree(0)
    assert again is not first
    np.testing.assert_array_equal(again.basins, first.basins)


def test_a_window_shows_part_of_the_same_cells():
    prediction = predict(cone_field())
    window = (slice(20, 77), slice(31, 90))
    np.testing.assert_array_equal(
        prediction.cut(window=window).labels, prediction.cut().labels[window]
    )


def test_provenance_is_json_and_reproduces_the_labels():
    plane = cone_field() * 900 + 100
    segmenter = Segmenter(Stub(), stub_card(), "cpu")
    prediction = segmenter.predict(plane, diameter=20)
    record = json.loads(json.dumps(prediction.provenance(peak=0.5)))
    assert record["model"]["sha256"] == segmenter.model_hash
    ranges = [IntensityRange(**fields) for fields in record["normalization"]["ranges"]]
    again = segmenter.predict(plane, diameter=record["scaling"]["diameter"], ranges=ranges)
    np.testing.assert_array_equal(again.labels(**record["thresholds"]), prediction.labels(peak=0.5))


def test_the_hash_follows_the_weights():
    torch = pytest.importorskip("torch")

    def model(seed):
        torch.manual_seed(seed)
        network = torch.nn.Sequential(torch.nn.Conv2d(1, 1, 3, padding=1), torch.nn.Sigmoid())
        return Segmenter(network, stub_card(), "cpu").model_hash

    assert model(0) == model(0) != model(1)


def test_large_maps_go_to_the_folder_that_was_chosen(tmp_path):
    segmenter = Segmenter(Stub(), stub_card(), "cpu", memory_bytes=1000)
    segmenter.maps_folder = tmp_path
    with segmenter.predict(cone_field(), diameter=None) as prediction:
        assert [path.suffix for path in tmp_path.iterdir()] == [".maps"]
        assert prediction.labels().any()
    assert list(tmp_path.iterdir()) == []
