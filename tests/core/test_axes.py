import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from napari_dinocell.core.axes import find_channel, output_axes, output_shape, planes
from napari_dinocell.core.images import Image, image_from_array

RNG = np.random.default_rng(0)


def stack(axes, lengths=None, dtype=np.uint16):
    lengths = {"T": 2, "Z": 3, "C": 2, "Y": 5, "X": 7, "S": 3} | (lengths or {})
    array = RNG.integers(0, 255, [lengths[a] for a in axes]).astype(dtype)
    return image_from_array(array, axes)


@settings(deadline=None, max_examples=40)
@given(st.permutations("TZCYX"), st.data())
def test_planes_are_what_einsum_would_cut_out_of_any_order(order, data):
    image = stack("".join(order))
    channel = data.draw(st.integers(0, 1))
    expected = np.einsum(f"{image.axes.lower()}->tzcyx", image.array)
    found = list(planes(image, channel))
    assert len(found) == 6
    for index, plane in found:
        np.testing.assert_array_equal(plane(), expected[index["T"], index["Z"], channel])


@settings(deadline=None, max_examples=20)
@given(st.permutations("TYXS"), st.integers(0, 4), st.integers(1, 4))
def test_a_window_is_the_part_of_the_whole_plane(order, y, x):
    image = stack("".join(order))
    for _, plane in planes(image):
        np.testing.assert_array_equal(plane[y : y + 3, x:], plane()[y : y + 3, x:])
        assert plane.shape == plane().shape == (5, 7, 3)


def test_stacks_are_walked_in_their_own_order():
    indices = [index for index, _ in planes(stack("ZTYX"))]
    assert indices[:3] == [{"Z": 0, "T": 0}, {"Z": 0, "T": 1}, {"Z": 1, "T": 0}]


def test_labels_have_neither_channels_nor_samples():
    assert output_axes("TZCYXS") == "TZYX"
    assert output_shape(stack("TCYX")) == (2, 5, 7)


def test_one_channel_of_several_must_be_chosen():
    image = Image(np.zeros((2, 4, 4)), "CYX", channel_names=("DAPI", "GFP"), source="a.tif")
    with pytest.raises(ValueError, match=r"a.tif: .* 2 channels \(0 DAPI, 1 GFP\).*--channel DAPI"):
        next(planes(image))
    assert find_channel(image, "GFP") == find_channel(image, 1) == find_channel(image, "1") == 1


def test_a_single_channel_needs_no_choice():
    assert next(planes(stack("CYX", {"C": 1})))[1].shape == (5, 7)


@pytest.mark.parametrize("channel", [2, -1, "RFP", "7"])
def test_a_channel_that_is_not_there_is_refused_with_the_list(channel):
    image = Image(np.zeros((2, 4, 4)), "CYX", channel_names=("DAPI", "GFP"))
    with pytest.raises(ValueError, match="0 DAPI, 1 GFP"):
        next(planes(image, channel))


def test_a_name_goes_before_a_number():
    image = Image(np.zeros((2, 4, 4)), "CYX", channel_names=("1", "0"))
    assert find_channel(image, "0") == 1
    assert find_channel(image, 0) == 0


def test_a_name_of_two_channels_is_refused():
    image = Image(np.zeros((2, 4, 4)), "CYX", channel_names=("GFP", "GFP"))
    with pytest.raises(ValueError, match="several channels"):
        find_channel(image, "GFP")


def test_a_channel_of_an_image_without_channels_is_refused():
    with pytest.raises(ValueError, match="only one"):
        find_channel(stack("YX"), 1)
    assert find_channel(stack("YX"), 0) is None


def test_one_color_of_a_color_image_can_be_chosen():
    image = stack("YXS")
    _, plane = next(planes(image, "green"))
    np.testing.assert_array_equal(plane(), image.array[..., 1])


def test_alpha_is_dropped_and_transparent_pixels_are_not_a_number():
    rgba = np.full((2, 3, 4), 200, np.uint16)
    rgba[0, 1, 3] = 0
    _, plane = next(planes(image_from_array(rgba, "YXS")))
    color = plane()
    assert plane.shape == color.shape == (2, 3, 3)
    assert plane.dtype == color.dtype == np.float32
    assert np.isnan(color[0, 1]).all()
    assert np.nansum(color) == 200 * 15


def test_gray_with_alpha_is_a_gray_plane():
    gray_alpha = np.array([[[7, 255], [9, 0]]], np.uint8)
    _, plane = next(planes(image_from_array(gray_alpha, "YXS")))
    np.testing.assert_array_equal(plane(), [[7, np.nan]])


def test_five_samples_are_not_a_color():
    with pytest.raises(ValueError, match="call it C"):
        next(planes(stack("YXS", {"S": 5})))


@pytest.mark.parametrize("dtype", [">u2", ">f4", "<i8", "?", "f2", "f8", "u4", "i1"])
def test_planes_keep_their_values_in_native_byte_order(dtype):
    array = np.array([[0, 1, 100]]).astype(dtype)
    _, plane = next(planes(image_from_array(array)))
    assert plane().dtype == plane.dtype == np.dtype(dtype).newbyteorder("=")
    assert plane().dtype.isnative
    np.testing.assert_array_equal(plane(), array)


def test_the_source_array_is_neither_copied_nor_changed():
    array = np.arange(20, dtype=">u2").reshape(4, 5)[::-1]
    array.flags.writeable = False
    image = image_from_array(array)
    next(planes(image))[1]()
    assert image.array is array
