"""Read PNG and JPEG without losing bits."""

import struct
import warnings
from threading import Lock
from typing import Any

import numpy as np
from PIL import Image as PillowImage
from PIL import UnidentifiedImageError

from napari_dinocell.core.errors import ImageFileError
from napari_dinocell.core.lazy import StoredImage
from napari_dinocell.core.storage import File

PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_PIXEL_LIMIT = Lock()


def read(file: File, series: int | str = 0) -> StoredImage:
    """Pixels of a PNG or JPEG file: (Y, X), or (Y, X, S) where the file says color or alpha.

    Palettes become RGB; 16-bit values stay 16-bit; CMYK becomes RGB.

    Raises
    ------
    ImageFileError
        If the file is damaged, or holds 16-bit color and `imagecodecs` is not installed.
    """
    head = file.read(0, 33)
    if not head:
        raise ImageFileError(f"{file} is empty.")
    # Pillow would cut 16-bit color down to 8 bits.
    if head.startswith(PNG_SIGNATURE) and len(head) == 33:
        depth, color_type = struct.unpack(">BB", head[24:26])
        if depth == 16 and color_type != 0:
            return _stored(_deep_color_png(file))
    try:
        return _stored(_with_pillow(file))
    except (OSError, SyntaxError, ValueError) as error:
        if isinstance(error, PermissionError):
            raise
        # What Pillow cannot name it names by the address of an object.
        reason = "" if isinstance(error, UnidentifiedImageError) else f": {error}"
        raise ImageFileError(
            f"{file} is damaged, cut short, or not a PNG or JPEG file{reason}."
        ) from error


def _stored(pixels: np.ndarray[Any, Any]) -> StoredImage:
    return StoredImage(pixels, "YX" if pixels.ndim == 2 else "YXS")


def _with_pillow(file: File) -> np.ndarray[Any, Any]:
    # Pillow's limit on pixels guards web servers; a stitched scan is legitimately larger.
    with _PIXEL_LIMIT, warnings.catch_warnings():
        warnings.simplefilter("ignore", PillowImage.DecompressionBombWarning)
        limit, PillowImage.MAX_IMAGE_PIXELS = PillowImage.MAX_IMAGE_PIXELS, None
        try:
            with file.open() as stream, PillowImage.open(stream) as picture:
                has_alpha = "transparency" in picture.info
                if picture.mode == "P":
                    picture_out = picture.convert("RGBA" if has_alpha else "RGB")
                elif has_alpha and picture.mode in ("1", "L", "RGB"):
                    picture_out = picture.convert("RGBA" if picture.mode == "RGB" else "LA")
                elif picture.mode in ("1", "L", "LA", "RGB", "RGBA", "F") or (
                    picture.mode.startswith("I")
                ):
                    picture.load()
                    return np.array(picture)
                else:
                    picture_out = picture.convert("RGB")
                return np.array(picture_out)
        finally:
            PillowImage.MAX_IMAGE_PIXELS = limit


def _deep_color_png(file: File) -> np.ndarray[Any, Any]:
    try:
        import imagecodecs  # noqa: PLC0415  optional extra
    except ImportError as error:
        raise ImageFileError(
            f"{file} holds 16-bit color, which needs imagecodecs: "
            'pip install "napari-dinocell[formats]".'
        ) from error
    try:
        pixels: np.ndarray[Any, Any] = imagecodecs.png_decode(file.read())
    except RuntimeError as error:
        raise ImageFileError(f"{file} is damaged or cut short: {error}.") from error
    return pixels
