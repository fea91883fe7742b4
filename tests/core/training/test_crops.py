"""Random crops: what is drawn, and that image, labels and distance agree."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from napari_dinocell.core.distance import distance_map
from napari_dinocell.core.intensity import intensity_range, normalize
from napari_dinocell.core.rescale import ScaledPlane
from napari_dinocell.core.training.augment import AugmentConfig
from napari_dinocell.core.training.crops import draw_crop, split_pieces
from napari_dinocell.core.training.data import LabeledDataset, LabeledImage
from napari_dinocell.core.training.decode import UNKNOWN

OFF = AugmentConfig.off()
SIZE = 64


def draw(dataset, index, augment=OFF, **changes):
    options = {"seed": 3, "size": SIZE, "diameter": None, "lift": 0.0} | changes
    return draw_crop(dataset, index, augment=augment, **options)


def places(whole, part, tolerance=0.0):
    """Corners (y, x) at which `part` (C, Y, X) occurs in `whole` (C, Y, X)."""
    middle = part.shape[1] // 2
    rows = np.lib.stride_tricks.sliding_window_view(whole[0, middle:], part.shape[2], axis=1)
    corners = np.argwhere(np.abs(rows - part[0, middle]).max(axis=2) <= tolerance)
    return [
        (y, x)
        for y, x in corners
        if (found := whole[:, y : y + SIZE, x : x + SIZE]).shape == part.shape
        and np.abs(found - part).max() <= tolerance
    ]


@pytest.mark.parametrize("color", [False, True])
def test_crop_without_augmentation_is_a_piece_of_the_normalized_plane(specimen, color):
    dataset = specimen.dataset(1, color=color, dtype=np.uint16)
    plane, labels = dataset.read(0)
    normal = normalize(plane, intensity_range(plane))
    normal = np.moveaxis(normal, 2, 0) if color else np.stack([normal] * 3)
    # Instances at the edge of the plane go on as in its mirror image.
    distance = distance_map(np.pad(labels, 40, mode="reflect"), 0.2)[40:-40, 40:-40]
    for index in range(5):
        crop = draw(dataset, index, lift=0.2)
        ((y, x),) = places(normal, crop.image)
        inner = np.s_[y : y + SIZE, x : x + SIZE]
        np.testing.assert_array_equal(crop.labels > 0, labels[inner] > 0)
        np.testing.assert_allclose(crop.distance, distance[inner], atol=1e-6)
        assert crop.weight.all()


def test_images_are_scaled_to_the_diameter(specimen):
    dataset = specimen.dataset(2, radius=6)
    crop = draw(dataset, 0, diameter=24.0, size=192)
    areas = np.bincount(crop.labels[1:-1, 1:-1].ravel())[1:]
    whole = areas[np.isclose(areas, np.median(areas), rtol=0.2)]
    assert 2 * np.sqrt(np.median(whole) / np.pi) == pytest.approx(24, rel=0.03)


def test_scaled_image_is_the_linear_interpolation_of_the_plane(specimen):
    y, x = np.indices((120, 140))
    item = specimen.item("ramp", (100 * y + 37 * x).astype(np.uint16), np.zeros((120, 140), int))
    crop = draw(LabeledDataset([item]), 0, augment=AugmentConfig.off(scale=1, scale_range=(2, 2)))
    # A plane of constant slope keeps it, at half the step per pixel.
    (down, across) = (np.diff(crop.image[0], axis=axis) for axis in (0, 1))
    np.testing.assert_allclose(down, down[0, 0], atol=1e-5)
    assert down[0, 0] / across[0, 0] == pytest.approx(100 / 37, rel=1e-3)
    span = intensity_range((100 * y + 37 * x).astype(np.uint16))
    assert down[0, 0] == pytest.approx(50 / (span.high - span.low), rel=1e-3)


def test_shrinking_averages_the_noise_away_instead_of_picking_pixels(specimen):
    y, x = np.indices((600, 600))
    labels = ((y - 300) ** 2 + (x - 300) ** 2 < 150**2).astype(np.int32)
    noise = np.random.default_rng(0).normal(0, 800, labels.shape)
    plane = (20000 + 20000 * labels + noise).astype(np.uint16)
    dataset = LabeledDataset([specimen.item("noisy", plane, labels)])
    crop = draw(dataset, 0, AugmentConfig.off(scale=1, scale_range=(0.25, 0.25)), size=128)
    span = intensity_range(plane)
    ground = ndimage.binary_erosion(crop.labels == 0, iterations=4)
    spread = crop.image[0][ground].std() * (span.high - span.low)
    # A filter of variance s^2 leaves 1 / (2 sqrt(pi) s) of white noise. Here s^2 is
    # (4^2 - 1) / 6 and 1/4 of the interpolation, which always falls halfway between pixels.
    width = np.sqrt(15 / 6 + 1 / 4)
    assert spread == pytest.approx(800 / (2 * np.sqrt(np.pi) * width), rel=0.07)


@pytest.mark.parametrize(("scale", "tolerance"), [(2.0, 1e-5), (0.5, 0.02)])
def test_crop_equals_the_plane_that_inference_resizes(specimen, scale, tolerance):
    dataset = specimen.dataset(1, shape=(240, 300))
    plane, _ = dataset.read(0)
    resized = ScaledPlane(normalize(plane, intensity_range(plane)), scale)
    whole = resized[0 : resized.shape[0], 0 : resized.shape[1]]
    crop = draw(dataset, 0, AugmentConfig.off(scale=1, scale_range=(scale, scale))).image[0]
    windows = np.lib.stride_tricks.sliding_window_view(whole, (SIZE, SIZE))[:, :, ::8, ::8]
    difference = np.abs(windows - crop[::8, ::8]).mean(axis=(2, 3))
    y, x = np.unravel_index(difference.argmin(), difference.shape)
    same = np.abs(whole[y : y + SIZE, x : x + SIZE] - crop)[1:-1, 1:-1]
    assert same.mean() < tolerance
    assert same.max() < 10 * tolerance


def test_crop_is_a_pure_function_of_seed_and_index(specimen):
    dataset, again = specimen.dataset(3), specimen.dataset(3)
    for index in (5, 2, 9):
        draw(again, index, AugmentConfig())
    for index in (9, 5):
        a, b = draw(dataset, index, AugmentConfig()), draw(again, index, AugmentConfig())
        np.testing.assert_array_equal(a.image, b.image)
        np.testing.assert_array_equal(a.distance, b.distance)
        np.testing.assert_array_equal(a.labels, b.labels)


def test_other_indices_and_seeds_give_other_crops(specimen):
    dataset = specimen.dataset(2)
    crops = [draw(dataset, i, seed=s).image.tobytes() for i in range(4) for s in range(3)]
    assert len(set(crops)) == len(crops)


@pytest.mark.parametrize("lift", [0.0, 0.2])
def test_distance_agrees_with_labels_under_all_augmentations(specimen, lift):
    dataset = specimen.dataset(3)
    for index in range(30):
        crop = draw(dataset, index, AugmentConfig(), lift=lift, diameter=20.0)
        assert crop.image.shape == (3, SIZE, SIZE)
        assert crop.image.dtype == crop.distance.dtype == crop.weight.dtype == np.float32
        assert crop.labels.dtype == np.int32
        assert np.isfinite(crop.image).all()
        np.testing.assert_array_equal(crop.distance > 0, crop.labels > 0)
        assert crop.distance.max(initial=0) <= 1
        ids = np.unique(crop.labels[crop.labels > 0])
        np.testing.assert_array_equal(ids, np.arange(1, len(ids) + 1))
        edge = np.ones_like(crop.labels, bool)
        edge[1:-1, 1:-1] = False
        for cell_id in set(ids) - set(crop.labels[edge]):
            inside = crop.labels == cell_id
            assert crop.distance[inside].max() == 1
            alone = distance_map(inside.astype(np.int32), lift)
            np.testing.assert_allclose(crop.distance[inside], alone[inside], atol=1e-6)


def giant(specimen, radius=55):
    """A data set of one disc that is larger than a crop, and its distance map."""
    labels = np.zeros((300, 300), np.int32)
    y, x = np.indices(labels.shape)
    labels[(y - 150) ** 2 + (x - 150) ** 2 <= radius**2] = 1
    plane = (50 + 100 * labels + 5 * (x // 8 % 2)).astype(np.uint8)
    return LabeledDataset([specimen.item("giant", plane, labels)]), distance_map(labels)


def test_instance_cut_by_the_crop_keeps_the_distance_of_the_whole(specimen):
    dataset, whole = giant(specimen)
    crops = [draw(dataset, index) for index in range(8)]
    cut = [crop for crop in crops if 0 < np.count_nonzero(crop.labels) < crop.labels.size]
    assert len(cut) >= 3
    for crop in cut:
        assert len(places(whole[None], crop.distance[None]))


def test_cut_instance_keeps_the_distance_of_the_whole_under_rotation(specimen):
    dataset, _ = giant(specimen)
    for index in range(6):
        crop = draw(dataset, index, AugmentConfig.off(rotate=1, flip=0.5))
        # On a disc the distance falls by 1 / radius per px wherever the crop cuts it.
        slope = np.hypot(*np.gradient(ndimage.gaussian_filter(crop.distance, 1)))
        inside = ndimage.binary_erosion(crop.labels > 0, iterations=5, border_value=1)
        inside &= crop.distance < 0.85
        inside[:4] = inside[-4:] = inside[:, :4] = inside[:, -4:] = False
        assert np.median(slope[inside]) == pytest.approx(1 / 55, rel=0.05)


def test_mirror_images_beyond_a_small_plane_carry_no_weight(specimen):
    dataset = specimen.dataset(1, shape=(40, 48), radius=6)
    crop = draw(dataset, 0)
    assert crop.weight.sum() == 40 * 48
    rows, columns = (np.flatnonzero(crop.weight.any(axis=a)) for a in (1, 0))
    inner = crop.image[0, rows[0] :, columns[0] :]
    height = len(rows)
    np.testing.assert_array_equal(inner[height - 1 + 4], inner[height - 1 - 4])


@pytest.mark.parametrize("shape", [(1, 1), (7, 3), (1, 200), (257, 31)])
def test_planes_of_any_size_give_crops(specimen, shape):
    plane = np.random.default_rng(0).integers(0, 255, shape).astype(np.uint8)
    labels = np.zeros(shape, np.int32)
    labels[: shape[0] // 2 + 1, : shape[1] // 2 + 1] = 5
    dataset = LabeledDataset([specimen.item("odd", plane, labels)])
    for index in range(4):
        crop = draw(dataset, index, AugmentConfig(), diameter=30.0)
        assert np.isfinite(crop.image).all()
        np.testing.assert_array_equal(crop.distance > 0, crop.labels > 0)


def test_unknown_pixels_have_no_weight_and_no_target(specimen):
    plane, labels = specimen.discs((120, 120), 8, 40)
    item = specimen.item("known", plane, labels)
    dataset = LabeledDataset(
        [LabeledImage("s", "g", item.image, Unknown(labels), item.diameter, item.n_instances)]
    )
    for index in range(8):
        crop = draw(dataset, index, AugmentConfig())
        assert not crop.distance[crop.labels == 0].any()
    crop = draw(dataset, 1, size=120)
    np.testing.assert_array_equal(crop.weight == 0, Unknown(labels)() == UNKNOWN)
    assert not crop.labels[:30, :50].any()


class Unknown:
    """Labels of which a corner was not annotated."""

    def __init__(self, labels):
        self.labels = labels

    def __call__(self):
        labels = self.labels.copy()
        labels[:30, :50] = UNKNOWN
        return labels


def test_label_in_two_pieces_counts_twice_and_slivers_are_dropped():
    labels = np.zeros((12, 20), np.int32)
    labels[1:5, 1:5] = 9
    labels[5, 5] = 9  # touches over a corner: the same piece
    labels[1:4, 10:14] = 9
    labels[8, 1:4] = 3
    labels[8:10, 10:13] = UNKNOWN
    pieces = split_pieces(labels, min_area=4)
    assert pieces.max() == 2
    assert pieces[5, 5] == pieces[1, 1] != pieces[1, 10]
    assert not pieces[8:].any()


def test_most_crops_of_a_sparse_plane_show_its_cell(specimen):
    labels = np.zeros((800, 800), np.int32)
    labels[600:612, 100:112] = 1
    plane = (60 + 120 * labels + np.arange(800) // 16 % 2 * 4).astype(np.uint8)
    dataset = LabeledDataset([specimen.item("sparse", plane, labels)])
    shown = sum(draw(dataset, i).labels.any() for i in range(60))
    assert 30 <= shown < 60


def test_color_is_luminance_for_models_that_see_gray(specimen):
    dataset = specimen.dataset(1, color=True)
    crop = draw(dataset, 0, color=False)
    np.testing.assert_array_equal(crop.image[0], crop.image[2])
    plane = dataset.read(0)[0]
    gray = plane.astype(np.float32) @ np.array([0.2125, 0.7154, 0.0721], np.float32)
    normal = normalize(gray, intensity_range(gray))
    assert len(places(normal[None], crop.image[:1], tolerance=1e-4)) == 1


def test_empty_plane_gives_zeros_and_not_blown_up_noise(specimen):
    noise = np.random.default_rng(0).integers(100, 104, (200, 200)).astype(np.uint8)
    dataset = LabeledDataset([specimen.item("noise", noise, np.zeros((200, 200), int))])
    for index in range(5):
        assert not draw(dataset, index, AugmentConfig()).image.any()


def test_sixteen_bit_values_do_not_pass_through_eight(specimen):
    plane, labels = specimen.discs((160, 200), 9, 60, dtype=np.uint16)
    plane += np.random.default_rng(1).integers(0, 200, plane.shape).astype(np.uint16)
    crop = draw(LabeledDataset([specimen.item("deep", plane, labels)]), 0)
    assert len(np.unique(crop.image[0])) > 512
