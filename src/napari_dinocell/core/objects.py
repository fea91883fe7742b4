"""One row per 3-D object, from the rows of its cells in each plane.

The cells of an object share one id through all planes, as `link.link` gives it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = ["measure_objects"]

Table = dict[str, npt.NDArray[Any]]
Floats = npt.NDArray[np.float64]


def measure_objects(
    table: Mapping[str, npt.NDArray[Any]], voxel_um: tuple[float, float, float] | None = None
) -> Table:
    """Volume, place and intensities of each object.

    Parameters
    ----------
    table : mapping
        Rows of cells as from `measure.measure`, of all planes below each other, with the column
        ``z`` for the plane of each and, of a movie, ``frame``.
    voxel_um : (float, float, float), optional
        Depth, height and width of a voxel in µm: adds twins in µm.

    Returns
    -------
    dict of str to (n,) array
        One row per id, of a movie per id and frame. ``frame`` where there are any, ``label``;
        ``n_planes``, ``z_first`` and ``z_last``; ``volume`` (voxels); ``area_max``, its largest
        cross-section (px); ``centroid-0`` to ``-2`` (z, y, x); the intensities of all its voxels
        where the cells have any; ``volume_um3``, ``centroid-0_um`` to ``-2_um`` and
        ``equivalent_diameter_um``, that of the sphere of the same volume.

    Raises
    ------
    ValueError
        If there is no column ``z``, or a size of the voxel is not positive.
    """
    if "z" not in table:
        raise ValueError("The table has no column z; objects need cells of several planes.")
    if voxel_um is not None and not all(0 < size < float("inf") for size in voxel_um):
        raise ValueError(f"Voxel size is {voxel_um} µm; give three positive numbers (z, y, x).")
    keys = [np.asarray(table[name]) for name in ("frame", "label") if name in table]
    names, first, at = np.unique(np.stack(keys), axis=1, return_index=True, return_inverse=True)
    at, n = at.reshape(-1), names.shape[1]
    z, area = (np.asarray(table[name], np.float64) for name in ("z", "area"))
    volume = np.asarray(np.bincount(at, area, n), np.float64)
    objects: Table = {name: table[name][first] for name in ("frame", "label") if name in table}
    objects["n_planes"] = np.bincount(at, minlength=n)
    objects["z_first"] = _extreme(np.minimum, at, n, z).astype(np.int64)
    objects["z_last"] = _extreme(np.maximum, at, n, z).astype(np.int64)
    objects["volume"] = volume.astype(np.int64)
    objects["area_max"] = _extreme(np.maximum, at, n, area).astype(np.int64)
    for axis, column in enumerate((z, table["centroid-0"], table["centroid-1"])):
        objects[f"centroid-{axis}"] = np.bincount(at, area * column, n) / volume
    objects |= _intensities(table, at, n, area, volume)
    if voxel_um is not None:
        objects["volume_um3"] = volume * float(np.prod(voxel_um))
        for axis, size in enumerate(voxel_um):
            objects[f"centroid-{axis}_um"] = objects[f"centroid-{axis}"] * size
        objects["equivalent_diameter_um"] = np.cbrt(6 / np.pi * objects["volume_um3"])
    return objects


def _intensities(
    table: Mapping[str, npt.NDArray[Any]],
    at: npt.NDArray[np.intp],
    n: int,
    area: Floats,
    volume: Floats,
) -> Table:
    """Of all voxels of an object, whatever the number of channels."""
    found: Table = {}
    for name in table:
        kind, _, channel = name.removeprefix("intensity_").partition("-")
        if not name.startswith("intensity_"):
            continue
        column = np.asarray(table[name], np.float64)
        if kind == "mean":
            found[name] = np.bincount(at, area * column, n) / volume
        elif kind == "min":
            found[name] = _extreme(np.minimum, at, n, column)
        elif kind == "max":
            found[name] = _extreme(np.maximum, at, n, column)
        elif kind == "std":
            ending = f"-{channel}" if channel else ""
            mean = np.asarray(table[f"intensity_mean{ending}"], np.float64)
            whole = (np.bincount(at, area * mean, n) / volume)[at]
            # Spread within the planes, and of the planes about the mean of the object.
            variance = np.bincount(at, area * (column**2 + (mean - whole) ** 2), n) / volume
            found[name] = np.sqrt(variance)
    return found


def _extreme(which: np.ufunc, at: npt.NDArray[np.intp], n: int, values: Floats) -> Floats:
    start = np.inf if which is np.minimum else -np.inf
    found = np.full(n, start)
    which.at(found, at, values)
    return found
