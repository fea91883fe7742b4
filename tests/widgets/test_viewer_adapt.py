"""Adaptation in a real viewer: annotate, adapt, cancel, keep, undo, go on."""

import numpy as np
import pytest
from qtpy.QtCore import QRect, Qt
from synthetic import CENTERS, discs

from napari_dinocell.core.adapt import Limits
from napari_dinocell.core.adapt.folds import LEAST_CELLS
from napari_dinocell.core.model.own import own_model_path, own_models
from napari_dinocell.widgets.annotations import _LEAST_CELLS, Counts
from napari_dinocell.widgets.cell_size import ESTIMATE, GIVEN

pytestmark = pytest.mark.qt


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
    assert panel.form.cell_size.how.value == ESTIMATE
    diameter = panel.preview.prediction.scaling.diameter
    wait(panel.button.isEnabled)
    adapting.verdict.segment_button.click()
    assert panel.job is not None
    wait(lambda: panel.job is None)
    assert panel.preview.prediction.model_card.name == name
    # The size of the cells is that of the corrected ones: it is not estimated anew.
    assert panel.form.cell_size.how.value == GIVEN
    assert panel.preview.prediction.scaling.reason == "diameter"
    assert panel.preview.prediction.scaling.diameter == pytest.approx(diameter, abs=0.01)
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


def test_what_is_corrected_while_a_model_learns_is_counted_afterwards(annotated, wait):
    _, panel, adapting = annotated(n_accepted=2)
    adapting.runner.button.click()
    assert adapting.runner.job is not None
    panel.results.tools.corrector.accept([CENTERS[2]])
    wait(lambda: adapting.runner.job is None, 120)
    wait(lambda: adapting.counts.cells == 3)
    assert adapting.annotation.text() == "3 cells, 1 deleted on 1 image."


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
