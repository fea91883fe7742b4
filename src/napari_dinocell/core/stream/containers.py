"""Fields whose channels lie in one file: TIFF and OME-TIFF, and the images of OME-Zarr plates."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import zarr
from numpy.typing import NDArray

from napari_dinocell.core.errors import ImageFileError
from napari_dinocell.core.images import RASTER_SUFFIXES, TIFF_SUFFIXES, Image, read_image
from napari_dinocell.core.lazy import DAMAGE
from napari_dinocell.core.storage import natural_order

from .decode import DamagedError
from .records import FieldRecord

_COLORS = ("Red", "Green", "Blue", "Alpha")


def is_zarr(address: str) -> bool:
    """Whether an address is, or lies in, a Zarr folder."""
    return any(part.endswith(".zarr") for part in address.replace("\\", "/").split("/"))


def zarr_planes(address: str) -> NDArray[Any]:
    """Planes (C, Y, X) of an OME-Zarr image on this machine, at full resolution.

    Raises
    ------
    FileNotFoundError
        If there is nothing.
    DamagedError
        If it cannot be read, or has depth or time.
    """
    try:
        image = read_image(address)
        _channel_count(image)
        stack = np.asarray(image.array[...])
    except FileNotFoundError:
        raise
    except (ImageFileError, ValueError, TypeError, *DAMAGE) as error:
        raise DamagedError("decode", f"{address} cannot be decoded: {error}") from error
    return stack.reshape(-1, *stack.shape[-2:])


def records_from_images(
    folder: Path,
    *,
    axes: str | None = None,
    channels: Sequence[str] = (),
    pixel_size_um: float | None = None,
) -> list[FieldRecord]:
    """Fields of all multi-channel files and OME-Zarr plates below a folder.

    Parameters
    ----------
    folder : Path
    axes : str, optional
        For files that do not name their axes, such as ``CYX``.
    channels : sequence of str
        Names, where files have none or other ones.
    pixel_size_um : float, optional
        Where files do not say.

    Raises
    ------
    ValueError
        If there is no image, or one has other axes than channels, Y and X.
    """
    found = []
    for path, place in _images_below(folder):
        image = read_image(path, axes)
        n = _channel_count(image)
        size = image.pixel_size_um or (pixel_size_um, pixel_size_um)
        names = tuple(channels) or image.channel_names or _default_names(image, n)
        if len(names) != n:
            raise ValueError(f"{path} has {n} channels, but {len(names)} names are given for them.")
        found.append(FieldRecord("", "", *place, names, (str(path),), size[1]))
    if not found:
        raise ValueError(f"There is no TIFF, PNG, JPEG or OME-Zarr image below {folder}.")
    return found


def _images_below(folder: Path) -> Iterator[tuple[Path, tuple[str, str, str]]]:
    """Images, with the plate, well and site that their places tell."""
    for path in _files_below(folder):
        parent = path.parent.relative_to(folder if path != folder else folder.parent).as_posix()
        parent = "" if parent == "." else parent
        if path.suffix == ".zarr":
            yield from _images_of_zarr(path, parent)
        else:
            yield path, (parent, "", path.stem.removesuffix(".ome"))


def _files_below(folder: Path) -> Iterator[Path]:
    """Image files and Zarr folders, folder by folder in natural order."""
    if folder.suffix == ".zarr":
        yield folder
        return
    for path in natural_order(folder.iterdir()):
        if path.is_dir() and not path.name.startswith("."):
            yield from _files_below(path)
        elif path.suffix.lower() in (*TIFF_SUFFIXES, *RASTER_SUFFIXES):
            yield path


def _images_of_zarr(path: Path, parent: str) -> Iterator[tuple[Path, tuple[str, str, str]]]:
    """Images of an OME-Zarr plate, of several images in one folder, or the one that it is."""
    name = path.name.removesuffix(".zarr").removesuffix(".ome")
    plate = f"{parent}/{name}" if parent else name
    metadata = _ome(path)
    if "plate" in metadata:
        for well in metadata["plate"]["wells"]:
            place = path / well["path"]
            for image in _ome(place)["well"]["images"]:
                site = str(image["path"])
                yield place / site, (plate, str(well["path"]).replace("/", ""), site)
    elif "bioformats2raw.layout" in metadata:
        series = [inner for inner in path.iterdir() if inner.name.isdecimal()]
        for inner in natural_order(series):
            yield inner, (plate, "", inner.name)
    else:
        yield path, (parent, "", name)


def _ome(path: Path) -> dict[str, Any]:
    """NGFF metadata of a group: under `ome` since 0.5, at the top before."""
    try:
        attributes = dict(zarr.open_group(path, mode="r").attrs)
    except DAMAGE as error:
        raise ImageFileError(f"{path} cannot be read as OME-Zarr: {error}") from error
    ome: dict[str, Any] = attributes.get("ome", attributes)
    return ome


def _channel_count(image: Image) -> int:
    """Number of planes, if the image has no more than channels, Y and X."""
    sizes = dict(zip(image.axes, image.shape, strict=True))
    kept = "".join(axis for axis, n in sizes.items() if n > 1 or axis in "YX")
    if kept not in ("YX", "CYX", "YXS"):
        raise ValueError(
            f"{image.source} has the axes {image.axes} and shape {image.shape}; a field has "
            "channels, Y and X only: write each time or depth to a file of its own."
        )
    return sizes.get("C" if "C" in kept else "S", 1)


def _default_names(image: Image, n: int) -> tuple[str, ...]:
    return _COLORS[:n] if "S" in image.axes else tuple(str(i + 1) for i in range(n))
