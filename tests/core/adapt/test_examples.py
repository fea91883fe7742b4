import numpy as np
import pytest

from napari_dinocell.core.adapt.examples import Example, annotate, examples_of
from napari_dinocell.core.images import Image
from napari_dinocell.core.model.network import build_network

from .specimens import SMALL, card_of, discs, lattice

CARD = card_of(build_network(SMALL))


def plane_of(shape=(96, 96)):
    centers = lattice(shape, 24)
    return discs(shape, centers, 7, np.full(len(centers), 0.8))


def test_ids_become_consecutive_and_diameters_are_those_of_the_discs():
    plane, labels = plane_of()
    sparse = np.where(np.isin(labels, [3, 9]), labels * 1000, 0)
    annotation = annotate(Example(plane, sparse), CARD)
    assert set(np.unique(annotation.labels)) == {0, 1, 2}
    assert annotation.diameters[1:] == pytest.approx([14, 14], abs=0.5)
    assert annotation.n_empty == 0


def test_each_deleted_cell_is_a_unit_and_large_background_is_cut_into_blocks():
    plane, labels = plane_of((256, 256))
    deleted = np.isin(labels, [1, 2, 3])
    assert annotate(Example(plane, labels * 0, background=deleted), CARD).n_empty == 3
    drawn = np.zeros_like(deleted)
    drawn[0:128, 0:192] = True
    assert annotate(Example(plane, labels * 0, background=drawn), CARD).n_empty == 6


def test_a_complete_region_is_background_where_no_cell_is_labeled():
    plane, labels = plane_of()
    region = np.zeros(labels.shape, bool)
    region[:48] = True
    annotation = annotate(Example(plane, labels, complete_regions=region), CARD)
    assert np.array_equal(annotation.empty > 0, region & (labels == 0))


def test_everything_may_be_empty():
    plane, labels = plane_of()
    annotation = annotate(Example(plane, labels * 0, background=np.ones_like(labels)), CARD)
    assert annotation.empty.min() == 1


def test_a_label_of_two_pixels_is_neither_cell_nor_background():
    plane, labels = plane_of()
    labels = labels.copy()
    labels[0, :2] = 99
    annotation = annotate(
        Example(plane, labels, complete_regions=np.ones(labels.shape, bool)), CARD
    )
    assert annotation.labels[0, 0] == annotation.empty[0, 0] == 0


def test_a_cell_in_background_that_was_marked_wins():
    plane, labels = plane_of()
    annotation = annotate(Example(plane, labels, background=np.ones(labels.shape)), CARD)
    assert not (annotation.empty[labels > 0]).any()


def test_annotation_and_pixels_are_scaled_alike():
    plane, labels = plane_of()
    annotation = annotate(Example(plane, labels, diameter=28.0), CARD)
    assert annotation.scale == 0.5
    assert annotation.shape == annotation.plane.shape == (48, 48)
    assert annotation.diameters[1:] == pytest.approx(7, abs=0.8)
    pixels = annotation.plane[0:48, 0:48]
    assert pixels[annotation.labels > 0].mean() > 2 * pixels[annotation.labels == 0].mean()


def test_labeled_cells_tell_the_scale_where_nothing_else_does():
    large, labels = (np.kron(part, np.ones((3, 3), part.dtype)) for part in plane_of())
    annotation = annotate(Example(large, labels), CARD)
    assert annotation.scale == pytest.approx(1 / 3, rel=0.05)
    assert annotation.diameters[1:] == pytest.approx(14, rel=0.1)
    assert annotate(Example(large, labels, scale=1.0), CARD).scale == 1.0
    assert annotate(Example(large, labels * 0, background=labels == 0), CARD).scale == 1.0


def test_planes_of_a_stack_become_examples_where_something_is_annotated():
    plane, labels = plane_of()
    stack, marks = np.stack([plane, plane * 0.5, plane]), np.zeros((3, *labels.shape), int)
    marks[2] = np.where(labels == 4, 4, 0)
    background = np.zeros(marks.shape, bool)
    background[1, :10] = True
    found = examples_of(Image(stack, "TYX", source="movie"), marks, background)
    assert [one.name for one in found] == ["movie T 1", "movie T 2"]
    assert np.array_equal(found[1].image.array, stack[2])
    assert found[0].background.sum() == 960


def test_transposed_axes_and_channels_give_the_same_annotation():
    plane, labels = plane_of((96, 120))
    there = annotate(examples_of(Image(plane, "YX"), labels)[0], CARD)
    image = Image(np.stack([plane.T, 0 * plane.T]), "CXY", channel_names=("a", "b"))
    back = annotate(examples_of(image, labels.T, channel="a")[0], CARD)
    assert np.array_equal(there.labels, back.labels)
    assert np.allclose(there.plane[0:96, 0:120], back.plane[0:96, 0:120])


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"labels": np.zeros((5, 5), int)}, r"Labels of image have the shape \(5, 5\)"),
        ({"background": np.zeros((5, 5))}, "Background marks of image"),
        ({"complete_regions": np.zeros((5, 5))}, "Complete regions of image"),
        ({"labels": -np.ones((96, 96), int)}, "negative ids"),
        ({"image": Image(np.zeros((2, 96, 96)), "ZYX")}, "one plane"),
    ],
)
def test_what_does_not_fit_is_one_sentence(change, sentence):
    plane, labels = plane_of()
    with pytest.raises(ValueError, match=sentence):
        Example(**{"image": plane, "labels": labels} | change)


def test_labels_that_are_no_integers_are_refused():
    plane, labels = plane_of()
    with pytest.raises(TypeError, match="give integers"):
        Example(plane, labels.astype(float))
