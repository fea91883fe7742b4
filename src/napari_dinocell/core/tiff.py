"""Read TIFF: plain, OME, ImageJ, BigTIFF, pyramids, several series."""

import logging
import threading
import xml.etree.ElementTree as ElementTree
from typing import Any

import numpy as np
import tifffile
from tifffile import TiffFileError

from napari_dinocell.core.errors import ImageFileError
from napari_dinocell.core.lazy import DAMAGE, ChunkedArray, StoredImage, cannot_read
from napari_dinocell.core.storage import File, is_remote
from napari_dinocell.core.units import um_per_unit

_LOG = logging.getLogger(__name__)

LAZY_BYTES = 256 * 2**20
_COLOR = ("RGB", "YCBCR")
_ALPHA = (1, 2)

Metadata = tuple[tuple[float, float] | None, tuple[str, ...], float | None]


def read(file: File, series: int | str = 0, lazy_bytes: int = LAZY_BYTES) -> StoredImage:
    """Full resolution of one series of a TIFF file.

    Parameters
    ----------
    file : File
    series : int or str
        Position from 0, or name.
    lazy_bytes : int
        Images above this size stay on disk: memory-mapped if stored in one piece, else decoded
        chunk by chunk.

    Returns
    -------
    StoredImage
        Axes are named where OME, ImageJ or the writer's own metadata name them; S only where the
        file says that it is a color image. The pixel size comes from OME or ImageJ; the print
        resolution (dpi) of other files says nothing about the microscope.

    Raises
    ------
    ImageFileError
        If the file is damaged, needs a codec that is not installed, or has no such series.
    """
    complaints = _Complaints()
    try:
        with complaints:
            return _read(file, series, lazy_bytes, complaints)
    except (TiffFileError, *DAMAGE) as error:
        if isinstance(error, (ImageFileError, PermissionError)):
            raise
        raise cannot_read(str(file), error) from error


def _read(file: File, series: int | str, lazy_bytes: int, complaints: "_Complaints") -> StoredImage:
    tif = tifffile.TiffFile(file.open() if is_remote(file) else file.local_path())
    stays_open = False
    try:
        index = _choose(file, [s.name for s in tif.series], series)
        if series == 0 and len(tif.series) > 1:
            _LOG.warning("%s holds %d images; the first is read.", file, len(tif.series))
        chosen = tif.series[index]
        complaints.judge(file)
        page = chosen.keyframe
        needs_pixels = page.photometric.name in ("PALETTE", "MINISWHITE")
        axes = _axes(chosen)
        array: Any
        if chosen.size * chosen.dtype.itemsize <= lazy_bytes or needs_pixels:
            array = chosen.asarray()
        elif chosen.dataoffset is not None and not is_remote(file):
            array = tifffile.memmap(file.local_path(), series=index, mode="r")
        else:
            import zarr  # noqa: PLC0415  half a second that most images don't need

            source = zarr.open(chosen.aszarr(level=0), mode="r")
            array = ChunkedArray(source, str(file), close=tif.close)
            stays_open = True
            array[(slice(0, 1),) * array.ndim]  # a missing codec shows here, not after an hour
        if needs_pixels:
            array, axes = _shown_pixels(array, page, axes)
        return StoredImage(array, axes, *_metadata(tif, index))
    finally:
        if not stays_open:
            tif.close()


class _Complaints(logging.Handler):
    """Catches what tifffile logs: of a stack that is cut short it says no more than that."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self._texts: list[str] = []
        self._thread = threading.get_ident()

    def emit(self, record: logging.LogRecord) -> None:
        if record.thread == self._thread:
            self._texts.append(record.getMessage())

    def judge(self, file: File) -> None:
        """Refuse a file whose list of pages leads beyond its end; report planes never recorded."""
        signs = ("invalid page offset", "ImageJ series metadata invalid")
        if any(sign in text for text in self._texts for sign in signs):
            raise ImageFileError(f"{file} is cut short: some of its planes are missing.")
        if any("Missing data are zeroed" in text for text in self._texts):
            _LOG.warning("%s lacks planes that its metadata promise; they are read as 0.", file)

    def __enter__(self) -> None:
        logging.getLogger("tifffile").addHandler(self)

    def __exit__(self, *_: object) -> None:
        logging.getLogger("tifffile").removeHandler(self)


def series_of(file: File) -> list[tuple[str, tuple[int, ...], str]]:
    """Name, shape and axes of each series, for a chooser."""
    try:
        with tifffile.TiffFile(file.open() if is_remote(file) else file.local_path()) as tif:
            return [(s.name, tuple(s.shape), _axes(s)) for s in tif.series]
    except (TiffFileError, *DAMAGE) as error:
        raise cannot_read(str(file), error) from error


def _choose(file: File, names: list[str], series: int | str) -> int:
    if isinstance(series, str) and series in names:
        return names.index(series)
    if (isinstance(series, int) or series.isdecimal()) and 0 <= int(series) < len(names):
        return int(series)
    if not names:
        raise ImageFileError(f"{file} holds no image.")
    listed = ", ".join(f"{i} {name}".rstrip() for i, name in enumerate(names))
    raise ImageFileError(f"{file} has no series {series!r}; it has {listed}.")


def _axes(series: Any) -> str:
    """Axes in our letters, `?` where the file does not really say."""
    axes = ["?" if letter not in "TZCYXS" else letter for letter in series.axes]
    if "S" in axes:
        page = series.keyframe
        at = axes.index("S")
        extra = [int(kind) for kind in page.extrasamples]
        n_color = series.shape[at] - len(extra)
        is_color = page.photometric.name in _COLOR and n_color == 3
        is_gray_alpha = page.photometric.name == "MINISBLACK" and n_color == 1
        if not (is_color or (is_gray_alpha and extra)) or any(e not in _ALPHA for e in extra):
            axes[at] = "?"
    return "".join(axes)


def _shown_pixels(array: np.ndarray[Any, Any], page: Any, axes: str) -> tuple[Any, str]:
    """Pixels as they are meant to be seen: palette applied, white-is-zero turned around.

    Not so masks: one-bit pages are written as white-is-zero by default, and their 1 means inside.
    """
    if page.photometric.name == "MINISWHITE":
        return (np.invert(array) if array.dtype.kind == "u" else array), axes
    if page.colormap is None:
        return array, axes
    palette = np.asarray(page.colormap)
    if np.array_equal(palette[0], palette[1]) and np.array_equal(palette[0], palette[2]):
        return palette[0][array], axes
    return np.moveaxis(palette[:, array], 0, -1), axes + "S"


def _metadata(tif: Any, index: int) -> Metadata:
    """Pixel size in µm (y, x), channel names, and µm between planes along Z."""
    series = tif.series[index]
    if tif.is_ome and tif.ome_metadata:
        return _ome(tif.ome_metadata, index, dict(zip(series.axes, series.shape, strict=True)))
    if tif.is_imagej and tif.imagej_metadata:
        um = um_per_unit(str(tif.imagej_metadata.get("unit", "")))
        tags = series.keyframe.tags
        if um is not None and "XResolution" in tags and "YResolution" in tags:
            # Pixels per unit, as a fraction.
            (ny, dy), (nx, dx) = tags["YResolution"].value, tags["XResolution"].value
            if min(ny, dy, nx, dx) > 0:
                z_step_um = um * float(tif.imagej_metadata.get("spacing", np.nan))
                return (um * dy / ny, um * dx / nx), (), _length(z_step_um)
    return None, (), None


def _ome(xml: str, index: int, lengths: dict[str, int]) -> Metadata:
    try:
        root = ElementTree.fromstring(xml)
    except ElementTree.ParseError:
        return None, (), None
    found = [image.find("{*}Pixels") for image in root.findall("{*}Image")]
    pixels = found[index] if index < len(found) else None
    # An image that is listed but not in the file would shift the numbering: compare the sizes.
    if pixels is None or any(
        int(pixels.get(f"Size{letter}", 0)) != lengths.get(letter, 1) for letter in "YX"
    ):
        return None, (), None
    z, y, x = (
        _length(
            (um_per_unit(pixels.get(f"PhysicalSize{letter}Unit", "µm")) or np.nan)
            * float(pixels.get(f"PhysicalSize{letter}", "nan"))
        )
        for letter in "ZYX"
    )
    names = tuple(channel.get("Name", "") for channel in pixels.findall("{*}Channel"))
    return (y, x) if y and x else None, names if all(names) else (), z


def _length(um: float) -> float | None:
    return um if np.isfinite(um) and um > 0 else None
