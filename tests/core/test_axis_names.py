import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from napari_dinocell.core.axis_names import AXES, axes_choices, check_axes, resolve_axes
from napari_dinocell.core.errors import ImageFileError


def test_two_dimensions_need_no_names():
    assert resolve_axes((40, 3)) == ("YX", ())


@pytest.mark.parametrize("shape", [(1, 40, 50), (40, 50, 1), (1, 1, 40, 50), (1, 40, 1, 50)])
def test_unnamed_axes_of_length_one_are_dropped(shape):
    axes, dropped = resolve_axes(shape)
    assert axes == "YX"
    assert [n for i, n in enumerate(shape) if i not in dropped] == [40, 50]


def test_images_one_pixel_wide_keep_their_two_axes():
    assert resolve_axes((1, 1)) == ("YX", ())
    assert resolve_axes((1, 1, 7)) == ("YX", (0,))


def test_a_row_of_color_pixels_is_not_taken_for_a_narrow_image():
    with pytest.raises(ImageFileError, match="--axes YXS"):
        resolve_axes((1, 50, 3))


@pytest.mark.parametrize(
    ("shape", "choices"),
    [
        ((3, 40, 50), "CYX or --axes ZYX or --axes TYX"),
        ((10, 40, 50), "CYX or --axes ZYX or --axes TYX"),
        ((40, 50, 3), "YXS or --axes YXC"),
        ((40, 50, 4), "YXS or --axes YXC"),
        ((3, 40, 4), "YXS or --axes CYX"),
        ((5, 2, 40, 50), "ZCYX or --axes TCYX or --axes TZYX"),
        ((2, 3, 4, 40, 50), "TZCYX"),
    ],
)
def test_unnamed_axes_are_refused_with_the_choices(shape, choices):
    with pytest.raises(ImageFileError) as error:
        resolve_axes(shape)
    assert f"--axes {choices}" in str(error.value)
    assert str(error.value).count(". ") == 0


def test_the_word_of_the_file_is_taken():
    assert resolve_axes((40, 50, 3), "YXS") == ("YXS", ())
    assert resolve_axes((1, 2, 40, 50), "TCYX") == ("TCYX", ())


def test_only_the_axis_that_the_file_leaves_open_is_asked_for():
    with pytest.raises(ImageFileError, match=r"--axes ZYXS or --axes TYXS\."):
        resolve_axes((7, 40, 50, 3), "?YXS")


def test_the_word_of_the_caller_overrides_the_file():
    assert resolve_axes((3, 40, 50), "ZYX", "cyx") == ("CYX", ())


def test_the_caller_may_leave_out_axes_of_length_one():
    assert resolve_axes((1, 3, 1, 40, 50), None, "CYX") == ("CYX", (0, 2))
    assert resolve_axes((1, 40, 50), None, "ZYX") == ("ZYX", ())


@pytest.mark.parametrize(
    ("axes", "complaint"),
    [
        ("QYX", "contain Q"),
        ("YYX", "twice"),
        ("ZCX", "lack Y or X"),
        ("YX", "dimensions"),
        ("", "lack"),
    ],
)
def test_axes_that_cannot_be_are_refused(axes, complaint):
    with pytest.raises(ValueError, match=complaint):
        resolve_axes((3, 40, 50), None, axes)


def test_more_axes_than_an_image_has_are_refused():
    with pytest.raises(ImageFileError, match="at most T, Z, C"):
        resolve_axes((2, 3, 4, 5, 6, 7, 8))


@settings(deadline=None, max_examples=60)
@given(st.lists(st.integers(1, 9), min_size=3, max_size=6))
def test_every_choice_that_is_offered_is_accepted(shape):
    for choice in axes_choices(shape):
        assert resolve_axes(shape, None, choice)[0] == choice


@settings(deadline=None, max_examples=60)
@given(st.permutations(AXES), st.integers(0, 6))
def test_axes_are_valid_exactly_if_they_have_y_and_x(letters, length):
    axes = "".join(letters[:length])
    if {"Y", "X"} <= set(axes):
        assert check_axes(axes.lower(), length) == axes
    else:
        with pytest.raises(ValueError, match="lack"):
            check_axes(axes)
