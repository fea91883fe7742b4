"""One adaptation from files to files: what the command does."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from pydantic import ValidationError

from napari_dinocell.core.adapt.adaptation import Limits, adapt
from napari_dinocell.core.adapt.adapted import Adapted
from napari_dinocell.core.adapt.examples import Example, examples_of
from napari_dinocell.core.adapt.fit import Recipe
from napari_dinocell.core.adapt.folds import LEAST_CELLS
from napari_dinocell.core.adapt.report import Report
from napari_dinocell.core.adapt.terminal import Terminal
from napari_dinocell.core.device import resolve_device
from napari_dinocell.core.errors import ImageFileError
from napari_dinocell.core.exports import write_json
from napari_dinocell.core.images import read_image
from napari_dinocell.core.model.files import default_model
from napari_dinocell.core.project import ModelEntry, Project, is_project
from napari_dinocell.core.storage import open_file
from napari_dinocell.core.training.loop import stop_requests
from napari_dinocell.core.writing import make_folder

_log = logging.getLogger("napari_dinocell.adapt")


@dataclass(frozen=True)
class Job:
    """What goes in and what comes out; see the command's options."""

    inputs: tuple[str, ...]
    labels: tuple[Path, ...] = ()
    background: tuple[Path, ...] = ()
    regions: tuple[Path, ...] = ()
    axes: str | None = None
    channel: str | None = None
    diameter: float | None = None
    model: str | None = None
    output: Path | None = None
    report: Path | None = None
    full: bool = False
    overwrite: bool = False
    unverified: bool = False


@dataclass(frozen=True)
class Training:
    """How and for how long; see the command's options."""

    start: str = "warm"
    epochs: int = 50
    learning_rate: float = 3e-4
    seed: int = 0
    seconds: float = 25.0
    feature_seconds: float = 25.0
    device: str = "auto"

    def recipe(self) -> Recipe:
        """The part that decides the weights."""
        try:
            return Recipe.model_validate(
                {
                    "start": self.start,
                    "epochs": self.epochs,
                    "learning_rate": self.learning_rate,
                    "seed": self.seed,
                }
            )
        except ValidationError as error:
            first = error.errors()[0]
            raise ValueError(
                f"{first['loc'][0]}: {first['msg']}, not {first['input']!r}."
            ) from None

    def limits(self) -> Limits:
        """The part that decides the time."""
        return Limits(feature_seconds=self.feature_seconds, training_seconds=self.seconds)


def run(job: Job, training: Training) -> tuple[Report, bool]:
    """Adapt, and write the model and its report.

    Returns
    -------
    Report
    bool
        Whether a model was written: not if nothing better was found, nor if nothing could be
        verified and `unverified` is off.

    Raises
    ------
    ValueError, OSError
        If an input or an option cannot be used; before anything is computed where possible.
    """
    project = open_project(job)
    output = job.output or (project.folder / "models" / "adapted.safetensors" if project else None)
    if output is None:
        raise ValueError("The model file is missing; give it with --output.")
    report_path = job.report or output.with_suffix(".json")
    _check_outputs(output, report_path, job, project)
    recipe, limits = training.recipe(), training.limits()
    examples = read_examples(job, project)
    n_cells = sum(len(np.setdiff1d(example.labels, [0])) for example in examples)
    if n_cells < LEAST_CELLS and not job.unverified:
        cells = "1 cell is" if n_cells == 1 else f"{n_cells} cells are"
        raise ValueError(
            f"{cells} labeled; with fewer than {LEAST_CELLS} nobody can tell whether "
            "the model gets better. Label more, or add --unverified."
        )
    base = job.model or default_model(resolve_device(training.device).type)
    with stop_requests() as stopped, Terminal() as terminal:
        adapted = adapt(
            base,
            examples,
            recipe=recipe,
            limits=limits,
            device=training.device,
            progress=terminal.show,
            cancel=stopped,
        )
    return adapted.report, _write(adapted, job, project, output, report_path)


def _write(
    adapted: Adapted, job: Job, project: Project | None, output: Path, report_path: Path
) -> bool:
    report = adapted.report
    for note in report.notes:
        _log.warning("%s", note)
    _log.info("%s", report.sentence())
    keep = report.verdict in ("better", "thresholds") or (
        report.verdict == "unverified" and job.unverified
    )
    for path in (report_path, output):
        make_folder(path.parent)
    write_json(report_path, report.to_json())
    if not keep:
        _log.warning("No model was written; the report is %s.", report_path)
        return False
    card = adapted.save(output, full=job.full)
    _log.info("The model is %s; the report is %s.", output, report_path)
    # A folder made by hand stays one: with a project.json `train` would read it otherwise.
    if project is not None and is_project(project.folder):
        folder = project.folder.resolve()
        if not output.resolve().is_relative_to(folder):
            return True
        file = output.resolve().relative_to(folder).as_posix()
        project.add_model(
            ModelEntry(
                file=file,
                base=report.base,
                peak=card.peak,
                fill=card.fill,
                verdict=report.verdict,
            )
        )
    return True


def open_project(job: Job) -> Project | None:
    """The project that was given, or None for images with labels.

    Raises
    ------
    ValueError
        If both kinds of input are mixed, or there are not as many labels as images.
    """
    per_image = {"labels": job.labels, "background": job.background, "regions": job.regions}
    if len(job.inputs) == 1 and not job.labels and Path(job.inputs[0]).is_dir():
        for option in ("background", "regions"):
            if per_image[option]:
                raise ValueError(f"--{option} is for single images; a project has its own.")
        if job.axes or job.channel or job.diameter:
            raise ValueError("--axes, --channel and --diameter are for single images.")
        return Project(job.inputs[0])
    if not job.labels:
        open_file(job.inputs[0])  # the name of a project may be misspelt
        raise ValueError("Labels are missing; give --labels once per image, or one project.")
    n_images = f"{len(job.inputs)} image{'s' * (len(job.inputs) != 1)}"
    for option, given in per_image.items():
        if given and len(given) != len(job.inputs):
            raise ValueError(
                f"{n_images} and {len(given)} times --{option} were given; give "
                f"--{option} once per image, in the same order."
            )
    return None


def read_examples(job: Job, project: Project | None) -> list[Example]:
    """Annotated planes of a project, or of images and their label files."""
    if project is not None:
        return project_examples(project)
    n = len(job.inputs)
    examples: list[Example] = []
    for number in range(n):
        image = read_image(job.inputs[number], job.axes)
        own_axes = "".join(letter for letter in image.axes if letter not in "CS")
        parts = [
            _labels(paths[number], own_axes) if paths else None
            for paths in (job.labels, job.background, job.regions)
        ]
        assert parts[0] is not None
        examples += examples_of(
            image, parts[0], parts[1], parts[2], channel=job.channel, diameter=job.diameter
        )
    return examples


def project_examples(project: Project) -> list[Example]:
    """Annotated planes of a project."""
    examples = []
    for entry in project.entries:
        plane = project.read(entry)
        examples.append(
            Example(
                plane.image,
                plane.labels,
                plane.background,
                plane.regions,
                scale=entry.scale,
                diameter=entry.diameter,
                intensity=entry.intensity,
                name=entry.name,
            )
        )
    return examples


def _labels(path: Path, axes: str) -> npt.NDArray[Any]:
    """Labels or a mask with the axes of their image."""
    try:
        image = read_image(path, axes)
    except ImageFileError:
        raise
    except ValueError as error:
        raise ValueError(
            f"{path} does not have the axes {axes} of its image; give both one shape."
        ) from error
    array = np.asarray(image.array[...])
    if array.dtype.kind not in "bui":
        raise ValueError(f"{path} holds {array.dtype}; labels and masks are integers.")
    return array.astype(np.int64) if array.dtype.kind == "b" else array


def _check_outputs(output: Path, report: Path, job: Job, project: Project | None) -> None:
    if output.suffix != ".safetensors":
        raise ValueError(f"Model file {output} must end with .safetensors; change its name.")
    files = (*job.labels, *job.background, *job.regions)
    sources = {path.resolve() for path in (*map(Path, job.inputs), *files)}
    if project is not None:
        sources |= {project.image_path(entry).resolve() for entry in project.entries}
    for path in (output, report):
        if path.resolve() in sources:
            raise ValueError(f"{path} is an input; give another output.")
        if project is not None and project.owns(path):
            raise ValueError(
                f"{path} is a place of the project's own files; give another name, best in "
                f"{project.folder / 'models'}."
            )
    if output.resolve() == report.resolve():
        raise ValueError(f"{output} would be both model and report; give another --report.")
    if job.model is not None and Path(job.model).resolve() == output.resolve():
        raise ValueError(f"{output} is the base; give the adapted model another name.")
    if output.exists() and not job.overwrite:
        raise ValueError(f"{output} is there already; give another name, or add --overwrite.")
