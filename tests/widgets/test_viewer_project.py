"""Annotation projects in a real viewer: save, open, go on, and nothing that was there is lost."""

import imageio.v3 as imageio
import numpy as np
import pytest
from synthetic import CENTERS, discs

from napari_dinocell.core.images import Image
from napari_dinocell.core.model.files import BackboneReference, load_model, save_model
from napari_dinocell.core.model.own import own_model_path, own_models
from napari_dinocell.core.model.store import write_safetensors
from napari_dinocell.core.project import ModelEntry, Project

pytestmark = pytest.mark.qt


def test_a_project_is_saved_and_opened_in_another_session(annotated, wait, tmp_path, make_napari_viewer_proxy):  # fmt: skip
    from napari_dinocell.widgets.adapt_panel import AdaptPanel  # noqa: PLC0415
    from napari_dinocell.widgets.segment_panel import SegmentPanel  # noqa: PLC0415

    viewer, panel, adapting = annotated(n_accepted=2)
    adapting.region_button.click()
    viewer.layers["image complete"].add_rectangles(
        np.array([(79.5, 79.5), (79.5, 159.5), (159.5, 159.5), (159.5, 79.5)])
    )
    wait(lambda: adapting.counts.cells == 2 + 4)
    adapting.runner.button.click()
    wait(lambda: adapting.runner.job is None, 120)
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
    wait(lambda: segment.form.model.value is not None)
    segment.form.model.value = "stub"
    wait(segment.button.isEnabled)
    segment.button.click()
    wait(lambda: segment.job is None)
    assert segment.preview.corrected == other.layers["image corrected"]


def saved(adapting, folder, wait):
    """Save as a project; give the line about it."""
    adapting.project.save(folder)
    wait(lambda: adapting.project.runner.job is None)
    return adapting.project.runner.status.text()


def test_saving_again_replaces_what_was_saved_and_no_other_image_of_that_name(
    annotated, wait, tmp_path
):
    other = discs()[::-1].copy()
    labels = (other > 1000).astype(np.uint16)
    Project.create(tmp_path).add("image", Image(other, "YX"), labels)
    before = {path: path.read_bytes() for path in tmp_path.rglob("*.tif")}
    _, panel, adapting = annotated(n_accepted=2)
    sentence = saved(adapting, tmp_path, wait)
    assert sentence.startswith(f"Wrote 1 plane to {tmp_path.name}.")
    assert sentence.endswith("“image” is called “image 2”.")
    panel.results.tools.corrector.accept([CENTERS[2]])
    assert saved(adapting, tmp_path, wait) == sentence
    assert {path: path.read_bytes() for path in before} == before
    project = Project(tmp_path)
    assert [entry.name for entry in project.entries] == ["image", "image 2"]
    mine = project.read(project.entries[1])
    np.testing.assert_array_equal(mine.image.array, discs())
    assert len(np.unique(mine.labels)) - 1 == 3


def test_annotation_made_elsewhere_is_replaced_only_after_it_was_opened(annotated, wait, tmp_path):
    (tmp_path / "images").mkdir()
    (tmp_path / "labels").mkdir()
    imageio.imwrite(tmp_path / "images" / "image.png", discs())
    imageio.imwrite(tmp_path / "labels" / "image.png", (discs() > 1000).astype(np.uint16))
    viewer, _, adapting = annotated(n_accepted=2)
    saved(adapting, tmp_path, wait)
    assert (tmp_path / "labels" / "image.png").is_file()
    assert [entry.name for entry in Project(tmp_path).entries] == ["image", "image 2"]
    viewer.layers.clear()
    adapting.project.open(tmp_path)
    wait(lambda: adapting.counts.images == 2)
    assert saved(adapting, tmp_path, wait) == f"Wrote 2 planes to {tmp_path.name}."
    again = Project(tmp_path)
    assert sorted(entry.name for entry in again.entries) == ["image", "image 2"]
    # The image that lay there is still the file that it was.
    assert {entry.image for entry in again.entries} == {"images/image.png", "images/image 2.tif"}
    assert len(list((tmp_path / "images").iterdir())) == 2
    for entry in again.entries:
        np.testing.assert_array_equal(again.read(entry).image.array, discs())


def test_a_model_without_its_encoder_does_not_keep_a_project_closed(annotated, wait, tmp_path):
    network, card = load_model("small")
    project = Project.create(tmp_path)
    project.add("a", Image(discs(), "YX"), (discs() > 1000).astype(np.uint16))
    lost = card.model_copy(
        update={"backbone": BackboneReference(file="lost.safetensors", sha256="0" * 64)}
    )
    save_model(tmp_path / "models" / "whole.safetensors", network, card)
    write_safetensors(
        tmp_path / "models" / "orphan.safetensors",
        {f"decoder.{key}": value for key, value in network.decoder.state_dict().items()},
        {"card": lost.model_dump_json()},
    )
    for name in ("orphan", "whole", "absent"):
        file = f"models/{name}.safetensors"
        project.add_model(ModelEntry(file=file, base="small", peak=0.5, fill=0.1, verdict="better"))
    viewer, _, adapting = annotated(n_accepted=1)
    adapting.project.open(tmp_path)
    wait(lambda: adapting.project.runner.job is None)
    assert "a corrected" in viewer.layers
    text = adapting.project.runner.status.text()
    assert "New models: whole." in text
    assert "⚠ orphan.safetensors needs the backbone file lost.safetensors" in text
    assert "absent.safetensors" in text
    assert own_models() == ("whole",)


def test_a_folder_that_is_no_project_is_told(annotated, wait, tmp_path):
    _, _, adapting = annotated(n_accepted=1)
    adapting.project.open(tmp_path)
    wait(lambda: adapting.project.runner.job is None)
    assert "is no annotation project" in adapting.project.runner.status.text()
    Project.create(tmp_path)
    adapting.project.open(tmp_path)
    wait(lambda: adapting.project.runner.job is None)
    assert "holds no annotated image yet" in adapting.project.runner.status.text()
