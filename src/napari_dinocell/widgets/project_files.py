"""Annotation projects: from layers to a folder, and back; see `core.project` for the format."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from napari.layers import Image

from napari_dinocell.core.corrections import FIRST_VERIFIED, REJECTED
from napari_dinocell.core.writing import whole_file
from napari_dinocell.widgets.annotations import AnnotatedLayer, examples, rectangles, region_layer
from napari_dinocell.widgets.corrected import corrected_layer
from napari_dinocell.widgets.jobs import Steps, Ticket
from napari_dinocell.widgets.layers import layer_part
from napari_dinocell.widgets.origin import Origin
from napari_dinocell.widgets.placement import Placement

if TYPE_CHECKING:
    from napari_dinocell.core.intensity import IntensityRange
    from napari_dinocell.widgets.adapt_work import Outcome

__all__ = ["Opened", "add_layers", "read_project", "write_project"]

Rectangle = tuple[int, int, int, int]


@dataclass(frozen=True, eq=False)
class Opened:
    """One plane of a project, as layers hold it.

    Attributes
    ----------
    name : str
    pixels : (Y, X) or (Y, X, S) array
    pixel_size_um : (float, float) or None
    corrected : (Y, X) int array
        As in `core.corrections`.
    regions : list of rectangles
        Complete ones; see `annotations.rectangles`.
    scale, intensity
        As in `core.project.Entry`.
    """

    name: str
    pixels: npt.NDArray[Any]
    pixel_size_um: tuple[float, float] | None
    corrected: npt.NDArray[np.integer]
    regions: list[Rectangle]
    scale: float | None
    intensity: IntensityRange | None


def write_project(
    ticket: Ticket, folder: Path, annotated: list[AnnotatedLayer], kept: list[Outcome]
) -> Steps:
    """Steps that write all annotated planes and adapted models; give a line about it."""
    yield f"Writing {folder.name} …"
    core = import_module("napari_dinocell.core.project")
    given = examples(annotated)
    if not given:
        raise ValueError("Nothing is annotated yet: accept, delete or correct some cells first.")
    project = core.Project.create(folder)
    names: set[str] = set()
    for done, one in enumerate(given):
        if ticket.cancel():
            raise import_module("napari_dinocell.core.errors").Cancelled("Cancelled.")
        name = _file_name(one.name, names)
        names.add(name)
        project.add(
            name,
            one.image,
            one.labels,
            one.background if one.background is not None and one.background.any() else None,
            one.complete_regions
            if one.complete_regions is not None and one.complete_regions.any()
            else None,
            scale=one.scale,
            intensity=one.intensity,
        )
        ticket.progress(done + 1, len(given))
    for outcome in kept:
        _add_model(project, outcome)
    planes = "1 plane" if len(given) == 1 else f"{len(given)} planes"
    return f"Wrote {planes} to {folder.name}."


def read_project(ticket: Ticket, folder: Path) -> Steps:
    """Steps that read a project; give its planes, and names of models that are new here."""
    yield f"Reading {folder.name} …"
    project = import_module("napari_dinocell.core.project").Project(folder)
    opened = []
    for done, entry in enumerate(project.entries):
        if ticket.cancel():
            raise import_module("napari_dinocell.core.errors").Cancelled("Cancelled.")
        one = project.read(entry)
        background = np.zeros(one.labels.shape, bool) if one.background is None else one.background
        opened.append(
            Opened(
                entry.name,
                np.asarray(one.image.array[...]),
                one.image.pixel_size_um,
                _corrected(one.labels, background),
                [] if one.regions is None else rectangles(one.regions),
                entry.scale,
                entry.intensity,
            )
        )
        ticket.progress(done + 1, len(project.entries))
    return opened, list(_import_models(project))


def add_layers(viewer: Any, one: Opened) -> None:
    """Add a plane of a project to a viewer: image, corrections, complete regions."""
    size = one.pixel_size_um
    units = {} if size is None else {"scale": size, "units": ("µm", "µm")}
    is_color = one.pixels.ndim == 3
    image = viewer.add_layer(Image(one.pixels, name=one.name, rgb=is_color, **units))
    part = layer_part(image, "YXS" if is_color else "YX")
    ranges = None if one.intensity is None else (one.intensity,)
    layer = viewer.add_layer(
        corrected_layer(
            one.corrected,
            f"{one.name} corrected",
            Placement.of(image).keep([0, 1]),
            Origin(part, scale=one.scale, ranges=ranges),
            None,
        )
    )
    if one.regions:
        shapes = region_layer(viewer, layer)
        for top, bottom, left, right in one.regions:
            # Pixel centers lie at whole numbers, the edges of pixels between them.
            y, x = (top - 0.5, bottom - 0.5), (left - 0.5, right - 0.5)
            corners = [(y[0], x[0]), (y[0], x[1]), (y[1], x[1]), (y[1], x[0])]
            shapes.add_rectangles(np.array(corners))
    viewer.layers.selection.active = image


def _corrected(
    labels: npt.NDArray[np.integer], background: npt.NDArray[np.bool_]
) -> npt.NDArray[np.integer]:
    ids = np.setdiff1d(labels, [0])
    corrected = np.where(labels != 0, np.searchsorted(ids, labels) + FIRST_VERIFIED, 0)
    corrected[background & (labels == 0)] = REJECTED
    is_small = corrected.max(initial=0) <= np.iinfo(np.uint16).max
    return corrected.astype(np.uint16 if is_small else np.int32)


def _file_name(name: str, taken: set[str]) -> str:
    """Stem for the files of a plane: what no file system refuses, and not taken yet."""
    stem = re.sub(r"[^\w -]", "_", name).strip() or "image"
    unique, number = stem, 2
    while unique in taken:
        unique, number = f"{stem} {number}", number + 1
    return unique


def _add_model(project: Any, outcome: Outcome) -> None:
    own = import_module("napari_dinocell.core.model.own")
    entry = import_module("napari_dinocell.core.project_file").ModelEntry
    source = own.own_model_path(outcome.name)
    if not source.is_file():
        return  # renamed or deleted since
    target = project.folder / "models" / source.name
    target.parent.mkdir(parents=True, exist_ok=True)
    with whole_file(target) as temporary:
        shutil.copyfile(source, temporary)
    at = outcome.adapted.thresholds
    project.add_model(
        entry(
            file=f"models/{source.name}",
            base=outcome.base,
            peak=at.peak,
            fill=at.fill,
            verdict=outcome.adapted.report.verdict,
        )
    )


def _import_models(project: Any) -> Iterator[str]:
    """Copy the project's models that the user does not have; give their names."""
    own = import_module("napari_dinocell.core.model.own")
    load_model = import_module("napari_dinocell.core.model.files").load_model
    for model in project.models:
        source = project.folder / model.file
        if not source.is_file() or own.own_model_path(source.stem).is_file():
            continue
        load_model(source)  # refuses what is damaged, or lacks its encoder
        target = own.own_model_path(source.stem)
        target.parent.mkdir(parents=True, exist_ok=True)
        with whole_file(target) as temporary:
            shutil.copyfile(source, temporary)
        yield source.stem
