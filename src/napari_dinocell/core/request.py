"""What one call of `segment` asks for: jobs, settings, kinds of output; possibly those of a run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from napari_dinocell.core.axis_names import check_axes
from napari_dinocell.core.record import (
    RunRecord,
    Settings,
    absolute,
    file_sha256,
    mixed_results,
)
from napari_dinocell.core.worklist import RUN_FILE, Job, Source, collect, plan

__all__ = ["Request", "make_request"]

_DEFAULT_NAME = "{stem}_labels"


@dataclass(frozen=True)
class Request:
    """Inputs, their outputs, and the settings they share.

    Attributes
    ----------
    jobs : tuple of Job
        In order; no two share an output and no output is an input.
    output : Path
        Folder of the run record and the summary.
    settings : Settings
        None where the file or the model decides.
    kinds : tuple of str
        Of `worklist.KINDS`; always with `labels`.
    name : str
        Pattern of the label files.
    earlier : RunRecord or None
        The run that is repeated: its model must have the same weights.
    """

    jobs: tuple[Job, ...]
    output: Path
    settings: Settings
    kinds: tuple[str, ...]
    name: str = _DEFAULT_NAME
    earlier: RunRecord | None = None

    def unfinished(self, *, overwrite: bool) -> list[Job]:
        """Jobs that lack a wanted file, or all of them.

        Raises
        ------
        ValueError
            If a file that is there is, by the folder's record, of another input.
        """
        if overwrite:
            return list(self.jobs)
        self._refuse_results_of_others()
        return [job for job in self.jobs if not job.is_finished(self.kinds)]

    def _refuse_results_of_others(self) -> None:
        path = self.output / RUN_FILE
        files = RunRecord.read(path).files if path.exists() else ()
        owners = {(self.output / file.outputs[-1]).resolve(): file for file in files}
        for job in self.jobs:
            owner = owners.get(job.labels.resolve())
            # The same bytes in another place are the same image.
            if (
                owner is not None
                and job.labels.exists()
                and owner.source != job.address
                and (owner.sha256 is None or owner.sha256 != file_sha256(job.source))
            ):
                raise ValueError(
                    f"{job.labels} is the result of {owner.source} and not of {job.source}; choose "
                    "another --output or --name, or --overwrite."
                )

    def finished_before(self) -> RunRecord | None:
        """Record of the output folder, where it is of these settings, as far as they are given.

        Raises
        ------
        ValueError
            If it is of other settings.
        """
        path = self.output / RUN_FILE
        if not path.exists():
            return None
        record = RunRecord.read(path)
        differences = self.settings.differences(record.settings, given_only=True)
        if differences:
            raise mixed_results(path, differences)
        return record


def make_request(
    inputs: Sequence[str | Path],
    output: Path,
    kinds: Sequence[str],
    options: Mapping[str, Any],
    *,
    name: str | None = None,
    recursive: bool = False,
    earlier: RunRecord | None = None,
) -> Request:
    """Combine what the command line says with an earlier run; the command line wins.

    Parameters
    ----------
    inputs
        As for `worklist.collect`; none for those of the earlier run.
    output
        Folder for the results.
    kinds
        Kinds of output, beside those of the earlier run.
    options
        Settings by name; those that are not there come from the earlier run, if any.
    name
        Pattern of the label files.
    recursive
        As for `worklist.collect`.
    earlier
        A run to repeat.

    Raises
    ------
    ValueError
        If a setting is not valid, or outputs would overwrite something (see `worklist.plan`).
    FileNotFoundError
        If an input is not there.
    """
    base = {} if earlier is None else earlier.settings.model_dump()
    try:
        settings = Settings.model_validate({**base, **options})
    except ValidationError as error:
        first = error.errors()[0]
        option = str(first["loc"][0]).removesuffix("_um").replace("_", "-")
        raise ValueError(f"--{option} {first['input']} is not valid: {first['msg']}.") from error
    if Path(settings.model).is_file():  # a relative path would mean another file elsewhere
        settings = settings.model_copy(update={"model": absolute(settings.model)})
    if "rois" in kinds and find_spec("roifile") is None:
        raise ImportError('--rois needs roifile: pip install "napari-dinocell[export]".')
    if settings.axes is not None:
        check_axes(settings.axes)
    if settings.peak is not None and settings.fill is not None and settings.peak <= settings.fill:
        raise ValueError(
            f"--peak {settings.peak} is not above --fill {settings.fill}; peak must be larger."
        )
    if settings.link is None and (settings.link_overlap, settings.link_gap) != (None, None):
        raise ValueError(
            "--link-overlap and --link-gap need --link: give z, t or zt, or leave them out."
        )
    if inputs:
        sources = collect(inputs, recursive=recursive, avoid=output)
    elif earlier is not None:
        sources = [Source(Path(file.source), file.folder) for file in earlier.files]
        for source in sources:
            collect([source.path])
    else:
        raise ValueError("There is no input; name images, folders or quoted patterns.")
    name = name or (_DEFAULT_NAME if earlier is None else earlier.name)
    every = dict.fromkeys([*(() if earlier is None else earlier.kinds), *kinds])
    return Request(
        tuple(plan(sources, output, name)), output, settings, tuple(every), name, earlier
    )
