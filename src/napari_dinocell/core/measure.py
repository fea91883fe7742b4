"""One row of figures per cell, under the column names of scikit-image (0.26).

A table is a dict of equally long arrays, in the order of increasing labels: what pandas, CSV
writers and viewers take as it is.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt
from skimage.measure import regionprops_table

from napari_dinocell.core.confidence import confidence
from napari_dinocell.core.instances import Cut
from napari_dinocell.core.moments import intensities, moments, renumber

Table = dict[str, npt.NDArray[np.generic]]
FloatArray = npt.NDArray[np.float64]
PixelSize = tuple[float, float]

# Seconds for thousands of cells, because scikit-image visits each cell in Python.
SLOW_COLUMNS = ("perimeter", "perimeter_crofton", "area_convex", "solidity", "feret_diameter_max")


def measure(
    labels: npt.ArrayLike,
    image: npt.ArrayLike | None = None,
    pixel_size_um: PixelSize | None = None,
    cut: Cut | None = None,
    *,
    coefficients: Mapping[str, float] | None = None,
    shape: bool = False,
) -> Table:
    """Measure every cell of a plane.

    Parameters
    ----------
    labels : (Y, X) int array
        0 is background. Ids need not be consecutive; one row each.
    image : (Y, X) or (Y, X, C) array, optional
        Adds ``intensity_mean``, ``intensity_std``, ``intensity_min`` and ``intensity_max``, with
        the suffix ``-0``, ``-1``, ... where there are channels.
    pixel_size_um : (float, float), optional
        Height and width of a pixel in µm. Adds a twin in µm for each length and area:
        ``area_um2``, ``centroid-0_um``, ``equivalent_diameter_area_um``, ...
    cut : Cut, optional
        Where the labels come from: adds ``height``, ``prominence`` and ``mean_distance``. NaN for
        cells that it doesn't know, such as those painted by hand.
    coefficients : mapping, optional
        From the model card: adds ``confidence``. Needs `cut`.
    shape : bool, default False
        Add ``perimeter``, ``perimeter_crofton``, ``area_convex``, ``solidity`` and
        ``feret_diameter_max``: about a millisecond per cell, all others together about ten
        nanoseconds per pixel.

    Returns
    -------
    dict of str to (n,) array
        ``label`` (int32), ``area`` (px), ``centroid-0`` and ``-1`` (y, x), ``bbox-0`` to ``-3``
        (top, left, bottom, right; the last two exclusive), ``equivalent_diameter_area``,
        ``extent``, ``axis_major_length``, ``axis_minor_length``, ``eccentricity``,
        ``orientation`` (radians from the y axis to the major one), then what was asked for.

    Raises
    ------
    TypeError
        If `labels` is not of an integer kind.
    ValueError
        If `labels` is not 2-D or has negative ids, the image has other pixels, the pixel size is
        not positive, or `coefficients` come without `cut`.

    Notes
    -----
    ``perimeter_um`` and ``perimeter_crofton_um`` are NaN where pixels are not square: those
    estimates are defined for square pixels alone. Axis lengths in µm are those of the cell in
    µm, not scaled ones, and right for any pixel.
    """
    array = _checked_labels(labels)
    if pixel_size_um is not None and not all(0 < s < float("inf") for s in pixel_size_um):
        raise ValueError(f"Pixel size is {pixel_size_um} µm; give two positive numbers (y, x).")
    if coefficients is not None and cut is None:
        raise ValueError("Confidence needs the cut that the labels come from; give cut=.")
    ids, ranks = renumber(array)
    table = _geometry(ids, ranks, pixel_size_um)
    if shape:
        table |= _slow_columns(array, pixel_size_um)
    if image is not None:
        table |= _intensities(ranks, len(ids), np.asarray(image))
    if cut is not None:
        table |= _cut_columns(ids, cut, coefficients)
    return table


def summary(
    table: Mapping[str, npt.NDArray[np.generic]],
    shape: tuple[int, int],
    pixel_size_um: PixelSize | None = None,
) -> dict[str, float]:
    """Figures of a whole plane.

    Parameters
    ----------
    table : mapping
        With the column ``area`` (px), as from `measure`.
    shape : (int, int)
        Height and width of the plane (px).
    pixel_size_um : (float, float), optional
        Adds the twins in µm².

    Returns
    -------
    dict of str to float
        ``count``; ``area_mean`` and ``area_median`` (NaN without cells); ``confluency``, the
        share of the plane that cells cover, in [0, 1]; with a pixel size ``area_mean_um2``,
        ``area_median_um2`` and ``count_per_mm2``.
    """
    area = np.asarray(table["area"], np.float64)
    plane = float(shape[0] * shape[1])
    mean = float(area.mean()) if len(area) else float("nan")
    median = float(np.median(area)) if len(area) else float("nan")
    figures = {
        "count": float(len(area)),
        "area_mean": mean,
        "area_median": median,
        "confluency": float(area.sum()) / plane if plane else 0.0,
    }
    if pixel_size_um is not None:
        pixel = pixel_size_um[0] * pixel_size_um[1]
        figures["area_mean_um2"] = mean * pixel
        figures["area_median_um2"] = median * pixel
        figures["count_per_mm2"] = len(area) / (plane * pixel * 1e-6) if plane else 0.0
    return figures


def _checked_labels(labels: npt.ArrayLike) -> npt.NDArray[np.int32]:
    array = np.asarray(labels)
    if array.dtype.kind not in "iu":
        raise TypeError(f"Labels are {array.dtype}; they must be integers, 0 for background.")
    if array.ndim != 2:
        raise ValueError(f"Labels have shape {array.shape}; give one plane (Y, X).")
    if array.size and not (array.min() >= 0 and array.max() <= np.iinfo(np.int32).max):
        raise ValueError("Labels hold ids that are negative or above 2**31 - 1; renumber them.")
    return np.ascontiguousarray(array, np.int32)


def _geometry(
    ids: npt.NDArray[np.int32],
    ranks: npt.NDArray[np.int32],
    pixel_size_um: PixelSize | None,
) -> Table:
    """Columns that follow from position sums up to the second order."""
    area, boxes, center, spread = moments(ranks, len(ids))
    box_area = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
    diameter = np.sqrt(4 * area / np.pi)
    table: Table = {"label": ids, "area": area}
    table |= {f"centroid-{i}": center[:, i] for i in range(2)}
    table |= {f"bbox-{i}": boxes[:, i] for i in range(4)}
    table["equivalent_diameter_area"] = diameter
    table["extent"] = area / np.maximum(box_area, 1)
    major, minor = _axes(spread)
    table["axis_major_length"], table["axis_minor_length"] = major, minor
    table["eccentricity"] = np.sqrt(1 - (minor / np.where(major > 0, major, 1)) ** 2) * (major > 0)
    table["orientation"] = _orientation(spread)
    if pixel_size_um is not None:
        y, x = pixel_size_um
        table["area_um2"] = area * (y * x)
        table["centroid-0_um"], table["centroid-1_um"] = center[:, 0] * y, center[:, 1] * x
        table["equivalent_diameter_area_um"] = diameter * np.sqrt(y * x)
        major, minor = _axes(spread * np.array([y * y, x * x, y * x]))
        table["axis_major_length_um"], table["axis_minor_length_um"] = major, minor
    return table


def _axes(spread: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Axes of the ellipse with the variances (yy, xx) and covariance (yx) of each cell."""
    yy, xx, yx = spread.T
    middle, half = (yy + xx) / 2, np.hypot((yy - xx) / 2, yx)
    return 4 * np.sqrt(middle + half), 4 * np.sqrt(np.maximum(middle - half, 0))


def _orientation(spread: FloatArray) -> FloatArray:
    """Angle between the y axis and the major axis, in [-pi/2, pi/2], as scikit-image defines it."""
    yy, xx, yx = spread.T
    # Where the variances are equal scikit-image returns a quarter turn also without covariance.
    diagonal = np.where(yx > 0, np.pi / 4, -np.pi / 4)
    angle: FloatArray = np.where(yy == xx, diagonal, 0.5 * np.arctan2(2 * yx, yy - xx))
    return angle


def _slow_columns(labels: npt.NDArray[np.int32], pixel_size_um: PixelSize | None) -> Table:
    columns: dict[str, FloatArray] = regionprops_table(labels, properties=SLOW_COLUMNS)
    table: Table = dict(columns)
    if pixel_size_um is None:
        return table
    y, x = pixel_size_um
    table["area_convex_um2"] = columns["area_convex"] * (y * x)
    table["feret_diameter_max_um"] = regionprops_table(
        labels, properties=("feret_diameter_max",), spacing=pixel_size_um
    )["feret_diameter_max"]
    square = abs(y - x) <= 1e-3 * y
    for name in ("perimeter", "perimeter_crofton"):
        table[f"{name}_um"] = columns[name] * (y if square else float("nan"))
    return table


def _intensities(ranks: npt.NDArray[np.int32], n: int, image: npt.NDArray[np.generic]) -> Table:
    if image.shape[:2] != ranks.shape or image.ndim not in (2, 3):
        raise ValueError(
            f"Image has shape {image.shape}, labels {ranks.shape}; give (Y, X) or (Y, X, C)."
        )
    if image.dtype.kind not in "biuf":
        raise TypeError(f"Image is {image.dtype}; expected real numbers.")
    channels = {"": image}
    if image.ndim == 3:
        channels = {f"-{c}": image[:, :, c] for c in range(image.shape[2])}
    table: Table = {}
    for suffix, channel in channels.items():
        # Kernels take no half floats and no foreign byte order; bool would need one of its own.
        dtype = {"b": np.dtype(np.uint8), "f": np.promote_types(channel.dtype, np.float32)}.get(
            channel.dtype.kind, channel.dtype.newbyteorder("=")
        )
        plane = np.require(channel, dtype, ["C", "W"])
        names = ("intensity_mean", "intensity_std", "intensity_min", "intensity_max")
        for name, column in zip(names, intensities(ranks, n, plane), strict=True):
            table[name + suffix] = column
    return table


def _cut_columns(
    ids: npt.NDArray[np.int32], cut: Cut, coefficients: Mapping[str, float] | None
) -> Table:
    """Columns of the cut, at the rows of its cells."""
    columns = {"height": cut.heights, "prominence": cut.prominences, "mean_distance": cut.means}
    if coefficients is not None:
        columns["confidence"] = confidence(cut, coefficients)
    at = np.searchsorted(cut.ids, ids)
    known = at < len(cut.ids)
    known[known] = cut.ids[at[known]] == ids[known]
    table: Table = {}
    for name, values in columns.items():
        column = np.full(len(ids), np.nan)
        column[known] = values[at[known]]
        table[name] = column
    return table
