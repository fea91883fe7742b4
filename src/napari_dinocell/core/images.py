"""Read any supported image file, or take an array, as one `Image` with named axes."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from napari_dinocell.core import ngff, raster, tiff
from napari_dinocell.core.axes import ArrayLike
from napari_dinocell.core.axis_names import check_axes, resolve_axes
from napari_dinocell.core.errors import ImageFileError
from napari_dinocell.core.lazy import DAMAGE, ChunkedArray, StoredImage, cannot_read
from napari_dinocell.core.storage import File, is_remote, open_file

TIFF_SUFFIXES = (".tif", ".tiff", ".btf", ".tf8")
RASTER_SUFFIXES = (".png", ".jpg", ".jpeg")
SUFFIXES = (*TIFF_SUFFIXES, *RASTER_SUFFIXES, ".npy", ".zarr")


@dataclass(frozen=True, eq=False)
class Image:
    """An image whose axes are known.

    Attributes
    ----------
    array : array-like
        numpy array, or a lazy one that is read by slicing. Bool, integer or float, any byte order.
    axes : str
        One letter out of `TZCYXS` per dimension; Y and X are always there.
    pixel_size_um : (float, float) or None
        µm per pixel along (Y, X), if known.
    channel_names : tuple of str
        One per entry of axis C, or empty.
    source : str or None
        Where it came from, for messages.
    z_step_um : float or None
        µm between planes along Z, if known.
    """

    array: ArrayLike
    axes: str
    pixel_size_um: tuple[float, float] | None = None
    channel_names: tuple[str, ...] = ()
    source: str | None = None
    z_step_um: float | None = None

    def __post_init__(self) -> None:
        check_axes(self.axes, len(self.array.shape))
        check_pixels(self.array)

    @property
    def shape(self) -> tuple[int, ...]:
        """Length of each axis."""
        return tuple(int(n) for n in self.array.shape)

    @property
    def dtype(self) -> np.dtype[Any]:
        """Type of the stored pixels."""
        dtype: np.dtype[Any] = np.dtype(self.array.dtype)
        return dtype

    @property
    def is_lazy(self) -> bool:
        """Whether pixels are read from disk when sliced."""
        return not isinstance(self.array, np.ndarray) or isinstance(self.array, np.memmap)


def read_image(
    path: str | Path,
    axes: str | None = None,
    pixel_size_um: float | tuple[float, float] | None = None,
    series: int | str = 0,
) -> Image:
    """Read an image file.

    TIFF (OME, ImageJ, BigTIFF, pyramids), PNG, JPEG, `.npy`, OME-Zarr 0.4 and 0.5 and bare Zarr
    arrays. Of a pyramid the full resolution is read. Zarr, `.npy` and TIFF above 256 MB stay on
    disk and are read by slicing.

    Parameters
    ----------
    path : str or Path
        File, OME-Zarr folder, or `s3://bucket/key`.
    axes : str, optional
        One letter per dimension out of `TZCYXS`; overrides the file. Needed where the file does
        not name its axes and the shape leaves them open.
    pixel_size_um : float or (float, float), optional
        µm per pixel, or along (Y, X); overrides the file.
    series : int or str
        Which image of a file with several: position from 0, or name.

    Returns
    -------
    Image

    Raises
    ------
    FileNotFoundError
        If there is nothing at `path`.
    ImageFileError
        If it cannot be read, is of no supported kind, or does not tell its axes.
    ValueError
        If `axes` or `pixel_size_um` do not fit.

    Examples
    --------
    >>> image = read_image("cells.tif", axes="CYX")  # doctest: +SKIP
    >>> image.shape, image.channel_names  # doctest: +SKIP
    ((3, 1024, 1024), ('DAPI', 'GFP', 'RFP'))
    """
    try:
        file = open_file(path)
        stored = _reader(file)(file, series)
        check_pixels(stored.array)
        kept, dropped = resolve_axes(stored.array.shape, stored.axes, axes)
        return Image(
            _without_axes(stored.array, dropped),
            kept,
            check_pixel_size(pixel_size_um) or stored.pixel_size_um,
            _names_for(stored, kept, dropped),
            str(path),
            stored.z_step_um if "Z" in kept else None,
        )
    except PermissionError as error:
        raise ImageFileError(f"{path} cannot be read: permission denied.") from error
    except FileNotFoundError:
        raise
    except (ValueError, TypeError) as error:
        kind = ImageFileError if isinstance(error, ImageFileError) else type(error)
        message = str(error)
        raise kind(message if str(path) in message else f"{path}: {message}") from error
    except DAMAGE as error:
        raise cannot_read(str(path), error) from error


@dataclass(frozen=True)
class Series:
    """One of the images in a file: its name (may be empty), shape, and axes (`?` if unnamed)."""

    name: str
    shape: tuple[int, ...]
    axes: str


def list_series(path: str | Path) -> list[Series]:
    """The images in a TIFF file, for a chooser; one for other kinds of file.

    Raises
    ------
    FileNotFoundError, ImageFileError
        As `read_image`.
    """
    file = open_file(path)
    if file.suffix.lower() in TIFF_SUFFIXES and not file.is_folder():
        return [Series(*entry) for entry in tiff.series_of(file)]
    stored = _reader(file)(file, 0)
    return [Series("", tuple(stored.array.shape), stored.axes)]


def image_from_array(
    array: Any,
    axes: str | None = None,
    pixel_size_um: float | tuple[float, float] | None = None,
    channel_names: tuple[str, ...] = (),
    source: str | None = None,
) -> Image:
    """Take an array as an image; nothing is copied.

    Parameters
    ----------
    array : array-like
        numpy array or anything lazy with shape, dtype and slicing. Bool, integer or float.
    axes : str, optional
        One letter per dimension out of `TZCYXS`. (Y, X) needs none; anything with more axes
        longer than 1 does.
    pixel_size_um : float or (float, float), optional
        µm per pixel, or along (Y, X).
    channel_names : tuple of str
        One per entry of axis C.
    source : str, optional
        Name for messages.

    Returns
    -------
    Image

    Raises
    ------
    TypeError
        If `array` is no numeric array, or complex.
    ValueError
        If it is empty, its axes are not clear, or an option does not fit.
    """
    if not (hasattr(array, "shape") and hasattr(array, "dtype")):
        array = np.asarray(array)
    check_pixels(array)
    kept, dropped = resolve_axes(array.shape, None, axes)
    if channel_names and ("C" not in kept or len(channel_names) != array.shape[_at(axes, "C")]):
        raise ValueError(
            f"{len(channel_names)} channel names were given for axes {kept} of shape "
            f"{tuple(array.shape)}; give one per entry of axis C."
        )
    return Image(
        _without_axes(array, dropped), kept, check_pixel_size(pixel_size_um), channel_names, source
    )


def check_pixels(array: ArrayLike) -> None:
    """Refuse arrays that are empty or hold anything but bool, integers or floats."""
    try:
        dtype = np.dtype(array.dtype)
    except TypeError as error:
        raise TypeError(f"Pixels of type {array.dtype} are not supported; give numpy's.") from error
    if dtype.kind not in "buif":
        raise TypeError(
            f"Pixels of type {dtype} are not supported; use bool, integers or floats "
            "(of a complex image, for example its magnitude)."
        )
    if 0 in array.shape:
        raise ValueError(f"The image is empty: its shape is {tuple(array.shape)}.")


def check_pixel_size(
    pixel_size_um: float | tuple[float, float] | None,
) -> tuple[float, float] | None:
    """(y, x) in µm from one number or two, all positive."""
    if pixel_size_um is None:
        return None
    pair = (
        np.broadcast_to(np.asarray(pixel_size_um, float).ravel(), 2)
        if (np.size(pixel_size_um) in (1, 2))
        else None
    )
    if pair is None or not np.all(np.isfinite(pair)) or np.any(pair <= 0):
        raise ValueError(
            f"Pixel size {pixel_size_um} is not valid; give one positive number in µm, or two "
            "as (y, x)."
        )
    return float(pair[0]), float(pair[1])


def _reader(file: File) -> Callable[[File, int | str], StoredImage]:
    suffix = file.suffix.lower()
    if ngff.is_zarr(file):
        return ngff.read
    if file.is_folder():
        raise ImageFileError(
            f"{file} is a folder and not an OME-Zarr image; give a file, or an OME-Zarr folder."
        )
    if suffix in TIFF_SUFFIXES:
        return tiff.read
    if suffix in RASTER_SUFFIXES:
        return raster.read
    if suffix == ".npy":
        return _read_npy
    raise ImageFileError(
        f"{file} has the ending {suffix!r}, which is not supported; use {', '.join(SUFFIXES)}."
    )


def _read_npy(file: File, series: int | str) -> StoredImage:
    try:
        # Not `numpy.load`, which opens archives and pickles, too.
        if is_remote(file):
            array = np.lib.format.read_array(file.open(), allow_pickle=False)
        else:
            array = np.lib.format.open_memmap(file.local_path(), mode="r")
    except (ValueError, EOFError) as error:
        raise cannot_read(str(file), error) from error
    return StoredImage(array, "?" * array.ndim)


def _without_axes(array: ArrayLike, dropped: tuple[int, ...]) -> ArrayLike:
    if not dropped:
        return array
    if isinstance(array, ChunkedArray):
        return array.without_axes(dropped)
    if isinstance(array, np.ndarray) or not hasattr(array, "chunks"):
        return np.squeeze(array, dropped)  # type: ignore[call-overload, no-any-return]
    if isinstance(array.chunks, tuple) and array.chunks and isinstance(array.chunks[0], tuple):
        index = tuple(0 if i in dropped else slice(None) for i in range(len(array.shape)))
        return array[index]  # type: ignore[no-any-return]  # dask: slicing stays lazy
    return ChunkedArray(array, "The array").without_axes(dropped)


def _names_for(stored: StoredImage, axes: str, dropped: tuple[int, ...]) -> tuple[str, ...]:
    """Channel names, if they still fit the axes that were chosen."""
    shape = [n for i, n in enumerate(stored.array.shape) if i not in dropped]
    fits = "C" in axes and len(stored.channel_names) == shape[axes.index("C")]
    return stored.channel_names if fits else ()


def _at(axes: str | None, letter: str) -> int:
    return (axes or "").upper().index(letter)
