import numpy as np
import pytest
import tifffile
import zarr
from users import ordinary_user, shared_folder

from napari_dinocell.core.axes import planes
from napari_dinocell.core.errors import ImageFileError
from napari_dinocell.core.images import Image, check_pixel_size, image_from_array, read_image
from napari_dinocell.core.lazy import ChunkedArray

GRAY = np.random.default_rng(0).integers(0, 65535, (12, 17)).astype(np.uint16)


def test_numpy_files_are_read_where_they_lie(tmp_path):
    np.save(tmp_path / "a.npy", GRAY)
    image = read_image(tmp_path / "a.npy")
    assert (image.axes, image.is_lazy, image.source) == ("YX", True, str(tmp_path / "a.npy"))
    np.testing.assert_array_equal(image.array, GRAY)


def test_numpy_files_with_more_axes_ask_for_names(tmp_path):
    np.save(tmp_path / "a.npy", np.zeros((3, 8, 9)))
    with pytest.raises(ImageFileError, match=r"a\.npy: .*--axes CYX or --axes ZYX"):
        read_image(tmp_path / "a.npy")
    assert read_image(tmp_path / "a.npy", axes="zyx").axes == "ZYX"


def test_numpy_files_with_objects_are_not_unpickled(tmp_path):
    np.save(tmp_path / "a.npy", np.array([{}, {}], object), allow_pickle=True)
    with pytest.raises(ImageFileError, match=r"a\.npy"):
        read_image(tmp_path / "a.npy")


def test_the_pixel_size_of_the_caller_goes_before_the_file(tmp_path):
    np.save(tmp_path / "a.npy", GRAY)
    assert read_image(tmp_path / "a.npy").pixel_size_um is None
    assert read_image(tmp_path / "a.npy", pixel_size_um=0.5).pixel_size_um == (0.5, 0.5)
    assert read_image(tmp_path / "a.npy", pixel_size_um=(0.5, 2)).pixel_size_um == (0.5, 2.0)


@pytest.mark.parametrize("size", [0, -1, float("nan"), (1, 2, 3), (1, 0), float("inf")])
def test_pixel_sizes_that_cannot_be_are_refused(size):
    with pytest.raises(ValueError, match="Pixel size"):
        check_pixel_size(size)


@pytest.mark.parametrize("name", ["none.tif", "none.png", "none.zarr", "none.npy"])
def test_a_file_that_is_not_there_is_named(tmp_path, name):
    with pytest.raises(FileNotFoundError, match=name):
        read_image(tmp_path / name)


def test_a_folder_in_place_of_a_file_is_refused(tmp_path):
    (tmp_path / "a.tif").mkdir()
    with pytest.raises(ImageFileError, match="is a folder"):
        read_image(tmp_path / "a.tif")


@pytest.mark.parametrize("name", ["a.czi", "a", "a.gif"])
def test_an_unknown_ending_is_refused_with_those_that_are_known(tmp_path, name):
    (tmp_path / name).write_bytes(b"x")
    with pytest.raises(ImageFileError, match=r"not supported; use \.tif"):
        read_image(tmp_path / name)


@pytest.mark.parametrize("ending", ["tif", "png", "jpg", "npy"])
@pytest.mark.parametrize(
    "content", [b"", b"x", b"no image at all, but a longer text than a header"]
)
def test_a_file_that_is_not_what_its_ending_says_is_one_sentence(tmp_path, ending, content):
    path = tmp_path / f"a.{ending}"
    path.write_bytes(content)
    with pytest.raises(ImageFileError) as error:
        read_image(path)
    assert str(path) in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("name", ["Zellen grün.tif", "細胞.tif", 'a\'b "c" [1] {2}.tif', "ü.zarr"])
def test_paths_with_any_letters_work(tmp_path, name):
    path = tmp_path / "Übung 1" / name
    path.parent.mkdir()
    if name.endswith(".zarr"):
        zarr.create_array(str(path), data=GRAY)
    else:
        tifffile.imwrite(path, GRAY)
    np.testing.assert_array_equal(read_image(path).array[...], GRAY)


def test_a_file_without_read_permission_says_so():
    with shared_folder() as folder:
        tifffile.imwrite(folder / "a.tif", GRAY)
        (folder / "a.tif").chmod(0)
        with ordinary_user(), pytest.raises(ImageFileError, match="permission"):
            read_image(folder / "a.tif")


@pytest.mark.parametrize("dtype", [np.complex64, np.complex128])
def test_complex_pixels_are_refused(tmp_path, dtype):
    with pytest.raises(TypeError, match="magnitude"):
        image_from_array(np.zeros((4, 4), dtype))
    tifffile.imwrite(tmp_path / "a.tif", np.zeros((4, 4), dtype))
    with pytest.raises(TypeError, match=r"a\.tif: .*complex"):
        read_image(tmp_path / "a.tif")


@pytest.mark.parametrize("array", [np.array([["a", "b"]]), np.array([[{}]], object)])
def test_pixels_that_are_no_numbers_are_refused(array):
    with pytest.raises(TypeError, match="not supported"):
        image_from_array(array)


@pytest.mark.parametrize("shape", [(0, 5), (5, 0), (0,), (0, 5, 5)])
def test_empty_images_are_refused(shape):
    with pytest.raises(ValueError, match="empty"):
        image_from_array(np.zeros(shape))


def test_a_row_of_numbers_is_no_image():
    with pytest.raises(ImageFileError, match="not that of an image"):
        image_from_array(np.zeros(5))


def test_three_in_the_last_axis_is_asked_for_even_in_8_bit():
    with pytest.raises(ValueError, match="--axes YXS or --axes YXC"):
        image_from_array(np.zeros((30, 30, 3), np.uint8))


def test_channel_names_must_fit_the_channels():
    names = ("a", "b")
    assert image_from_array(np.zeros((2, 4, 4)), "CYX", channel_names=names).channel_names == names
    with pytest.raises(ValueError, match="2 channel names"):
        image_from_array(np.zeros((3, 4, 4)), "CYX", channel_names=names)
    with pytest.raises(ValueError, match="2 channel names"):
        image_from_array(np.zeros((4, 4)), channel_names=names)


def test_images_check_their_own_axes():
    with pytest.raises(ValueError, match="3 dimensions"):
        Image(np.zeros((4, 4)), "CYX")


class SlicedOnly:
    """An array that fails when it is read whole."""

    def __init__(self, array):
        self._array = array
        self.shape, self.dtype = array.shape, array.dtype

    def __getitem__(self, key):
        part = self._array[key]
        assert part.size <= 100, "read more than was asked for"
        return part


def test_lazy_arrays_are_read_by_window():
    array = np.arange(100 * 100).reshape(100, 100)
    _, plane = next(planes(image_from_array(SlicedOnly(array))))
    np.testing.assert_array_equal(plane[40:50, 90:100], array[40:50, 90:100])


def test_single_axes_of_lazy_arrays_are_dropped_without_reading(tmp_path):
    source = zarr.create_array(str(tmp_path / "a.zarr"), data=GRAY[np.newaxis, ..., np.newaxis])
    image = image_from_array(source)
    assert isinstance(image.array, ChunkedArray)
    assert image.shape == GRAY.shape
    np.testing.assert_array_equal(next(planes(image))[1](), GRAY)


def test_nested_lists_are_images_too():
    assert image_from_array([[1, 2], [3, 4]]).shape == (2, 2)
