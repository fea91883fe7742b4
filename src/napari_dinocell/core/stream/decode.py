"""From an object's bytes to its planes, with the checks that tell a damaged image from a dark one."""

import io
from dataclasses import dataclass
from typing import Any

import numpy as np
import tifffile
from numpy.typing import NDArray
from PIL import Image as PillowImage

_TIFF_MAGIC = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")


class DamagedError(Exception):
    """Bytes that arrived, but are no usable image; `kind` is the name it is counted under."""

    def __init__(self, kind: str, message: str) -> None:
        super().__init__(message)
        self.kind = kind


@dataclass(frozen=True)
class PlaneChecks:
    """What a plane must not look like.

    Attributes
    ----------
    most_zeros : float
        Largest share of pixels that are exactly 0 in 16 bits or more. Cameras have an offset, so
        zeros are parts of a file that were never written. Not asked of 8 bits, where black is 0.
    refuse_constant : bool
        Whether a plane with one value only is damaged.
    """

    most_zeros: float = 0.5
    refuse_constant: bool = True

    def check(self, planes: NDArray[Any], address: str) -> None:
        """Refuse planes (C, Y, X) that are constant or mostly zero, with DamagedError."""
        for plane in planes:
            if plane.dtype.kind == "f" and not np.isfinite(plane).all():
                raise DamagedError("not finite", f"{address} holds values that are not numbers")
            if self.refuse_constant and plane.min() == plane.max():
                raise DamagedError("constant", f"{address} has the value {plane.flat[0]} only")
            zeros = 1 - np.count_nonzero(plane) / plane.size
            if plane.dtype.itemsize > 1 and zeros > self.most_zeros:
                raise DamagedError(
                    "zeros",
                    f"{address} consists of zeros to {zeros:.0%} (if such planes are whole, as where "
                    "the background was subtracted, set data.most_zeros=1)",
                )


def decode(data: bytes, address: str) -> NDArray[Any]:
    """Planes of a TIFF, PNG or JPEG file.

    Returns
    -------
    (C, Y, X) array
        Values and dtype as stored; big endian becomes native. C is 1 for a single plane.

    Raises
    ------
    DamagedError
        If the bytes are no such file, cut short, or have other axes.
    """
    try:
        image = _tiff(data, address) if data[:4] in _TIFF_MAGIC else _raster(data)
    except DamagedError:
        raise
    # A damaged file makes tifffile and the codecs below it raise nearly anything.
    except Exception as error:
        message = f"{address} cannot be decoded: {type(error).__name__} {error}"
        raise DamagedError("decode", message) from error
    if image.ndim == 2:
        image = image[None]
    if image.ndim != 3 or 0 in image.shape or image.dtype.kind not in "uif":
        raise DamagedError(
            "decode",
            f"{address} has the shape {image.shape} and type {image.dtype}; expected (Y, X) or "
            "(C, Y, X) numbers",
        )
    return np.ascontiguousarray(image, image.dtype.newbyteorder("="))


def _tiff(data: bytes, address: str) -> NDArray[Any]:
    with tifffile.TiffFile(io.BytesIO(data)) as tif:
        series = tif.series[0]
        others = set(series.axes) & set("ZTAHRP")  # depth, time, angle and the like
        if others:
            raise DamagedError(
                "axes", f"{address} has the axes {series.axes}; a field has channels, Y and X only"
            )
        for page in series.pages:
            if page is None:  # listed in the metadata, in a file that is not there
                raise DamagedError("decode", f"{address} lacks some of its planes")
            # Pieces that were never written have no place in the file; tifffile reads them as 0.
            places = zip(page.dataoffsets, page.databytecounts, strict=True)
            if any(start <= 0 or n <= 0 or start + n > len(data) for start, n in places):
                raise DamagedError("decode", f"{address} lacks parts of its pixels")
        image = np.asarray(series.asarray(maxworkers=1))
        if series.axes.endswith("S"):  # color stored pixel by pixel
            image = np.moveaxis(image, -1, 0)
    return image


def _raster(data: bytes) -> NDArray[Any]:
    with PillowImage.open(io.BytesIO(data)) as picture:
        if picture.mode == "P":
            picture_out: Any = picture.convert("RGB")
        else:
            picture.load()
            picture_out = picture
        image = np.asarray(picture_out)
    if image.dtype == np.int32:  # how older Pillow hands out 16-bit gray
        image = image.astype(np.uint16)
    return np.moveaxis(image, -1, 0) if image.ndim == 3 else image
