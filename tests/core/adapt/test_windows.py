import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st

from napari_dinocell.core.adapt.features import dihedral, turned_box
from napari_dinocell.core.adapt.windows import Unit, homes, place_windows

SHAPES = st.tuples(st.integers(1, 400), st.integers(1, 400))


@st.composite
def planes_with_boxes(draw):
    shape = draw(SHAPES)
    boxes = []
    for _ in range(draw(st.integers(0, 12))):
        top = draw(st.integers(0, shape[0] - 1))
        left = draw(st.integers(0, shape[1] - 1))
        bottom = draw(st.integers(top + 1, shape[0]))
        right = draw(st.integers(left + 1, shape[1]))
        boxes.append((top, left, bottom, right))
    return shape, boxes


@given(planes_with_boxes(), st.sampled_from([64, 128, 256]), st.sampled_from([1, 16]))
def test_windows_cover_all_boxes_on_their_grid(case, side, step):
    shape, boxes = case
    if step > 1:  # patches lie in windows, whose sides are multiples of 16
        shape = tuple(-(-length // 16) * 16 for length in shape)
    windows = place_windows(shape, boxes, side, step)
    covered = np.zeros(shape, bool)
    for top, left, bottom, right in windows:
        covered[top:bottom, left:right] = True
        assert top % step == left % step == 0
        assert (bottom - top) % 16 == (right - left) % 16 == 0
        assert bottom - top == min(side, -(-shape[0] // 16) * 16)
        assert top >= 0
        assert left >= 0
        assert bottom <= max(shape[0], bottom - top)
        assert right <= max(shape[1], right - left)
    for top, left, bottom, right in boxes:
        assert covered[top:bottom, left:right].all()
    assert bool(windows) == bool(boxes)


def test_neighboring_boxes_share_a_window():
    boxes = [(100, 100, 120, 120), (150, 160, 170, 180), (110, 210, 130, 230)]
    assert len(place_windows((1024, 1024), boxes, 256)) == 1
    assert len(place_windows((1024, 1024), [*boxes, (900, 900, 920, 920)], 256)) == 2


@given(SHAPES, st.integers(0, 7), st.data())
def test_a_turned_box_is_where_the_view_shows_the_pixels(shape, view, data):
    top = data.draw(st.integers(0, shape[0] - 1))
    left = data.draw(st.integers(0, shape[1] - 1))
    bottom = data.draw(st.integers(top + 1, shape[0]))
    right = data.draw(st.integers(left + 1, shape[1]))
    mask = torch.zeros(shape)
    mask[top:bottom, left:right] = 1
    seen = dihedral(mask, view)
    y0, x0, y1, x1 = turned_box((top, left, bottom, right), shape, view)
    assert seen[y0:y1, x0:x1].sum() == mask.sum() == (y1 - y0) * (x1 - x0)


def test_the_eight_views_differ():
    x = torch.arange(9.0).reshape(3, 3)
    views = {tuple(dihedral(x, view).flatten().tolist()) for view in range(8)}
    assert len(views) == 8


def test_a_unit_lives_where_it_lies_deepest_and_nowhere_else():
    unit = Unit(0, 1, True, (40, 40, 60, 60))
    places = [(0, (0, 0, 64, 64)), (0, (20, 20, 84, 84)), (1, (0, 0, 100, 100))]
    assert homes([unit], places) == {unit: 1}
    assert homes([unit], places[2:]) == {}
