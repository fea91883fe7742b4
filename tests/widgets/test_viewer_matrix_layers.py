"""The input matrix, by number: layers that are refused, odd labels, units, models, other languages."""

import threading

import dask.array as da
import numpy as np
import pytest
from napari.layers import Image
from qtpy.QtCore import QLocale
from synthetic import discs, n_discs

from napari_dinocell.widgets.engine import Choice, Ready
from napari_dinocell.widgets.jobs import Job
from napari_dinocell.widgets.layers import layer_part
from napari_dinocell.widgets.measure_panel import MeasurePanel
from napari_dinocell.widgets.segment_panel import plan_text

pytestmark = pytest.mark.qt

COMPLEX = np.ones((40, 50), complex)
REFUSED = {
    "5 complex": (lambda: Image(COMPLEX, contrast_limits=(0, 1)), NotImplementedError),
    "9 empty": (lambda: Image(np.zeros((0, 5))), ValueError),
    "30 no scale": (lambda: Image(np.ones((4, 5)), scale=(0, 1)), ValueError),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_what_napari_shows_no_layer_of_needs_no_answer(kind):
    make, error = REFUSED[kind]
    with pytest.raises(error):
        make()


@pytest.mark.parametrize(("side", "is_told"), [(16384, False), (20000, True)])
def test_12_a_huge_plane_is_told_before_the_run_with_what_to_do(side, is_told):
    huge = da.zeros((300, side), chunks=(300, 1000), dtype=np.uint8)
    layer = Image(huge, contrast_limits=(0, 1), multiscale=False)
    plan = plan_text(layer_part(layer, "YX"), Ready(Choice("m", 30.0, None), "cpu", 0.1), None)
    assert ("napari draws labels above 16,384 px coarsely" in plan) == is_told
    assert ("OME-Zarr" in plan) == is_told
    assert plan.startswith(f"300 x {side} px: about")


@pytest.mark.parametrize(
    ("row", "axes", "units", "expected"),
    [
        ("33", "yx", ("um", "um"), (2, 3)),
        ("33", "yx", ("nm", "mm"), (0.002, 3000)),
        ("33 mixed", "yx", ("um", "pixel"), None),
        ("33 none", "yx", ("pixel", "pixel"), None),
        ("34", "tyx", ("s", "um", "um"), (2, 3)),
        ("34 turned", "yxt", ("um", "um", "s"), (2, 3)),
    ],
)
def test_33_34_a_pixel_has_a_size_where_its_own_axes_are_lengths(row, axes, units, expected):
    scale = [{"t": 7, "y": 2, "x": 3}[axis] for axis in axes]
    layer = Image(np.zeros((5,) * len(axes)), axis_labels=axes, scale=scale, units=units)
    part = layer_part(layer, axes.upper())
    assert part.pixel_size_um == (None if expected is None else pytest.approx(expected))


@pytest.fixture
def measured(make_napari_viewer_proxy, wait):
    def run(labels, *images):
        viewer = make_napari_viewer_proxy()
        for image in images:
            viewer.add_image(image, name="image")
        viewer.add_labels(labels, name="cells")
        panel = MeasurePanel(viewer)
        viewer.window.add_dock_widget(panel)
        panel.runner.button.click()
        wait(lambda: panel.runner.job is None)
        return panel

    return run


def test_49_an_image_of_another_size_is_not_offered(measured):
    panel = measured(np.eye(9, 8, dtype=int), np.zeros((8, 8)))
    assert panel.image.count() == 1  # none
    assert "intensity_mean" not in panel.table


ODD = {
    "50 large ids": ({70_000: slice(0, 4), 2_000_000: slice(6, 9)}, "2 cells measured"),
    "50 negative ids": ({-3: slice(0, 4)}, "negative"),
    "51 in parts, one pixel wide": ({4: slice(0, 9, 3)}, "1 cell measured"),
}


@pytest.mark.parametrize("kind", ODD)
def test_50_51_odd_labels_are_measured_as_they_are_or_refused_in_a_sentence(measured, kind):
    ids, words = ODD[kind]
    labels = np.zeros((9, 8), np.int32)
    for label, columns in ids.items():
        labels[2, columns] = label
    panel = measured(labels)
    assert words in panel.runner.status.text()
    if min(ids) > 0:
        assert panel.table["label"].tolist() == list(ids)
        assert panel.table["area"].sum() == np.count_nonzero(labels)


def test_53_napari_asks_about_a_running_job_by_a_name_that_tells_it(make_napari_viewer, wait):
    # What its dialog says is no public interface, so this viewer comes without a proxy.
    status = make_napari_viewer().window._task_status_manager
    gate = threading.Event()

    def work(ticket):
        yield None
        gate.wait(30)

    job = Job(work)
    job.start()
    wait(status.is_busy)
    assert any("dinocell_job" in text for text in status.get_status())
    gate.set()
    wait(lambda: not job.is_running)


def test_59_a_damaged_model_is_one_sentence_and_others_can_be_chosen(make_panel, wait, tmp_path):
    _, panel = make_panel(discs())
    wait(panel.button.isEnabled)
    names = [text for text, _ in panel.form.model.options]
    assert {"small", "vits8", "stub"} <= set(names)
    panel.form.model.options = [*panel.form.model.options, ("gone", "gone")]
    panel.form.model.value = "gone"
    wait(lambda: panel.status.text().startswith("⚠"))
    assert "gone" in panel.status.text()
    assert "small" in panel.status.text()
    assert not panel.button.isEnabled()
    panel.form.model.value = "stub"
    wait(panel.button.isEnabled)


def test_60_files_are_alike_where_numbers_have_a_comma(segmented, wait, tmp_path):
    before = QLocale()
    QLocale.setDefault(QLocale(QLocale.Language.German))
    try:
        _, panel = segmented(discs(), scale=(0.5, 0.5), units=("um", "um"))
        panel.form.cell_size.how.value = "type or draw"
        panel.form.cell_size.microns.value = 12.5
        assert panel.form.cell_size.pixels.value == 25
        path = tmp_path / "Zählung über µm.csv"
        panel.results.export("table", path)
        wait(path.exists)
    finally:
        QLocale.setDefault(before)
    header, *rows = path.read_text(encoding="utf-8").splitlines()
    assert len(rows) == n_discs()
    assert {len(row.split(",")) for row in rows} == {len(header.split(","))}
    assert float(rows[0].split(",")[header.split(",").index("area_um2")]) > 0
