"""19: all planes of a stack, the one in view, or a range of them."""

import numpy as np
import pytest
from synthetic import discs, n_discs

from napari_dinocell.widgets.form import ALL_PLANES, RANGE, THIS_PLANE

pytestmark = pytest.mark.qt

STACK = np.stack([discs((80, 120)) * (z > 0) for z in range(5)])
SCALE = {"scale": (4, 1, 1), "axis_labels": ("z", "y", "x")}


@pytest.mark.parametrize(
    ("answer", "planes", "ids"),
    [(ALL_PLANES, slice(0, 5), 4), (THIS_PLANE, slice(3, 4), 1), (RANGE, slice(0, 3), 2)],
)
def test_19_the_wanted_planes_become_cells_in_their_place(make_panel, wait, answer, planes, ids):
    viewer, panel = make_panel(STACK, **SCALE)
    viewer.dims.set_current_step(0, 3)
    form = panel.form
    form.planes.value = answer
    shown = [row.isVisibleTo(panel) for _, row in form.range.rows.values()]
    assert shown == [False, answer == RANGE]  # time, depth
    if answer == RANGE:
        form.range.last["Z"].value = 2
        assert panel.status.text().startswith("3 planes, 80 x 120 px")
    panel.button.click()
    wait(lambda: panel.job is None)
    cells = viewer.layers["image cells"]
    assert cells.data.shape == (planes.stop - planes.start, 80, 120)
    np.testing.assert_array_equal(cells.translate, (4 * planes.start, 0, 0))
    found = [len(np.unique(plane)) - 1 for plane in cells.data]
    assert sum(n == n_discs((80, 120)) for n in found) == ids


def test_19_a_range_is_never_turned_round_and_follows_the_image(make_panel):
    viewer, panel = make_panel(STACK, **SCALE)
    question = panel.form.range
    panel.form.planes.value = RANGE
    question.first["Z"].value = 4
    question.last["Z"].value = 1
    assert question.slices() == {"Z": slice(1, 2)}
    question.first["Z"].value = 3
    assert question.slices() == {"Z": slice(3, 4)}
    movie = viewer.add_image(np.zeros((2, 3, 40, 50)), axis_labels=("t", "z", "y", "x"))
    panel.form.choose_layer(movie)
    assert question.slices() == {"T": slice(0, 2), "Z": slice(0, 3)}
    question.first["T"].value = 1
    assert panel.form.part().shape == (1, 3, 40, 50)
