"""Find the cells in image files and write labels, tables and pictures.

napari-dinocell segment images/ --output results/ --overlay --csv
python -m napari_dinocell.core.segment "plate/*.tif" --output results/ --channel DAPI --rois
"""

import json
import logging
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from napari_dinocell.core import console
from napari_dinocell.core.progress import FileProgress
from napari_dinocell.core.record import RunRecord
from napari_dinocell.core.request import Request, make_request
from napari_dinocell.core.worklist import Job

_log = logging.getLogger("napari_dinocell.segment")

_RESULT, _OUTPUT, _RUN = "What decides the cells", "What is written", "The run"


def segment(
    inputs: Annotated[
        list[str] | None,
        typer.Argument(help="Images, OME-Zarr folders, folders of images, or quoted patterns."),
    ] = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Folder for the results.")
    ] = None,
    model: Annotated[
        str | None,
        typer.Option("--model", "-m", help="Bundled name or model file.", rich_help_panel=_RESULT),
    ] = None,
    diameter: Annotated[
        str | None,
        typer.Option(
            help="Typical cell diameter in px; auto (estimated, the default); none: as it is.",
            rich_help_panel=_RESULT,
        ),
    ] = None,
    pixel_size: Annotated[
        str | None,
        typer.Option(help="µm per px: one number, or two as y,x.", rich_help_panel=_RESULT),
    ] = None,
    channel: Annotated[
        str | None,
        typer.Option(help="Channel by position from 0, or by name.", rich_help_panel=_RESULT),
    ] = None,
    axes: Annotated[
        str | None,
        typer.Option(help="One letter per axis, such as TZCYX.", rich_help_panel=_RESULT),
    ] = None,
    peak: Annotated[
        float | None,
        typer.Option(help="A cell holds a map value above this.", rich_help_panel=_RESULT),
    ] = None,
    fill: Annotated[
        float | None,
        typer.Option(help="A cell ends where the map falls to this.", rich_help_panel=_RESULT),
    ] = None,
    min_area: Annotated[
        int | None, typer.Option(help="Least area of a cell in px.", rich_help_panel=_RESULT)
    ] = None,
    min_prominence: Annotated[
        float | None,
        typer.Option(help="Least height above a neighbor's saddle.", rich_help_panel=_RESULT),
    ] = None,
    min_confidence: Annotated[
        float | None,
        typer.Option(help="Least probability that a cell is right.", rich_help_panel=_RESULT),
    ] = None,
    link: Annotated[
        str | None,
        typer.Option(
            help="One id per cell along z, t or zt (3-D objects in time).", rich_help_panel=_RESULT
        ),
    ] = None,
    link_overlap: Annotated[
        float | None,
        typer.Option(
            help="Least share of the smaller cell on the larger.", rich_help_panel=_RESULT
        ),
    ] = None,
    link_gap: Annotated[
        int | None,
        typer.Option(help="Planes in which a cell may be missing.", rich_help_panel=_RESULT),
    ] = None,
    overlay: Annotated[
        bool, typer.Option("--overlay", help="Outlines on the image.", rich_help_panel=_OUTPUT)
    ] = False,
    csv: Annotated[
        bool, typer.Option("--csv", help="Table with a row per cell.", rich_help_panel=_OUTPUT)
    ] = False,
    rois: Annotated[
        bool, typer.Option("--rois", help="ImageJ ROIs.", rich_help_panel=_OUTPUT)
    ] = False,
    geojson: Annotated[
        bool, typer.Option("--geojson", help="Polygons for QuPath.", rich_help_panel=_OUTPUT)
    ] = False,
    name: Annotated[
        str | None,
        typer.Option(
            help="Name of the labels: {stem}, {ext} and {parent} are replaced.  "
            "Default: {stem}_labels",
            rich_help_panel=_OUTPUT,
        ),
    ] = None,
    overwrite: Annotated[
        bool,
        typer.Option("--overwrite", help="Replace finished files.", rich_help_panel=_OUTPUT),
    ] = False,
    recursive: Annotated[
        bool,
        typer.Option(
            "--recursive",
            "-r",
            help="Folders in folders; mirrors their tree.",
            rich_help_panel=_RUN,
        ),
    ] = False,
    from_run: Annotated[
        Path | None,
        typer.Option(help="Repeat the run of this run.json.", rich_help_panel=_RUN),
    ] = None,
    device: Annotated[
        str | None,
        typer.Option(help="auto, cpu, cuda, cuda:n or mps.", rich_help_panel=_RUN),
    ] = None,
    batch: Annotated[int | None, typer.Option(help="Tiles at once.", rich_help_panel=_RUN)] = None,
    dry_run: Annotated[
        bool,
        typer.Option("--dry-run", help="Show what would be done.", rich_help_panel=_RUN),
    ] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print the run record.", rich_help_panel=_RUN)
    ] = False,
    quiet: Annotated[
        bool, typer.Option("--quiet", "-q", help="Warnings only.", rich_help_panel=_RUN)
    ] = False,
    debug: Annotated[
        bool, typer.Option("--debug", help="Show tracebacks.", rich_help_panel=_RUN)
    ] = False,
) -> int:
    """Find the cells in images; write labels and, on request, overlay, table, ROIs and GeoJSON.

    Finished files are skipped, broken ones listed at the end (exit code 1).
    """
    kinds = ["labels"]
    wanted = {"overlay": overlay, "table": csv, "rois": rois, "geojson": geojson}
    kinds += [kind for kind, is_wanted in wanted.items() if is_wanted]
    given = {
        "model": model,
        "device": device,
        "axes": axes,
        "channel": channel,
        "pixel_size_um": None if pixel_size is None else _pixel_size(pixel_size),
        "peak": peak,
        "fill": fill,
        "min_area": min_area,
        "min_prominence": min_prominence,
        "min_confidence": min_confidence,
        "link": link,
        "link_overlap": link_overlap,
        "link_gap": link_gap,
        "batch": batch,
    }
    options: dict[str, Any] = {
        option: value for option, value in given.items() if value is not None
    }
    if diameter is not None:
        options["diameter"] = _diameter(diameter)
    if output is None:
        raise ValueError("The folder for the results is missing; give it with --output.")
    request = make_request(
        inputs or [],
        output,
        kinds,
        options,
        name=name,
        recursive=recursive,
        earlier=None if from_run is None else RunRecord.read(from_run),
    )
    todo = request.unfinished(overwrite=overwrite)
    if dry_run:
        _show_plan(request, todo, as_json)
        return console.DONE
    record = None if todo else request.finished_before()
    if record is None:
        record = _run(request, todo, overwrite=overwrite)
    if as_json:
        sys.stdout.write(record.model_dump_json(indent=2) + "\n")
    return _outcome(record, len(todo), len(request.jobs) - len(todo))


def _run(request: Request, todo: Sequence[Job], *, overwrite: bool) -> RunRecord:
    # Takes torch, which everything up to here can do without.
    from napari_dinocell.core.batch import run_request  # noqa: PLC0415

    with FileProgress(len(todo)) as watch:
        return run_request(request, todo, overwrite=overwrite, watch=watch)


def _diameter(text: str) -> float | str | None:
    if text == "auto":
        return text
    if text == "none":
        return None
    try:
        return float(text)
    except ValueError:
        raise ValueError(f"--diameter {text!r} must be a number of px, auto or none.") from None


def _pixel_size(text: str) -> tuple[float, float]:
    try:
        sizes = [float(part) for part in text.split(",")]
    except ValueError:
        sizes = []
    if len(sizes) not in (1, 2):
        raise ValueError(f"--pixel-size {text!r} must be one number in µm, or two as y,x.")
    return sizes[0], sizes[-1]


def _show_plan(request: Request, todo: Sequence[Job], as_json: bool) -> None:
    rows: list[dict[str, Any]] = [
        {
            "source": str(job.source),
            "outputs": [str(path) for path in job.outputs(request.kinds)],
            "is_finished": job not in todo,
        }
        for job in request.jobs
    ]
    if as_json:
        typer.echo(json.dumps({"jobs": rows, "settings": request.settings.model_dump()}, indent=2))
        return
    for row in rows:
        note = "  (finished, skipped)" if row["is_finished"] else ""
        typer.echo(f"{row['source']} -> {', '.join(row['outputs'])}{note}")


def _outcome(record: RunRecord, n_todo: int, n_skipped: int) -> int:
    """Say how it went and return the exit code."""
    if not n_todo:
        _log.info("Nothing to do: %d inputs were finished before.", n_skipped)
        return console.DONE
    n_failed = len(record.failed)
    skipped = f", {n_skipped} were finished before" if n_skipped else ""
    _log.info("%d of %d inputs segmented%s.", n_todo - n_failed, n_todo, skipped)
    for failure in record.failed:
        _log.error("Failed: %s: %s", failure.source, failure.error)
    if not n_failed:
        return console.DONE
    return console.BAD_USAGE if n_failed == n_todo and not n_skipped else console.SOME_FAILED


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code."""
    return console.run(segment, argv, "napari-dinocell segment")


if __name__ == "__main__":
    sys.exit(main())
