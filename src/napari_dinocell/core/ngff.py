"""Read OME-Zarr (NGFF 0.4 and 0.5) and bare Zarr arrays; write label images as NGFF 0.5."""

from pathlib import Path
from typing import Any

import numpy as np

from napari_dinocell.core.errors import ImageFileError
from napari_dinocell.core.exports import check_label_axes, smallest_labels
from napari_dinocell.core.lazy import DAMAGE, ChunkedArray, StoredImage, cannot_read
from napari_dinocell.core.storage import File, LocalFile, is_remote, natural_key
from napari_dinocell.core.units import um_per_unit
from napari_dinocell.core.writing import whole_file

_CHUNK = 1024
_SMALLEST = 512
_MARKS = ("zarr.json", ".zgroup", ".zarray")


def is_zarr(file: File) -> bool:
    """Whether this is the folder of a Zarr group or array."""
    return file.is_folder() and any(file.child(mark).exists() for mark in _MARKS)


def read(file: File, series: int | str = 0) -> StoredImage:
    """Full resolution of one image of an OME-Zarr folder, read chunk by chunk when sliced.

    Parameters
    ----------
    file : File
        Folder of an image, of several images as bioformats2raw writes them, or of a bare array.
    series : int or str
        Which image if there are several: position from 0, or name.

    Returns
    -------
    StoredImage
        The pixel size is known where the axes have a unit of length.

    Raises
    ------
    ImageFileError
        If there is no image, or its metadata or codec cannot be used.
    """
    if is_remote(file):
        raise ImageFileError(f"{file} is an OME-Zarr on S3, which is not supported; copy it here.")
    import zarr  # noqa: PLC0415  half a second that other formats don't need

    try:
        node = zarr.open(str(file.local_path()), mode="r")
        if isinstance(node, zarr.Array):
            return StoredImage(ChunkedArray(node, str(file)), _bare_axes(node))
        group, multiscale, metadata = _choose(file, node, series)
        dataset = multiscale["datasets"][0]
        array = group[dataset["path"]]
        axes, units = _named_axes(multiscale, len(array.shape))
        sizes = _scale(dataset, array.ndim) * _scale(multiscale, array.ndim)
        um = {
            letter: float(size * (um_per_unit(unit) or 0))
            for letter, size, unit in zip(axes, sizes, units, strict=True)
        }
        y, x, z_step_um = (um.get(letter, 0.0) for letter in "YXZ")
        channels = metadata.get("omero", {}).get("channels", ())
        names = tuple(str(channel.get("label", "")) for channel in channels)
        return StoredImage(
            ChunkedArray(array, str(file)),
            axes,
            (y, x) if min(y, x) > 0 else None,
            names if all(names) else (),
            z_step_um if z_step_um > 0 else None,
        )
    except DAMAGE as error:
        if isinstance(error, (ImageFileError, PermissionError)):
            raise
        raise cannot_read(str(file), error) from error


def _ome(group: Any) -> dict[str, Any]:
    """NGFF metadata of a group: under `ome` since 0.5, at the top before."""
    attributes = dict(group.attrs)
    ome: dict[str, Any] = attributes.get("ome", attributes)
    return ome


def _choose(file: File, root: Any, series: int | str) -> tuple[Any, Any, dict[str, Any]]:
    """Group, multiscale entry and metadata of the image that is asked for."""
    ome = _ome(root)
    if "plate" in ome or "well" in ome:
        kind = "plate" if "plate" in ome else "well"
        raise ImageFileError(
            f"{file} is a {kind} of many images; give the folder of one, for example "
            f"{file}/{'A/1/0' if kind == 'plate' else '0'}."
        )
    if "multiscales" in ome:
        images = [(str(m.get("name", "")), root, m, ome) for m in ome["multiscales"]]
    elif "bioformats2raw.layout" in ome:
        images = []
        for name in sorted((n for n in root.group_keys() if n.isdecimal()), key=natural_key):
            inner = _ome(root[name])
            images += [(name, root[name], m, inner) for m in inner.get("multiscales", ())[:1]]
    else:
        images = []
    if not images:
        arrays = ", ".join(sorted(root.array_keys(), key=natural_key)[:5])
        hint = f"; give one of its arrays: {arrays}" if arrays else ""
        raise ImageFileError(f"{file} is a Zarr group without an OME-Zarr image{hint}.")
    names = [name for name, *_ in images]
    if isinstance(series, str) and series in names:
        return images[names.index(series)][1:]
    if (isinstance(series, int) or series.isdecimal()) and 0 <= int(series) < len(images):
        return images[int(series)][1:]
    listed = ", ".join(f"{i} {name}".rstrip() for i, name in enumerate(names))
    raise ImageFileError(f"{file} has no series {series!r}; it has {listed}.")


def _bare_axes(array: Any) -> str:
    names = getattr(array.metadata, "dimension_names", None) or (None,) * array.ndim
    return "".join(_letter(str(name or ""), "") for name in names)


def _named_axes(multiscale: dict[str, Any], n_axes: int) -> tuple[str, list[str | None]]:
    # Formats 0.1 and 0.2 had no axes and always five dimensions in this order.
    entries = multiscale.get("axes", list("tczyx"))
    entries = [{"name": entry} if isinstance(entry, str) else entry for entry in entries]
    if len(entries) != n_axes:
        raise ImageFileError(f"its metadata name {len(entries)} axes, the array has {n_axes}")
    letters = "".join(_letter(entry["name"], entry.get("type", "")) for entry in entries)
    return letters, [entry.get("unit") for entry in entries]


def _letter(name: str, kind: str) -> str:
    by_kind = {"time": "T", "channel": "C"}
    return name.upper() if name.upper() in tuple("TZCYX") else by_kind.get(kind, "?")


def _scale(entry: dict[str, Any], n_axes: int) -> np.ndarray[Any, Any]:
    for transformation in entry.get("coordinateTransformations", ()):
        if transformation.get("type") == "scale" and "scale" in transformation:
            return np.asarray(transformation["scale"], float)
    return np.ones(n_axes)


def write_labels(
    path: str | Path,
    labels: np.ndarray[Any, Any],
    axes: str,
    pixel_size_um: tuple[float, float] | None = None,
    source: str | None = None,
) -> None:
    """Write labels as an OME-Zarr 0.5 label image with a pyramid, whole or not at all.

    Below the folder `labels` of an OME-Zarr 0.5 image, the new name is entered there too, so that
    viewers find the labels with their image.

    Parameters
    ----------
    path : str or Path
        Folder; what is there already is replaced.
    labels : int array, one axis per letter of `axes`
        Stored as uint16 if the ids fit, else as uint32.
    axes : str
        Out of `TZYX`; stored in this order.
    pixel_size_um : (float, float), optional
        µm per pixel along (Y, X).
    source : str, optional
        Relative address of the image that was segmented, for example `../../`.

    Raises
    ------
    TypeError, ValueError
        As `exports.write_labels`.
    OutputFileError
        If the folder cannot be written; then nothing of it is left.

    Notes
    -----
    Each level takes every second pixel of the one before, in Y and X, until both are below 512:
    no id is invented by averaging, and the first pixels of all levels lie on each other.
    """
    import zarr  # noqa: PLC0415

    path = Path(path)
    axes = check_label_axes(axes, labels)
    order = sorted(range(labels.ndim), key=lambda i: "TZYX".index(axes[i]))
    axes = "".join(axes[i] for i in order)
    stored = smallest_labels(labels).transpose(order)
    siblings = _labels_group(path)
    with whole_file(path) as temporary:
        group = zarr.create_group(str(temporary), zarr_format=3)
        datasets: list[dict[str, Any]] = []
        step = 1
        while step == 1 or max(stored.shape[-2:]) > step // 2 * _SMALLEST:
            level = stored[..., ::step, ::step]
            array = group.create_array(
                str(len(datasets)),
                shape=level.shape,
                dtype=level.dtype,
                chunks=(1,) * (level.ndim - 2) + tuple(min(_CHUNK, n) for n in level.shape[-2:]),
                dimension_names=list(axes.lower()),
            )
            array[...] = level
            scale = [1.0] * (len(axes) - 2) + [step * size for size in pixel_size_um or (1.0, 1.0)]
            transformations = [{"type": "scale", "scale": scale}]
            datasets.append(
                {"path": str(len(datasets)), "coordinateTransformations": transformations}
            )
            step *= 2
        group.attrs["ome"] = {
            "version": "0.5",
            "multiscales": [
                {
                    "name": path.stem,
                    "axes": [_axis_entry(a, pixel_size_um is not None) for a in axes],
                    "datasets": datasets,
                    "type": "nearest",
                }
            ],
            "image-label": {"source": {"image": source}} if source else {},
        }
    if siblings is not None:
        listed = dict(siblings.attrs.get("ome", {}))
        names = {*listed.get("labels", ()), path.name}
        siblings.attrs["ome"] = listed | {"version": "0.5", "labels": sorted(names)}


def _axis_entry(letter: str, has_size: bool) -> dict[str, str]:
    entry = {"name": letter.lower(), "type": "time" if letter == "T" else "space"}
    return entry | ({"unit": "micrometer"} if has_size and letter in "YX" else {})


def _labels_group(path: Path) -> Any:
    """The `labels` group that the path lies in, or None if it stands on its own."""
    image = path.parent.parent
    if path.parent.name != "labels" or not is_zarr(LocalFile(image)):
        return None
    if not (image / "zarr.json").exists():
        raise ValueError(
            f"{image} is an OME-Zarr of an older format than 0.5; write the labels beside it."
        )
    import zarr  # noqa: PLC0415

    return zarr.open_group(str(path.parent), mode="a", zarr_format=3)
