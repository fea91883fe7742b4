"""Pictures of results."""

import colorsys
from pathlib import Path

import imageio.v3 as iio
import numpy as np
import pytest

from napari_dinocell.core.overlay import edge_pixels, overlay, write_overlay


def test_outline_of_a_square_is_its_rim() -> None:
    labels = np.zeros((7, 7), np.int32)
    labels[1:6, 1:6] = 3
    rim = labels > 0
    rim[2:5, 2:5] = False
    np.testing.assert_array_equal(edge_pixels(labels), rim)


def test_cells_that_touch_have_an_outline_on_both_sides_and_two_colors() -> None:
    labels = np.array([[1, 1, 2, 2]], np.int32)
    np.testing.assert_array_equal(edge_pixels(labels), [[False, True, True, False]])
    picture = overlay(np.zeros((1, 4)), labels)
    assert (picture[0, 1] != picture[0, 2]).any()


def test_an_image_without_cells_is_drawn_without_a_line() -> None:
    plane = np.arange(600, dtype=np.uint16).reshape(20, 30)
    picture = overlay(plane, np.zeros((20, 30), np.int32))
    assert picture.shape == (20, 30, 3)
    assert (picture == picture[..., :1]).all()


def test_color_stays_color_away_from_the_outlines() -> None:
    plane = np.zeros((32, 32, 3), np.uint8)
    plane[:16, :, 0] = 200
    picture = overlay(plane, np.zeros((32, 32), np.int32))
    assert picture[0, 0, 0] > picture[0, 0, 1]


@pytest.mark.parametrize("stain", [(120, 60, 150), (200, 90, 90), (80, 150, 200)])
def test_no_line_on_a_stain_has_its_hue(stain: tuple[int, int, int]) -> None:
    plane = np.full((80, 40, 3), 240, np.uint8)
    plane[:40] = stain
    labels = np.zeros((80, 40), np.int32)
    labels[:40] = np.kron(np.arange(1, 65).reshape(8, 8), np.ones((5, 5), np.int32))
    below = overlay(plane, np.zeros_like(labels))[0, 0]
    lines = overlay(plane, labels)[edge_pixels(labels)]
    hues = np.array([colorsys.rgb_to_hsv(*line)[0] for line in lines / 255])
    apart = np.abs(hues - colorsys.rgb_to_hsv(*(below / 255))[0])
    assert np.minimum(apart, 1 - apart).min() > 0.15
    assert len(np.unique(lines, axis=0)) == 64


@pytest.mark.parametrize("fill", [0, np.nan])
def test_a_constant_or_empty_plane_gives_a_picture(fill: float) -> None:
    plane = np.full((9, 9), fill, np.float32)
    assert overlay(plane, np.ones((9, 9), np.int32)).dtype == np.uint8


def test_a_plane_of_another_size_is_refused() -> None:
    with pytest.raises(ValueError, match=r"\(3, 3\)"):
        overlay(np.zeros((4, 4)), np.zeros((3, 3), np.int32))


def test_the_file_holds_the_picture_and_huge_planes_are_thinned(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    plane, labels = rng.random((20, 30)), rng.integers(0, 3, (20, 30))
    write_overlay(tmp_path / "a.png", plane, labels)
    np.testing.assert_array_equal(iio.imread(tmp_path / "a.png"), overlay(plane, labels))
    write_overlay(tmp_path / "b.png", np.zeros((3, 9000)), np.zeros((3, 9000), np.int32))
    assert iio.imread(tmp_path / "b.png").shape == (1, 3000, 3)
