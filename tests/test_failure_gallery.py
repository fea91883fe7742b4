"""What the failure gallery calls missed, split, merged, spurious and misshapen."""

import sys
from pathlib import Path

import imageio.v3 as iio
import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1] / "scripts"))

from failure_gallery import COLORS, Failure, classify, drawn, gallery

from napari_dinocell.core.overlaps import overlap_table


def field(*rows: str) -> np.ndarray:
    """One hexadecimal digit per pixel."""
    return np.array([[int(c, 16) for c in row] for row in rows], np.int32)


TRUTH = field(
    "0111111000000",  # found
    "0222222000000",  # missed
    "0333333000000",  # split in three
    "0445566000000",  # three merged into one
    "0777777000000",  # covered, but the result is thrice as large: misshapen
    "0888888000000",  # only a third of it found: missed, and a misshapen result
    "0000000000000",  # nothing there: spurious
)
FOUND = field(
    "0011111000000",
    "0000000000000",
    "0223344000000",
    "0555555000000",
    "0006666666660",
    "0770000000000",
    "0000999000000",
)


def test_each_kind_of_failure_is_told_from_the_others():
    of_true, of_pred = classify(overlap_table(TRUTH, FOUND))
    assert of_true == {
        1: "found", 2: "missed", 3: "split", 4: "merged", 5: "merged", 6: "merged",
        7: "misshapen", 8: "missed",
    }  # fmt: skip
    assert of_pred == {
        1: "found", 2: "split", 3: "split", 4: "split", 5: "merged", 6: "misshapen",
        7: "misshapen", 9: "spurious",
    }  # fmt: skip


def test_a_perfect_result_has_no_failures_and_an_empty_one_only_missed_cells():
    of_true, of_pred = classify(overlap_table(TRUTH, TRUTH))
    assert set(of_true.values()) == set(of_pred.values()) == {"found"}
    of_true, of_pred = classify(overlap_table(TRUTH, np.zeros_like(TRUTH)))
    assert set(of_true.values()) == {"missed"}
    assert of_pred == {}


def test_cells_are_drawn_in_the_color_of_their_kind_and_nowhere_else(tmp_path):
    plane = np.linspace(0, 100, TRUTH.size).reshape(TRUTH.shape)
    of_true, of_pred = classify(overlap_table(TRUTH, FOUND))
    picture = drawn(plane, TRUTH, of_true)
    red = np.array([int(COLORS["missed"][i : i + 2], 16) for i in (1, 3, 5)])
    np.testing.assert_array_equal((picture == red).all(axis=2), np.isin(TRUTH, (2, 8)))
    background = picture[TRUTH == 0]
    assert (background == background[:, :1]).all()
    failure = Failure("made up", 0.2, plane, TRUTH, FOUND, of_true, of_pred)
    gallery(tmp_path / "gallery.png", "Made up", [failure, failure])
    pixels = iio.imread(tmp_path / "gallery.png", mode="RGB")
    for color in COLORS.values():  # in the legend at least, none replaced by a similar one
        rgb = [int(color[i : i + 2], 16) for i in (1, 3, 5)]
        assert (pixels == rgb).all(axis=2).sum() > 100
