"""A folder segmented from the panel, against the same from the command line."""

import csv
import json
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import imageio.v3 as iio
import numpy as np
import pytest
import tifffile
import torch

pytestmark = pytest.mark.qt


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    from test_segment import make_model  # noqa: PLC0415

    return make_model(tmp_path_factory.mktemp("model") / "tiny.safetensors")


@pytest.fixture
def images(tmp_path):
    from test_segment import scene  # noqa: PLC0415

    folder = tmp_path / "images"
    folder.mkdir()
    for number in range(3):
        iio.imwrite(folder / f"{number}.png", scene(number))
    return folder


@pytest.fixture
def make_batch(make_napari_viewer_proxy, model, wait):
    from napari_dinocell.widgets.batch_panel import BatchPanel, BatchSettings  # noqa: PLC0415

    def make(folder, **settings):
        viewer = make_napari_viewer_proxy()
        panel = BatchPanel(viewer, BatchSettings(str(model), **settings))
        viewer.window.add_dock_widget(panel, name="Segment a folder")
        wait(lambda: panel.form.model.count() > 1)
        panel.form.device.setCurrentText("cpu")
        panel.form.inputs.line.setText(str(folder))
        return panel

    return make


def run(panel, wait):
    panel.runner.button.click()
    wait(lambda: panel.runner.job is None, 120)


def test_a_folder_gives_what_the_command_line_gives(make_batch, images, model, wait, tmp_path):
    from napari_dinocell.core import segment  # noqa: PLC0415
    from napari_dinocell.core.model.files import read_card  # noqa: PLC0415

    card = read_card(model)
    # More digits than the boxes show.
    peak, fill, min_area, least = card.peak + 1.23e-5, card.fill - 2.34e-5, 3, 0.70004
    panel = make_batch(
        images, peak=peak, fill=fill, min_area=min_area, min_confidence=least, diameter=11.37
    )
    panel.form.written["table"].setChecked(True)
    run(panel, wait)
    assert "3 of 3 images segmented" in panel.runner.status.text()
    out = Path(panel.form.output.line.text())
    assert out == tmp_path / "images_cells"
    options = [f"--peak={peak}", f"--fill={fill}", f"--min-area={min_area}", "--diameter=11.37"]
    options += [f"--min-confidence={least}"]
    arguments = [str(images), "-o", str(tmp_path / "shell"), "--csv", "--model", str(model)]
    assert segment.main([*arguments, *options, "--device", "cpu"]) == 0
    for number in range(3):
        first, second = (folder / f"{number}_labels.tif" for folder in (out, tmp_path / "shell"))
        np.testing.assert_array_equal(tifffile.imread(first), tifffile.imread(second))
        assert tifffile.imread(first).max() > 1
        first, second = (folder / f"{number}_cells.csv" for folder in (out, tmp_path / "shell"))
        rows, expected = (
            list(csv.reader(path.read_text("utf-8").splitlines())) for path in (first, second)
        )
        assert rows[0] == expected[0]
        # The last digit of the map depends on the number of threads.
        np.testing.assert_allclose(
            np.array(rows[1:], float), np.array(expected[1:], float), rtol=1e-4
        )
    here, there = (
        json.loads((folder / "run.json").read_text())["settings"]
        for folder in (out, tmp_path / "shell")
    )
    assert here == there
    assert here["min_confidence"] == least


def test_own_models_are_offered(make_batch, images, model):
    from napari_dinocell.core.model.manage import import_model  # noqa: PLC0415

    import_model(model, "mine")
    box = make_batch(images).form.model
    assert {"auto", "small", "vits8", "mine"} <= {box.itemText(i) for i in range(box.count())}


def test_broken_images_are_listed_and_the_others_done(make_batch, images, wait):
    (images / "broken.png").write_bytes(b"no image")
    panel = make_batch(images)
    run(panel, wait)
    assert "3 of 4 images segmented" in panel.runner.status.text()
    assert panel.failures.count() == 1
    assert panel.failures.item(0).text().startswith("⚠ broken.png")
    assert str(images) not in panel.failures.item(0).text()
    assert not panel.failures.isHidden()
    (images / "broken.png").unlink()
    run(panel, wait)
    assert "Nothing to do: 3 images were finished before" in panel.runner.status.text()
    assert panel.failures.isHidden()


def test_cancel_keeps_what_is_finished_and_the_next_run_goes_on(make_batch, tmp_path, wait):
    from test_segment import scene  # noqa: PLC0415

    folder = tmp_path / "large"
    folder.mkdir()
    for number in range(8):
        np.save(folder / f"{number}.npy", np.tile(scene(number, 128), (6, 6)))
    panel = make_batch(folder)
    panel.runner.button.click()
    out = tmp_path / "large_cells"
    wait(lambda: list(out.glob("*_labels.tif")), 120)
    panel.runner.button.click()
    wait(lambda: panel.runner.job is None, 120)
    assert panel.runner.status.text() == "Cancelled."
    finished = sorted(out.glob("*_labels.tif"))
    assert 0 < len(finished) < 8
    assert not list(out.glob(".*"))
    times = [path.stat().st_mtime_ns for path in finished]
    run(panel, wait)
    assert "were finished before" in panel.runner.status.text()
    assert len(list(out.glob("*_labels.tif"))) == 8
    assert [path.stat().st_mtime_ns for path in finished] == times


def test_a_stack_is_linked_on_request(make_batch, tmp_path, wait):
    from test_segment import scene  # noqa: PLC0415

    folder = tmp_path / "movies"
    folder.mkdir()
    frames = np.stack([scene(0)] * 3)
    tifffile.imwrite(folder / "m.ome.tif", frames, metadata={"axes": "TYX"})
    panel = make_batch(folder)
    panel.form.links.setCurrentText("tracks (T)")
    run(panel, wait)
    labels = tifffile.imread(tmp_path / "movies_cells" / "m_labels.tif")
    np.testing.assert_array_equal(labels[0], labels[2])


@pytest.mark.parametrize(
    ("change", "part"),
    [
        (lambda panel: panel.form.inputs.line.setText(""), "Choose the folder of the images"),
        (lambda panel: panel.form.inputs.line.setText("/absent"), "is no folder"),
        (lambda panel: panel.form.channel.setText("3"), "failed"),
        (lambda panel: panel.form.axes.setText("QQ"), "contain Q"),
        (lambda panel: panel.form.model.setCurrentText("no model"), "no model"),
    ],
)
def test_what_is_missing_or_wrong_is_said_in_a_sentence(make_batch, images, wait, change, part):
    panel = make_batch(images)
    change(panel)
    run(panel, wait)
    assert part in panel.runner.status.text()
    assert "⚠" in panel.runner.status.text()


def test_settings_are_those_of_the_cells_on_screen(segmented):
    from synthetic import discs  # noqa: PLC0415

    from napari_dinocell.widgets.batch_panel import BatchPanel, BatchSettings  # noqa: PLC0415

    viewer, segment = segmented(discs())
    segment.results.sliders.fill.setValue(0.123)
    segment.preview.move(0.5, 0.123, 4, min_confidence=0.61234)
    settings = BatchSettings.of(segment.preview)
    assert (settings.model, settings.fill) == ("stub", segment.preview.fill)
    options = BatchPanel(viewer, settings).form.options()
    assert options["fill"] == segment.preview.fill
    assert options["peak"] == segment.preview.peak
    assert options["min_area"] == segment.preview.min_area
    assert options["min_confidence"] == 0.61234


def test_settings_of_a_level_of_a_pyramid_are_those_of_the_whole_file(make_panel, wait):
    from synthetic import discs  # noqa: PLC0415

    from napari_dinocell.widgets.batch_panel import BatchPanel, BatchSettings  # noqa: PLC0415
    from napari_dinocell.widgets.cell_size import AS_IS, GIVEN  # noqa: PLC0415

    plane = discs((640, 800), pitch=160, radius=52)
    viewer, panel = make_panel([plane[:: 2**i, :: 2**i] for i in range(3)], multiscale=True)

    def settings():
        wait(panel.button.isEnabled)
        panel.button.click()
        wait(lambda: panel.job is None)
        assert panel.preview.result.part.level == 2
        panel.results.sliders.min_area.setValue(5)
        wait(lambda: panel.preview.min_area == 5)
        return BatchSettings.of(panel.preview)

    panel.form.level.value = 2
    assert settings().diameter == "auto", "each file is looked at"
    panel.form.choose_layer(viewer.layers["image"])
    panel.form.cell_size.how.value = AS_IS
    # The level as it is: cells of 24 px there, as the model wants them, are 96 px wide in the file.
    assert (settings().diameter, settings().min_area) == (96, 80)
    panel.form.choose_layer(viewer.layers["image"])
    panel.form.cell_size.how.value = GIVEN
    panel.form.cell_size.pixels.value = 120
    taken = settings()
    assert (taken.diameter, taken.min_area) == (120, 80)
    options = BatchPanel(viewer, taken).form.options()
    assert (options["diameter"], options["min_area"]) == (120, 80)
    # So a file of level 0 goes through the network in the size in which the level did.
    scale = panel.preview.prediction.scale / panel.preview.result.part.factor
    segmenter = panel.engine.extra["stub"]
    with segmenter.predict(plane, diameter=options["diameter"]) as prediction:
        assert prediction.scale == pytest.approx(scale)


def test_a_core_is_left_to_the_window(make_batch, images, wait):
    # Threads take over what was set last; each keeps a number of its own.
    def number():
        with ThreadPoolExecutor(1) as pool:
            return pool.submit(torch.get_num_threads).result()

    cores = os.cpu_count() or 2
    before = torch.get_num_threads()
    torch.set_num_threads(cores + 3)
    try:
        assert number() == cores + 3
        run(make_batch(images), wait)
        assert number() == max(1, cores - 1)
    finally:
        torch.set_num_threads(before)


def test_a_second_click_brings_the_same_panel_with_the_settings_of_now(segmented, wait):
    from synthetic import discs  # noqa: PLC0415

    viewer, segment = segmented(np.stack([discs()] * 2), axis_labels=("z", "y", "x"))
    further = segment.results.further
    further.folder.click()
    viewer.window.dock_widgets["Segment a folder"].form.inputs.line.setText("plate 3")
    n_docks = len(viewer.window.dock_widgets)
    segment.results.sliders.peak.setValue(0.77)
    wait(lambda: segment.preview.peak == pytest.approx(0.77))
    further.folder.click()
    panel = viewer.window.dock_widgets["Segment a folder"]
    assert len(viewer.window.dock_widgets) == n_docks
    assert panel.form.inputs.line.text() == "plate 3"
    assert panel.form.options()["peak"] == segment.preview.peak
    further.link.click()
    docks = viewer.window.dock_widgets
    docks["Link planes"].gap.setValue(3)
    copy = viewer.add_labels(np.ones((2, 9, 9), int), name="other", axis_labels=("z", "y", "x"))
    docks["Link planes"].labels.choose(copy)
    further.link.click()
    assert docks["Link planes"].gap.value() == 3
    assert docks["Link planes"].labels.layer == segment.preview.layer
    # Closed by the user, it comes back as it was.
    viewer.window.remove_dock_widget("all")
    assert not viewer.window.dock_widgets
    further.folder.click()
    assert viewer.window.dock_widgets["Segment a folder"].form.inputs.line.text() == "plate 3"


def test_a_run_offers_what_may_follow(segmented):
    from synthetic import discs  # noqa: PLC0415

    viewer, segment = segmented(np.stack([discs()] * 2), axis_labels=("z", "y", "x"))
    further = segment.results.further
    assert further.folder.isEnabled()
    assert not further.link.isHidden()
    further.folder.click()
    further.link.click()
    docks = dict(viewer.window.dock_widgets)
    assert docks["Segment a folder"].form.options()["peak"] == segment.preview.peak
    assert docks["Link planes"].labels.layer == segment.preview.layer
    viewer.layers.remove(segment.preview.layer)
    assert not further.folder.isEnabled()
