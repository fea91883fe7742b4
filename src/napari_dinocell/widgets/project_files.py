"""Annotation projects: from layers to a folder, and back; see `core.project` for the format."""

from __future__ import annotations

import re
import shutil
from collections.abc import Set
from dataclasses import dataclass
from importlib import import_module
from itertools import chain, count
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from napari.layers import Image

from napari_dinocell.core.corrections import FIRST_VERIFIED, REJECTED
from napari_dinocell.core.writing import whole_file
from napari_dinocell.widgets.annotations import AnnotatedLayer, examples, rectangles, region_layer
from napari_dinocell.widgets.corrected import OUTLINE, corrected_layer
from napari_dinocell.widgets.jobs import Steps, Ticket
from napari_dinocell.widgets.layers import layer_part
from napari_dinocell.widgets.origin import Origin
from napari_dinocell.widgets.placement import Placement

if TYPE_CHECKING:
    from napari_dinocell.core.adapt import Example
    from napari_dinocell.core.images import Image as CoreImage
    from napari_dinocell.core.intensity import IntensityRange
    from napari_dinocell.core.project import Entry, Project
    from napari_dinocell.widgets.adapt_work import Outcome

__all__ = ["Opened", "Read", "Written", "add_layers", "read_project", "write_project"]

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


@dataclass(frozen=True)
class Written:
    """What was written.

    Attributes
    ----------
    folder : Path
    names : frozenset of str
        Of the planes.
    sentence : str
    """

    folder: Path
    names: frozenset[str]
    sentence: str


@dataclass(frozen=True, eq=False)
class Read:
    """What was read.

    Attributes
    ----------
    folder : Path
    planes : list of Opened
    models : list of str
        Names of models that are new here.
    problems : list of str
        A sentence for each model that could not be taken.
    """

    folder: Path
    planes: list[Opened]
    models: list[str]
    problems: list[str]


def write_project(
    ticket: Ticket,
    folder: Path,
    annotated: list[AnnotatedLayer],
    kept: list[Outcome],
    known: frozenset[str],
) -> Steps:
    """Steps that write all annotated planes and adapted models; give a `Written`.

    Parameters
    ----------
    known : frozenset of str
        Planes of that project that were opened or written here: they may be replaced by the same
        image. Others stay, and a plane of the same name gets a number.
    """
    yield f"Writing {folder.name} …"
    core = import_module("napari_dinocell.core.project")
    given = examples(annotated)
    if not given:
        raise ValueError("Nothing is annotated yet: accept, delete or correct some cells first.")
    project = core.Project.create(folder)
    names: dict[str, str] = {}
    for done, one in enumerate(given):
        if ticket.cancel():
            raise import_module("napari_dinocell.core.errors").Cancelled("Cancelled.")
        name, older = _place_for(one, project, known - names.keys())
        names[name] = one.name
        is_elsewhere = older is not None and older.image != f"images/{name}.tif"
        project.add(
            name,
            one.image,
            one.labels,
            one.background if one.background is not None and one.background.any() else None,
            one.complete_regions
            if one.complete_regions is not None and one.complete_regions.any()
            else None,
            reference=project.image_path(older) if is_elsewhere else None,
            scale=one.scale,
            diameter=None if older is None else older.diameter,
            intensity=one.intensity,
        )
        ticket.progress(done + 1, len(given))
    for outcome in kept:
        _add_model(project, outcome)
    planes = "1 plane" if len(given) == 1 else f"{len(given)} planes"
    others = [f"“{old}” is called “{name}”" for name, old in names.items() if name != _stem(old)]
    why = f" Their names were taken: {', '.join(others)}." if others else ""
    return Written(folder, frozenset(names), f"Wrote {planes} to {folder.name}.{why}")


def read_project(ticket: Ticket, folder: Path) -> Steps:
    """Steps that read a project and import its models; give a `Read`."""
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
    return Read(folder, opened, *_import_models(project))


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
    layer.contour = OUTLINE
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


def _stem(name: str) -> str:
    """Stem for the files of a plane: what no file system refuses."""
    return re.sub(r"[^\w .-]", "_", name).strip(" .").removesuffix(".ome") or "image"


def _place_for(one: Example, project: Project, known: Set[str]) -> tuple[str, Entry | None]:
    """Name of a plane in a project, and what it replaces there: the same image, if it is known."""
    by_stem = import_module("napari_dinocell.core.project_file").by_stem
    kinds = import_module("napari_dinocell.core.marks").KINDS
    entries = {entry.name: entry for entry in project.entries}
    stems = (by_stem(project.folder / kind) for kind in ("images", *kinds))
    taken = {stem.casefold() for stem in chain(entries, *stems)}
    stem, image = _stem(one.name), one.image
    assert not isinstance(image, np.ndarray)  # an example makes an image of what it is given
    for name in chain([stem], (f"{stem} {number}" for number in count(2))):
        if name.casefold() not in taken:
            return name, None
        if name in known and name in entries and _shows(project, entries[name], image):
            return name, entries[name]
    raise AssertionError("numbers do not end")


def _shows(project: Project, entry: Entry, image: CoreImage) -> bool:
    """Whether the image of an entry is there, and has these pixels."""
    path = project.image_path(entry)
    if not path.is_file():
        return False
    stored = import_module("napari_dinocell.core.images").read_image(path, entry.axes)
    return stored.shape == image.shape and np.array_equal(stored.array[...], image.array[...])


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


def _import_models(project: Project) -> tuple[list[str], list[str]]:
    """Import the project's models that the user does not have; give their names, and problems.

    A model that lacks its encoder must not keep the annotation from being opened.
    """
    manage = import_module("napari_dinocell.core.model.manage")
    names, problems = [], []
    for model in project.models:
        try:
            name = manage.import_unless_there(project.folder / model.file)
        except (ValueError, OSError) as error:
            problems.append(str(error))
            continue
        if name is not None:
            names.append(name)
    return names, problems
