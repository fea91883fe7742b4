"""Links between planes: closed forms, and what holds for any labels."""

import tracemalloc

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from napari_dinocell.core.errors import Cancelled
from napari_dinocell.core.link import LINKS, Linker, check_link, link

SHAPE = (7, 9)
PLANES = arrays(np.int32, SHAPE, elements=st.integers(0, 6))
MOVIES = arrays(np.int32, (4, *SHAPE), elements=st.integers(0, 6))


def disc(y, x, radius, shape=(80, 120)):
    rows, columns = np.mgrid[: shape[0], : shape[1]]
    return np.hypot(rows - y, columns - x) <= radius


def movie(*frames):
    """(T, Y, X) labels of frames, each a list of masks; ids fall from frame to frame."""
    stack = np.zeros((len(frames), 80, 120), np.int32)
    for time, masks in enumerate(frames):
        for number, mask in enumerate(masks):
            stack[time][mask] = 100 - 7 * time - number
    return stack


def id_at(linked, time, y, x):
    return int(linked.labels[time, y, x])


def test_a_disc_may_move_by_its_radius_but_not_by_its_diameter():
    # Two discs of radius r at the distance r share 0.391 of their areas.
    near = movie([disc(40, 40, 20)], [disc(40, 60, 20)])
    far = movie([disc(40, 40, 20)], [disc(40, 75, 20)])
    assert link(near, "TYX", "t").count == 1
    assert link(far, "TYX", "t").count == 2
    assert link(near, "TYX", "t", min_overlap=0.4).count == 2


def test_a_row_of_touching_cells_that_moves_by_half_a_cell_is_followed_as_a_row():
    # Each cell then overlaps two others equally: only all together tell which is which.
    first, second = np.zeros((2, 10, 100), np.int32)
    for number in range(4):
        first[:, 20 * number : 20 * number + 20] = number + 1
        second[:, 20 * number + 9 : 20 * number + 29] = 9 - number
    linked = link(np.stack([first, second]), "TYX", "t", min_overlap=0.1)
    assert linked.count == 4
    for number in range(4):
        assert id_at(linked, 0, 5, 20 * number + 10) == id_at(linked, 1, 5, 20 * number + 19)


def test_of_two_daughters_the_larger_one_keeps_the_id():
    mother = disc(40, 60, 24)
    left = mother & (np.arange(120) < 55)
    right = mother & (np.arange(120) > 56)
    linked = link(movie([mother], [left, right], [left, right]), "TYX", "t")
    assert linked.count == 2
    assert [id_at(linked, time, 40, 75) for time in range(3)] == [1, 1, 1]
    assert [id_at(linked, time, 40, 45) for time in (1, 2)] == [2, 2]


def test_of_two_cells_that_merge_the_larger_one_gives_the_id():
    whole = disc(40, 60, 24)
    left = whole & (np.arange(120) < 55)
    right = whole & (np.arange(120) > 56)
    linked = link(movie([left, right], [whole]), "TYX", "t")
    assert linked.count == 2
    assert id_at(linked, 1, 40, 60) == id_at(linked, 0, 40, 75) != id_at(linked, 0, 40, 45)


@pytest.mark.parametrize("absent", [1, 2, 3])
def test_a_cell_that_is_not_found_for_a_while_keeps_its_id_if_the_gap_allows_it(absent):
    cell, other = disc(40, 30, 12), disc(40, 90, 12)
    frames = movie([cell, other], *[[other]] * absent, [other, cell])
    kept = link(frames, "TYX", "t", gap=absent)
    assert kept.count == 2
    assert id_at(kept, 0, 40, 30) == id_at(kept, -1, 40, 30)
    lost = link(frames, "TYX", "t", gap=absent - 1)
    assert lost.count == 3
    assert id_at(lost, -1, 40, 30) == 3


def test_what_the_last_frame_shows_comes_before_what_was_lost_earlier():
    # The last cell lies as near to the first one of the frame before as to one lost since then.
    lost, other = disc(40, 30, 15), disc(40, 62, 15)
    frames = movie([lost, other], [disc(40, 50, 15)], [disc(40, 40, 15)])
    linked = link(frames, "TYX", "t", gap=1)
    names = [id_at(linked, 0, 40, 30), id_at(linked, 0, 40, 62)]
    assert id_at(linked, 1, 40, 50) == id_at(linked, 2, 40, 40) == names[1] != names[0]
    assert linked.count == 2


def spheres(*centers, radius=9, shape=(24, 40, 60)):
    z, y, x = np.mgrid[: shape[0], : shape[1], : shape[2]]
    return [np.sqrt((z - a) ** 2 + (y - b) ** 2 + (x - c) ** 2) <= radius for a, b, c in centers]


def sliced(*masks):
    """Ids of their own in each plane, as a segmentation plane by plane gives."""
    stack = np.zeros(masks[0].shape, np.int32)
    for z in range(len(stack)):
        for number, mask in enumerate(masks):
            stack[z][mask[z]] = 1 + (number + z) % len(masks) + 10 * z
    return stack


def test_two_spheres_become_two_objects():
    one, two = spheres((11, 20, 18), (12, 20, 40))
    linked = link(sliced(one, two), "ZYX", "z")
    assert linked.count == 2
    np.testing.assert_array_equal(linked.labels > 0, one | two)
    assert len(np.unique(linked.labels[one])) == len(np.unique(linked.labels[two])) == 1


def test_stacks_of_a_movie_are_linked_by_themselves_or_as_wholes():
    frames = []
    for time in range(3):
        one, two = spheres((11, 20, 15 + 2 * time), (11, 20, 40 + 2 * time))
        # Which cell comes first changes from one time point to the next.
        frames.append(sliced(*((one, two) if time % 2 else (two, one))))
    stack = np.stack(frames)
    alone = link(stack, "TZYX", "z")
    assert alone.count == 6
    for time in range(3):
        np.testing.assert_array_equal(alone.labels[time], link(stack[time], "ZYX", "z").labels)
    whole = link(stack, "TZYX", "zt")
    assert whole.count == 2
    for time in range(3):
        assert whole.labels[time, 11, 20, 15 + 2 * time] == whole.labels[0, 11, 20, 15]
        assert whole.labels[time, 11, 20, 40 + 2 * time] == whole.labels[0, 11, 20, 40]
    in_planes = link(stack, "TZYX", "t")
    np.testing.assert_array_equal(in_planes.labels[:, 11], link(stack[:, 11], "TYX", "t").labels)


@given(PLANES, st.integers(2, 5), st.integers(0, 2))
def test_identical_planes_keep_every_id(plane, n, gap):
    linked = link(np.stack([plane] * n), "TYX", "t", gap=gap)
    assert linked.count == len(np.unique(plane[plane > 0]))
    for time in range(n):
        np.testing.assert_array_equal(linked.labels[time], linked.labels[0])


@given(MOVIES, st.permutations(range(1, 7)), st.integers(0, 3), st.integers(0, 2))
def test_other_names_of_the_cells_of_a_plane_change_nothing(stack, names, time, gap):
    renamed = stack.copy()
    renamed[time] = np.concatenate([[0], 1000 * np.array(names)])[stack[time]]
    first, second = (link(s, "TYX", "t", gap=gap, min_overlap=0.05) for s in (stack, renamed))
    np.testing.assert_array_equal(first.labels, second.labels)


@given(MOVIES, st.integers(0, 2))
def test_every_plane_keeps_its_cells_and_ids_are_dense(stack, gap):
    linked = link(stack, "TYX", "t", gap=gap, min_overlap=0.05)
    for before, after in zip(stack, linked.labels, strict=True):
        pairs = np.unique(np.stack([before.ravel(), after.ravel()]), axis=1)
        assert len(set(pairs[0])) == len(set(pairs[1])) == pairs.shape[1]
        assert all((a == 0) == (b == 0) for a, b in pairs.T)
    used = np.unique(linked.labels)
    np.testing.assert_array_equal(used[used > 0], np.arange(1, linked.count + 1))


@given(MOVIES)
def test_cells_that_share_more_than_half_of_their_union_are_always_linked(stack):
    linked = link(stack, "TYX", "t").labels
    for time in range(len(stack) - 1):
        for a in np.unique(stack[time][stack[time] > 0]):
            for b in np.unique(stack[time + 1][stack[time + 1] > 0]):
                one, two = stack[time] == a, stack[time + 1] == b
                iou = (one & two).sum() / (one | two).sum()
                if iou >= 2 / 3:  # more than what the two best rivals can have together
                    assert linked[time][one][0] == linked[time + 1][two][0]


@given(MOVIES)
def test_the_order_of_the_axes_decides_nothing_but_the_numbering(stack):
    first = link(stack, "TYX", "t", min_overlap=0.05).count
    assert link(np.moveaxis(stack, 0, -1), "YXT", "t", min_overlap=0.05).count == first


def test_only_the_last_frames_are_held():
    frame = (np.arange(512 * 512).reshape(512, 512) // 4096 + 1).astype(np.int32)
    linker = Linker(gap=1)
    for _ in range(3):
        linker.follow(frame)
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    for _ in range(8):
        linker.follow(frame)
    grown = tracemalloc.get_traced_memory()[0] - before
    tracemalloc.stop()
    # Two frames of 1 MiB each were exchanged for others.
    assert grown < 2.5 * frame.nbytes


@pytest.mark.parametrize(
    ("labels", "axes", "along", "options", "part"),
    [
        (np.zeros((4, 4), int), "YX", "z", {}, "need Z beside Y and X"),
        (np.zeros((2, 4, 4), int), "TYX", "zt", {}, "need Z and T"),
        (np.zeros((2, 4, 4), int), "CYX", "t", {}, "no channels"),
        (np.zeros((2, 4, 4), int), "TYX", "x", {}, "choose z, t or zt"),
        (np.zeros((2, 4, 4), int), "TYX", "t", {"min_overlap": 0}, "above 0, at most 1"),
        (np.zeros((2, 4, 4), int), "TYX", "t", {"gap": -1}, "0 or more"),
        (-np.ones((2, 4, 4), int), "TYX", "t", {}, "must not be negative"),
    ],
)
def test_what_cannot_be_linked_is_refused_in_a_sentence(labels, axes, along, options, part):
    with pytest.raises(ValueError, match=part):
        link(labels, axes, along, **options)


@pytest.mark.parametrize("axes", ["YX", "ZYX", "TYX", "TZYX", "YXT", "CYX", "TZCYX"])
@pytest.mark.parametrize("along", [*LINKS, "x"])
def test_the_check_refuses_exactly_what_the_link_refuses(axes, along):
    outcomes = []
    for attempt in (check_link, lambda *how: link(np.zeros((2,) * len(axes), int), *how)):
        try:
            attempt(axes, along)
            outcomes.append("")
        except ValueError as error:
            outcomes.append(str(error))
    assert outcomes[0] == outcomes[1]
    assert (outcomes[0] == "") == (set(along.upper()) <= set(axes) - {"C", "X"} and "C" not in axes)


def test_labels_that_are_no_integers_or_change_their_shape_are_refused():
    with pytest.raises(TypeError, match="must be integers"):
        link(np.zeros((2, 4, 4)), "TYX", "t")
    linker = Linker()
    linker.follow(np.zeros((4, 4), int))
    with pytest.raises(ValueError, match="frames of one shape"):
        linker.follow(np.zeros((4, 5), int))


@pytest.mark.parametrize("dtype", [bool, np.uint8, ">u2", np.int64, np.uint32])
def test_every_type_of_labels_is_taken(dtype):
    stack = np.stack([disc(40, 40, 20), disc(40, 45, 20)]).astype(dtype)
    assert link(stack, "TYX", "t").count == 1
    if np.dtype(dtype).itemsize > 2:
        stack[1] *= np.iinfo(dtype).max // 2
        assert link(stack, "TYX", "t").count == 1


def test_a_link_tells_how_far_it_is_and_stops_when_asked():
    stack = np.ones((2, 3, 5, 5), int)
    steps = []
    link(stack, "TZYX", "zt", progress=lambda *step: steps.append(step))
    assert steps == [(done, 8) for done in range(1, 9)]
    steps.clear()
    with pytest.raises(Cancelled):
        link(
            stack,
            "TZYX",
            "z",
            progress=lambda *step: steps.append(step),
            cancel=lambda: len(steps) == 2,
        )
    assert steps == [(1, 6), (2, 6)]
