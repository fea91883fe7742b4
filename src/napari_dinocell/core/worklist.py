"""From what the user named (files, folders, patterns) to a list of jobs: one input, its outputs.

Everything that can be refused is refused here, before the first image is read: an input that is
not there, two inputs that would share an output, an output that would replace an input.
"""

import glob
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from string import Formatter

IMAGE_SUFFIXES = (
    ".tif", ".tiff", ".btf", ".tf8", ".png", ".jpg", ".jpeg", ".npy", ".zarr",
)  # fmt: skip
KINDS = ("labels", "overlay", "table", "rois", "geojson")
RUN_FILE = "run.json"
SUMMARY_FILE = "summary.csv"

_ZARR_MARKS = ("zarr.json", ".zgroup", ".zarray")
_NAME_FIELDS = ("stem", "ext", "parent")


@dataclass(frozen=True)
class Source:
    """One input and the folder, relative to the output folder, that takes its results."""

    path: Path
    folder: Path = Path()
    named: bool = True  # False where it was found by looking into a folder or at a pattern


@dataclass(frozen=True)
class Job:
    """One input and where each kind of result goes; nothing is written yet.

    Invariant: in a list made by `plan`, no output is an input and no two jobs share an output.
    """

    source: Path
    labels: Path
    overlay: Path
    table: Path
    rois: Path
    geojson: Path

    @property
    def address(self) -> str:
        """Absolute path of the input."""
        return str(self.source.resolve())

    def outputs(self, kinds: Iterable[str] = KINDS) -> list[Path]:
        """The files of the wanted kinds, labels last: whoever sees them knows the rest is there."""
        paths = [getattr(self, kind) for kind in kinds if kind != "labels"]
        return [*paths, self.labels]

    def is_finished(self, kinds: Iterable[str]) -> bool:
        """Whether every wanted file exists."""
        return all(path.exists() for path in self.outputs(kinds))


def stem(path: Path) -> str:
    """File name without its extension, `.ome.tif` and `.ome.zarr` counting as one.

    Examples
    --------
    >>> stem(Path("plate/well A1.ome.tif"))
    'well A1'
    """
    return path.stem[: -len(".ome")] if path.stem.lower().endswith(".ome") else path.stem


def collect(
    inputs: Sequence[str | Path], *, recursive: bool = False, avoid: Path | None = None
) -> list[Source]:
    """List the images that `inputs` name, each once, in the order given (folders sorted by name).

    Parameters
    ----------
    inputs
        Files, OME-Zarr folders, folders of images, or patterns such as `plate/*.tif`.
    recursive
        Look into the folders inside folders, too; results then mirror their tree.
    avoid
        A folder (the output) that is skipped where it lies inside an input folder.

    Raises
    ------
    FileNotFoundError
        If an input is not there, or a folder or pattern holds no image.
    """
    sources: dict[Path, Source] = {}
    for entry in inputs:
        path = Path(entry)
        if _is_image(path):
            found = [Source(path)]
        elif path.is_dir():
            found = _in_folder(path, recursive, avoid)
        elif path.exists():
            found = [Source(path)]
        elif glob.has_magic(str(entry)):
            matches = sorted(map(Path, glob.glob(str(entry), recursive=True)))
            found = [Source(match, named=False) for match in matches if _is_image(match)]
        else:
            raise FileNotFoundError(f"Input {path} does not exist; check the path.")
        if not found:
            raise FileNotFoundError(
                f"There is no image in {path}; files ending in {', '.join(IMAGE_SUFFIXES)} are "
                "taken, and folders inside it with --recursive."
            )
        for source in found:
            sources.setdefault(source.path.resolve(), source)
    return list(sources.values())


def plan(sources: Sequence[Source], output: Path, name: str = "{stem}_labels") -> list[Job]:
    """Decide where each result goes.

    Parameters
    ----------
    sources
        Inputs from `collect`.
    output
        Folder for all results; it need not exist.
    name
        Name of the label file without `.tif`; `{stem}`, `{ext}` and `{parent}` (the input's name,
        extension and folder) are replaced. The other files are named alike.

    Raises
    ------
    ValueError
        If the pattern is wrong, two inputs would share an output, or an output is an input.
    NotADirectoryError
        If `output` is a file.
    """
    _check_name(name)
    if output.exists() and not output.is_dir():
        raise NotADirectoryError(f"Output {output} is a file; give the folder for the results.")
    jobs = [_job(source, output, name) for source in sources]
    # A folder that was used as output before holds results; they are not inputs of the next run.
    results = {
        _key(path)
        for source, job in zip(sources, jobs, strict=True)
        for path in job.outputs()
        if _key(path) != _key(source.path)
    }
    kept = [
        job
        for source, job in zip(sources, jobs, strict=True)
        if source.named or _key(source.path) not in results
    ]
    _refuse_shared_outputs(kept)
    _refuse_overwritten_inputs(kept, output)
    return kept


def _in_folder(folder: Path, recursive: bool, avoid: Path | None) -> list[Source]:
    avoided = None if avoid is None else avoid.resolve()
    found = []
    for path in sorted(folder.iterdir()):
        if path.name.startswith("."):
            continue
        if _is_image(path):
            found.append(Source(path, named=False))
        elif recursive and path.is_dir() and path.resolve() != avoided:
            found += [
                Source(inner.path, Path(path.name) / inner.folder, named=False)
                for inner in _in_folder(path, recursive, avoid)
            ]
    return found


def _is_image(path: Path) -> bool:
    suffix = path.suffix.lower()
    if path.is_dir():
        return suffix == ".zarr" or any((path / mark).exists() for mark in _ZARR_MARKS)
    return suffix in IMAGE_SUFFIXES and path.exists()


def _job(source: Source, output: Path, name: str) -> Job:
    path = source.path
    label_name = _label_name(path, name)
    base = label_name.removesuffix("_labels")
    folder = output / source.folder
    return Job(
        source=path,
        labels=folder / f"{label_name}.tif",
        overlay=folder / f"{base}_overlay.png",
        table=folder / f"{base}_cells.csv",
        rois=folder / f"{base}_rois.zip",
        geojson=folder / f"{base}_cells.geojson",
    )


def _label_name(path: Path, name: str) -> str:
    parent = path.resolve().parent.name
    return name.format(stem=stem(path), ext=path.suffix.lstrip("."), parent=parent)


def _check_name(name: str) -> None:
    try:
        fields = {field for _, field, _, _ in Formatter().parse(name) if field is not None}
    except ValueError as error:
        raise ValueError(f"--name {name!r} is not a pattern ({error}).") from error
    wrong = fields - set(_NAME_FIELDS)
    if wrong or not fields:
        known = ", ".join(f"{{{field}}}" for field in _NAME_FIELDS)
        raise ValueError(f"--name {name!r} must be made of text and {known}.")
    if "/" in name or "\\" in name:
        raise ValueError(f"--name {name!r} must be a file name; give the folder with --output.")


def _key(path: Path) -> str:
    """The same string for two paths of one file, also where capitals do not count."""
    return os.path.normcase(path.resolve()).casefold()


def _refuse_shared_outputs(jobs: Sequence[Job]) -> None:
    owner: dict[str, Job] = {}
    for job in jobs:
        for path in job.outputs():
            other = owner.setdefault(_key(path), job)
            if other is not job:
                raise ValueError(
                    f"{other.source} and {job.source} would both be written to {path}; "
                    f"{_way_out(other.source, job.source)}."
                )


def _way_out(one: Path, other: Path) -> str:
    """What to do about two inputs whose results would have one name."""
    for field in ("ext", "parent"):
        pattern = f"{{{field}}}_{{stem}}_labels"
        if _label_name(one, pattern).casefold() != _label_name(other, pattern).casefold():
            return f"tell them apart with --name '{pattern}'"
    return "rename one of them, or segment them into two folders"


def _refuse_overwritten_inputs(jobs: Sequence[Job], output: Path) -> None:
    inputs = {_key(job.source) for job in jobs}
    for path in [path for job in jobs for path in job.outputs()] + [
        output / RUN_FILE,
        output / SUMMARY_FILE,
    ]:
        if _key(path) in inputs:
            raise ValueError(
                f"The result {path} would replace an input; choose another --output or --name."
            )
