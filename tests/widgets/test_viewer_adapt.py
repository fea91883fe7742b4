"""Adaptation in a real viewer: annotate, adapt, cancel, keep, undo, go on."""

import numpy as np
import pytest
from qtpy.QtCore import QRect, Qt
from synthetic import discs

from napari_dinocell.core.adapt import Limits
from napari_dinocell.core.adapt.folds import LEAST_CELLS
from napari_dinocell.core.model.own import own_model_path, own_models
from napari_dinocell.widgets.annotations import _LEAST_CELLS, Counts

pytestmark = pytest.mark.qt

SHORT = Limits(feature_seconds=4, training_seconds=2, n_views=1)
CENTERS = [(20.0 + 40 * i, 20.0 + 40 * j) for i in range(4) for j in range(5)]


@pytest.fixture
def annotated(segmented, wait):
    """A segmented image, some of its cells accepted, one deleted, and the panel to adapt with."""

    def make(n_accepted=8, image=None):
        viewer, panel = segmented(discs() if image is None else image)
        corrector = panel.results.tools.corrector
        for center in CENTERS[:n_accepted]:
            corrector.accept([center])
        corrector.reject([CENTERS[-1]])
        panel.results.further.adapt.click()
        adapting = panel.results.further.adapting
        adapting.limits = SHORT
        wait(lambda: adapting.base.count())
        adapting.choose_base("small")
        wait(lambda: adapting.counts.cells == n_accepted)
        return viewer, panel, adapting

    return make


def adapt(adapting, wait):
    adapting.runner.button.click()
    assert adapting.runner.job is not None, adapting.runner.status.text()
    wait(lambda: adapting.runner.job is None, 120)


def chosen(panel):
    return panel.form.model.value


def test_what_is_annotated_is_told(annotated):
    _, _, adapting = annotated()
    assert adapting.counts.deleted == 1
    assert adapting.annotation.text() == "8 cells, 1 deleted on 1 image."


@pytest.mark.parametrize(
    ("counts", "advice"),
    [
        (Counts(1, 2), "From 3 cells on"),
        (Counts(1, 5), "Delete what is none, too"),
        (Counts(1, 5, deleted=1), ""),
        (Counts(1, 5, regions=1), ""),
    ],
)
def test_what_is_lacking_is_told_before_a_minute_is_spent(counts, advice):
    _, _, after = counts.sentence().partition("on 1 image.")
    assert after.strip().startswith(advice) if advice else not after
    assert _LEAST_CELLS == LEAST_CELLS


def test_a_verdict_comes_with_its_reason_and_only_what_is_better_is_kept(annotated, wait):
    _viewer, _panel, adapting = annotated()
    adapt(adapting, wait)
    outcome = adapting.verdict.outcome
    report = outcome.adapted.report
    assert report.n_cells == 8
    assert report.n_empty >= 1
    assert report.sentence() in adapting.verdict.text.text()
    assert adapting.curve.held_out == tuple(report.folds[-1].held_out)
    is_better = report.verdict in ("better", "thresholds")
    assert bool(outcome.name) is is_better
    assert own_models() == ((outcome.name,) if is_better else ())
    assert adapting.verdict.undo_button.isVisibleTo(adapting) is is_better
    for label in (adapting.verdict.title, adapting.verdict.text):
        for width in range(240, 340, 5):
            assert_height_fits_the_words(label, width)


def assert_height_fits_the_words(label, width):
    """No blank lines around the words, none cut off, at the width that they are wrapped at."""
    frame = (
        label.width() - label.contentsRect().width(),
        label.height() - label.contentsRect().height(),
    )
    metrics = label.fontMetrics()
    words = metrics.boundingRect(
        QRect(0, 0, width - frame[0], 10_000), Qt.TextFlag.TextWordWrap, label.text()
    )
    blank = label.heightForWidth(width) - frame[1] - words.height()
    assert 0 <= blank < metrics.lineSpacing(), (label.text(), width)


def test_two_cells_verify_nothing_so_the_user_is_asked_and_may_undo(annotated, wait):
    viewer, panel, adapting = annotated(n_accepted=2)
    before = chosen(panel)
    adapt(adapting, wait)
    assert "can't be verified" in adapting.verdict.text.text()
    assert own_models() == ()
    assert chosen(panel) == before
    adapting.verdict.keep_button.click()
    wait(own_models)
    (name,) = own_models()
    wait(lambda: chosen(panel) == name)
    assert name == "image adapted"
    # The corrections survive a run of the new model, and go on in the same layer.
    corrected = viewer.layers["image corrected"].data.copy()
    wait(panel.button.isEnabled)
    adapting.verdict.segment_button.click()
    assert panel.job is not None
    wait(lambda: panel.job is None)
    assert panel.preview.prediction.model_card.name == name
    assert panel.preview.corrected == viewer.layers["image corrected"]
    np.testing.assert_array_equal(viewer.layers["image corrected"].data, corrected)
    wait(lambda: panel.preview.is_following)
    assert not (panel.preview.layer.data[corrected > 0] > 0).any()
    assert viewer.layers[-1].name == "image corrected"
    # Adapt again, from the adapted model.
    adapting.choose_base(name)
    assert adapting.base.currentText() == name
    adapt(adapting, wait)
    assert adapting.verdict.outcome.base == name
    adapting.verdict.keep_button.click()
    wait(lambda: chosen(panel) == "image adapted 2")
    adapting.verdict.undo_button.click()
    wait(lambda: chosen(panel) == name)
    assert own_models() == (name,)
    assert not own_model_path("image adapted 2").exists()


def test_cancel_keeps_the_best_so_far(annotated, wait):
    _, _, adapting = annotated(n_accepted=2)
    adapting.limits = Limits(feature_seconds=4, training_seconds=300, n_views=1)
    adapting.runner.button.click()
    wait(lambda: len(adapting.curve.steps) > 1, 120)
    assert "left" in adapting.runner.bar.format()
    adapting.runner.button.click()
    wait(lambda: adapting.runner.job is None, 60)
    assert adapting.verdict.outcome.adapted.report.is_cancelled
    assert "stopped the training early" in adapting.verdict.text.text()


def test_a_cancel_before_there_is_anything_to_keep_is_no_error(annotated, wait):
    _, _, adapting = annotated()
    adapting.runner.button.click()
    adapting.runner.button.click()
    wait(lambda: adapting.runner.job is None, 60)
    assert adapting.runner.status.text() == "Cancelled."
    assert adapting.verdict.outcome is None
    assert own_models() == ()


def test_a_viewer_that_is_closed_in_mid_training_ends_it_and_keeps_nothing(annotated, wait):
    viewer, _, adapting = annotated(n_accepted=2)
    adapting.limits = Limits(feature_seconds=4, training_seconds=300, n_views=1)
    adapting.runner.button.click()
    wait(lambda: len(adapting.curve.steps) > 1, 120)
    worker = adapting.runner.job._worker
    finished = []
    worker.finished.connect(lambda: finished.append(True))
    viewer.close()
    wait(lambda: finished, 60)
    assert own_models() == ()


def test_layers_may_go_while_a_model_learns_from_them(annotated, wait):
    viewer, _, adapting = annotated(n_accepted=2)
    adapting.runner.button.click()
    viewer.layers["image"].name = "other"
    viewer.layers.remove("image corrected")
    viewer.layers.remove("other")
    wait(lambda: adapting.runner.job is None, 120)
    assert adapting.verdict.outcome.adapted.report.n_cells == 2


def test_without_annotation_the_user_is_told_what_to_do(segmented, wait):
    _viewer, panel = segmented(discs())
    panel.results.further.adapt.click()
    adapting = panel.results.further.adapting
    wait(lambda: adapting.base.count())
    adapting.runner.button.click()
    assert "accept, delete or correct some cells" in adapting.runner.status.text()
    assert adapting.runner.job is None


def test_cells_in_a_drawn_region_are_annotated(annotated, wait):
    viewer, _panel, adapting = annotated(n_accepted=1)
    adapting.region_button.click()
    shapes = viewer.layers["image complete"]
    assert viewer.layers.selection.active == shapes
    assert str(shapes.mode) == "add_rectangle"
    shapes.add_rectangles(np.array([(-0.5, -0.5), (-0.5, 79.5), (79.5, 79.5), (79.5, -0.5)]))
    wait(lambda: adapting.counts.cells == 4)
    assert adapting.counts.regions == 1
    adapting.region_button.click()
    assert [layer.name for layer in viewer.layers].count("image complete") == 1


def test_the_suggestion_is_framed_and_in_view_and_not_where_all_is_said(annotated, wait):
    plane = discs().astype(float)
    # One cell whose summit lies at the peak threshold.
    top, left = 90, 90
    cell = plane[top - 10 : top + 30, left - 10 : left + 30]
    cell[...] = 100 + (cell - 100) * 0.62
    viewer, panel, adapting = annotated(image=plane.astype(np.uint16))
    wait(adapting.suggest_button.isEnabled)
    adapting.suggest_button.click()
    wait(lambda: adapting.suggest_button.frame is not None)
    corners = adapting.suggest_button.frame.data[0]
    low, high = corners.min(axis=0), corners.max(axis=0)
    assert (low <= (100, 100)).all()
    assert (high >= (100, 100)).all()
    camera = getattr(viewer, "scene", viewer).camera
    np.testing.assert_allclose(camera.center[-2:], (low + high) / 2)
    assert "Look here" in adapting.runner.status.text()
    for center in CENTERS:
        panel.results.tools.corrector.accept([center])
    wait(lambda: adapting.counts.cells == len(CENTERS) - 1)  # one of them is deleted
    # What to do next stays on screen while it is done.
    assert "Look here" in adapting.runner.status.text()
    assert adapting.annotation.text().startswith(f"{len(CENTERS) - 1} cells")
    adapting.suggest_button.click()
    wait(lambda: "in doubt" in adapting.runner.status.text())


def test_a_project_is_saved_and_opened_in_another_session(annotated, wait, tmp_path, make_napari_viewer_proxy):  # fmt: skip
    from napari_dinocell.core.project import Project  # noqa: PLC0415
    from napari_dinocell.widgets.adapt_panel import AdaptPanel  # noqa: PLC0415
    from napari_dinocell.widgets.segment_panel import SegmentPanel  # noqa: PLC0415

    viewer, panel, adapting = annotated(n_accepted=2)
    adapting.region_button.click()
    viewer.layers["image complete"].add_rectangles(
        np.array([(79.5, 79.5), (79.5, 159.5), (159.5, 159.5), (159.5, 79.5)])
    )
    wait(lambda: adapting.counts.cells == 2 + 4)
    adapt(adapting, wait)
    if adapting.verdict.keep_button.isVisibleTo(adapting):
        adapting.verdict.keep_button.click()
        wait(own_models)
    models = own_models()
    adapting.project.save(tmp_path / "project")
    wait(lambda: adapting.project.runner.job is None)
    assert adapting.project.runner.status.text() == "Wrote 1 plane to project."
    project = Project(tmp_path / "project")
    (entry,) = project.entries
    stored = project.read(entry)
    np.testing.assert_array_equal(stored.image.array, discs())
    assert len(np.unique(stored.labels)) - 1 == 6
    assert stored.regions.sum() == 80 * 80
    assert stored.background.any()
    assert entry.scale == panel.preview.prediction.scale
    assert tuple(model.file for model in project.models) == tuple(
        f"models/{name}.safetensors" for name in models
    )
    for name in models:
        own_model_path(name).unlink()

    other = make_napari_viewer_proxy()
    opener = AdaptPanel(other)
    other.window.add_dock_widget(opener)
    wait(lambda: opener.base.count())
    opener.project.open(tmp_path / "project")
    wait(lambda: opener.counts.cells == 6)
    assert own_models() == models
    assert opener.counts.regions == 1
    np.testing.assert_array_equal(other.layers["image"].data, discs())
    opener.project.save(tmp_path / "again")
    wait(lambda: opener.project.runner.status.text() == "Wrote 1 plane to again.")
    again = Project(tmp_path / "again")
    copy = again.read(again.entries[0])
    np.testing.assert_array_equal(copy.labels > 0, stored.labels > 0)
    np.testing.assert_array_equal(copy.background, stored.background)
    np.testing.assert_array_equal(copy.regions, stored.regions)

    # The corrections are those of the next run on that image.
    segment = SegmentPanel(other, panel.engine)
    other.window.add_dock_widget(segment)
    wait(lambda: chosen(segment) is not None)
    segment.form.model.value = "stub"
    wait(segment.button.isEnabled)
    segment.button.click()
    wait(lambda: segment.job is None)
    assert segment.preview.corrected == other.layers["image corrected"]


def test_a_folder_that_is_no_project_is_told(annotated, wait, tmp_path):
    _, _, adapting = annotated(n_accepted=1)
    adapting.project.open(tmp_path)
    wait(lambda: adapting.project.runner.job is None)
    assert "is no annotation project" in adapting.project.runner.status.text()
