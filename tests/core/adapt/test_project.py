"""Annotation projects: written, read, made by hand, trained on."""

import json
from pathlib import Path

import imageio.v3 as imageio
import numpy as np
import pytest
import tifffile
from scipy import ndimage

from napari_dinocell.core.adapt.runner import project_examples
from napari_dinocell.core.errors import ImageFileError
from napari_dinocell.core.images import Image, read_image
from napari_dinocell.core.intensity import IntensityRange
from napari_dinocell.core.project import ModelEntry, Project
from napari_dinocell.core.training.data import UNKNOWN
from napari_dinocell.core.training.readers import read_labeled

from .specimens import discs, lattice


@pytest.fixture
def plane():
    centers = lattice((96, 120), 24)
    pixels, labels = discs((96, 120), centers, 7, np.full(len(centers), 0.8))
    return (pixels.clip(0, 1) * 65535).astype(np.uint16), labels


def test_what_was_added_is_read_again(tmp_path, plane):
    pixels, labels = plane
    background = labels == 3
    project = Project.create(tmp_path / "cells")
    project.add(
        "one",
        Image(pixels, "YX", (0.5, 0.5)),
        labels,
        background,
        scale=0.75,
        intensity=IntensityRange(10.0, 900.0, False, 3.0),
        verified=(1, 2),
    )
    project.add_model(
        ModelEntry(file="models/a.safetensors", base="vits8", peak=0.5, fill=0.1, verdict="better")
    )
    again = Project(tmp_path / "cells")
    (entry,) = again.entries
    found = again.read(entry)
    assert np.array_equal(found.image.array, pixels)
    assert found.image.pixel_size_um == (0.5, 0.5)
    assert np.array_equal(found.labels, np.where(labels <= 2, labels, 0))
    assert np.array_equal(found.background, background)
    assert found.regions is None
    (example,) = project_examples(again)
    assert example.scale == 0.75
    assert example.intensity == IntensityRange(10.0, 900.0, False, 3.0)
    assert again.models[0].base == "vits8"


def test_adding_again_replaces_and_leaves_no_old_mask(tmp_path, plane):
    pixels, labels = plane
    project = Project.create(tmp_path)
    project.add("one", Image(pixels, "YX"), labels, labels > 3, labels > 4)
    project.add("one", Image(pixels, "YX"), labels * 0)
    (entry,) = project.entries
    found = project.read(entry)
    assert not found.labels.any()
    assert found.background is found.regions is None


def put(folder, name, pixels, labels):
    """Write a pair as a user would by hand."""
    for kind, array in (("images", pixels), ("labels", labels.astype(np.uint16))):
        (folder / kind).mkdir(exist_ok=True)
        imageio.imwrite(folder / kind / name, array)


def test_a_file_is_that_of_its_whole_stem(tmp_path, plane):
    pixels, labels = plane
    project = Project.create(tmp_path)
    entry = project.add("exp", Image(pixels, "YX"), labels)
    for kind in ("labels", "regions"):
        (tmp_path / kind).mkdir(exist_ok=True)
        tifffile.imwrite(tmp_path / kind / "exp.1.tif", np.ones(labels.shape, np.uint16))
        (tmp_path / kind / "exp.json").write_text("{}")
    found = project.read(entry)
    assert np.array_equal(found.labels, labels)
    assert found.regions is None
    project.add("exp", Image(pixels, "YX"), labels)
    assert (tmp_path / "regions" / "exp.1.tif").is_file()
    tifffile.imwrite(tmp_path / "labels" / "exp.ome.tif", labels.astype(np.uint16))
    with pytest.raises(ValueError, match="have one stem"):
        project.read(entry)


def test_adding_replaces_files_of_the_same_stem_and_another_kind(tmp_path, plane):
    pixels, labels = plane
    put(tmp_path, "a.png", pixels, labels * 0 + 1)
    for kind in ("background", "regions"):
        (tmp_path / kind).mkdir()
        imageio.imwrite(tmp_path / kind / "a.png", np.full(labels.shape, 255, np.uint8))
    project = Project.create(tmp_path)
    project.add("a.ome", Image(pixels // 2, "YX"), labels, labels == 3)
    (entry,) = Project(tmp_path).entries
    found = project.read(entry)
    assert np.array_equal(found.image.array, pixels // 2)
    assert np.array_equal(found.labels, labels)
    assert np.array_equal(found.background, labels == 3)
    assert found.regions is None
    assert not list(tmp_path.rglob("*.png"))


def test_an_image_that_is_named_in_place_is_never_removed(tmp_path, plane):
    pixels, labels = plane
    put(tmp_path, "a.png", pixels, labels)
    there = tmp_path / "images" / "a.png"
    project = Project.create(tmp_path)
    entry = project.add("a", read_image(there), labels, reference=there)
    assert entry.image == "images/a.png"
    assert np.array_equal(project.read(entry).image.array, pixels)


def test_cells_that_nobody_verified_are_unknown_even_where_a_region_is_complete(tmp_path, plane):
    pixels, labels = plane
    labels = labels.copy()
    # A neighbor that touches a verified cell: the rim around that one must stop at it.
    touching = (np.roll(labels == 1, 14, axis=1)) & (labels == 0)
    labels[touching] = 90
    project = Project.create(tmp_path / "cells")
    region = np.ones(labels.shape, bool)
    verified = (1, 2)
    doubtful = (labels > 0) & ~np.isin(labels, verified)
    entry = project.add("a", Image(pixels, "YX"), labels, regions=region, verified=verified)
    found = project.read(entry)
    assert np.array_equal(found.regions, ~doubtful)
    assert np.array_equal(np.unique(found.labels), [0, 1, 2])
    (example,) = project_examples(project)
    assert not example.complete_regions[doubtful].any()
    project.add("b", Image(pixels, "YX"), labels, verified=verified)
    rim = ndimage.binary_dilation(np.isin(labels, verified), iterations=1) & doubtful
    assert rim.any()
    for index, where in ((0, doubtful), (1, rim)):
        read = read_labeled(tmp_path / "cells").read(index)[1]
        assert (read[where] == UNKNOWN).all()
        assert (read[labels == 1] == 1).all()
    assert (read_labeled(tmp_path / "cells").read(0)[1][labels == 0] == 0).all()


def test_pairs_that_were_put_into_the_folder_are_found_before_and_after_it_is_a_project(
    tmp_path, plane
):
    pixels, labels = plane
    put(tmp_path, "a.tif", pixels, labels)
    assert [entry.name for entry in Project.create(tmp_path).entries] == ["a"]
    put(tmp_path, "b.tif", pixels, labels)
    imageio.imwrite(tmp_path / "images" / "unlabeled.tif", pixels)
    project = Project(tmp_path)
    assert [entry.name for entry in project.entries] == ["a", "b"]
    project.add_model(
        ModelEntry(file="models/a.safetensors", base="vits8", peak=0.5, fill=0.1, verdict="better")
    )
    put(tmp_path, "c.tif", pixels, labels)
    assert [entry.name for entry in Project(tmp_path).entries] == ["a", "b", "c"]
    assert len(read_labeled(tmp_path)) == 3


def test_a_folder_made_by_hand_is_a_project(tmp_path, plane):
    pixels, labels = plane
    put(tmp_path, "a.tif", pixels, labels)
    (tmp_path / "regions").mkdir()
    tifffile.imwrite(tmp_path / "regions" / "a.tif", np.ones(labels.shape, np.uint8))
    project = Project(tmp_path)
    found = project.read(project.entries[0])
    assert np.array_equal(found.labels, labels)
    assert found.regions.all()


def test_images_may_stay_where_they_are_but_not_change(tmp_path, plane):
    pixels, labels = plane
    there = tmp_path / "raw" / "a.tif"
    there.parent.mkdir()
    tifffile.imwrite(there, pixels)
    project = Project.create(tmp_path / "cells")
    entry = project.add("a", read_image(there), labels, reference=there)
    assert entry.image == "../raw/a.tif"
    assert not (tmp_path / "cells" / "images").exists()
    assert np.array_equal(project.read(entry).image.array, pixels)
    moved = tmp_path / "moved"
    moved.mkdir()
    (tmp_path / "raw").rename(moved / "raw")
    (tmp_path / "cells").rename(moved / "cells")
    assert np.array_equal(Project(moved / "cells").read(entry).image.array, pixels)
    tifffile.imwrite(moved / "raw" / "a.tif", pixels + 1)
    with pytest.raises(ImageFileError, match="not the image that was annotated"):
        Project(moved / "cells").read(entry)


def test_training_reads_it_and_takes_unlabeled_pixels_for_unknown(tmp_path, plane):
    pixels, labels = plane
    color = np.stack([pixels] * 2 + [pixels // 2], axis=-1)
    project = Project.create(tmp_path / "cells")
    deleted = labels == 5
    region = np.zeros(labels.shape, bool)
    region[:, :24] = True
    project.add("gray", Image(pixels, "YX"), np.where(labels == 7, 7, 0), deleted, region)
    project.add("color", Image(color, "YXS"), labels)
    dataset = read_labeled(tmp_path / "cells")
    assert dataset.set_names == ("cells",)
    assert [item.n_instances for item in dataset] == [1, 20]
    seen, read = dataset.read(0)
    assert np.array_equal(seen, pixels)
    assert (read[labels == 7] == 7).all()
    assert (read[deleted | region] == 0).all()
    others = (labels > 0) & ~np.isin(labels, [5, 7]) & ~region
    assert (read[others] == UNKNOWN).all()
    assert 0 < (read[~deleted & ~region] == 0).sum() < 150, "a rim of background around the cell"
    assert dataset.read(1)[0].shape == color.shape


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ("{", "is not JSON"),
        (json.dumps({"format": "other"}), "format: Input should be"),
        (json.dumps({"images": [{"name": "a/b", "image": "x"}]}), "images.0.name"),
        (json.dumps({"version": 2}), "version"),
        (
            json.dumps({"images": [{"name": "a", "image": "x", "intensity": {"low": 1}}]}),
            "images.0.intensity",
        ),
        (
            json.dumps({"images": [{"name": "a", "image": "x", "intensity": [1, 2]}]}),
            "images.0.intensity",
        ),
    ],
)
def test_a_damaged_project_is_one_sentence(tmp_path, content, sentence):
    (tmp_path / "project.json").write_text(content)
    with pytest.raises(ValueError, match=sentence):
        Project(tmp_path)


def test_what_is_absent_or_does_not_fit_is_one_sentence(tmp_path, plane):
    pixels, labels = plane
    with pytest.raises(FileNotFoundError, match="There is no folder"):
        Project(tmp_path / "absent")
    with pytest.raises(FileNotFoundError, match="no annotation project"):
        Project(tmp_path)
    project = Project.create(tmp_path)
    with pytest.raises(ValueError, match="single planes"):
        project.add("a", Image(np.stack([pixels] * 2), "ZYX"), labels)
    with pytest.raises(ValueError, match="background of a have the shape"):
        project.add("a", Image(pixels, "YX"), labels, labels[:5])
    entry = project.add("a", Image(pixels, "YX"), labels)
    tifffile.imwrite(tmp_path / "labels" / "a.tif", labels[:9].astype(np.uint16))
    with pytest.raises(ImageFileError, match="9 x 120 px"):
        project.read(entry)
    Path(tmp_path / "labels" / "a.tif").unlink()
    with pytest.raises(FileNotFoundError, match="has no labels"):
        project.read(entry)
