"""Adapt a model to images in which a few cells are annotated.

napari-dinocell adapt my-project/ --model vits8
python -m napari_dinocell.core.adapt cells.tif --labels a_few_labels.tif --output mine.safetensors
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from napari_dinocell.core import console

_KNOWN, _RESULT, _TRAINING = "What is known", "What is written", "Training"


def adapt_command(
    inputs: Annotated[
        list[str], typer.Argument(help="One annotation project, or images (then give --labels).")
    ],
    labels: Annotated[
        list[Path] | None,
        typer.Option(help="Labels of an image; once per image.", rich_help_panel=_KNOWN),
    ] = None,
    background: Annotated[
        list[Path] | None,
        typer.Option(
            help="Mask of deleted cells and other background; once per image.",
            rich_help_panel=_KNOWN,
        ),
    ] = None,
    regions: Annotated[
        list[Path] | None,
        typer.Option(
            help="Mask of regions in which every cell is labeled; once per image.",
            rich_help_panel=_KNOWN,
        ),
    ] = None,
    axes: Annotated[
        str | None, typer.Option(help="One letter per axis, as TYX.", rich_help_panel=_KNOWN)
    ] = None,
    channel: Annotated[
        str | None, typer.Option(help="Position from 0, or name.", rich_help_panel=_KNOWN)
    ] = None,
    diameter: Annotated[
        float | None,
        typer.Option(
            help="Typical cell diameter, px; else that of the labeled cells.",
            rich_help_panel=_KNOWN,
        ),
    ] = None,
    model: Annotated[
        str | None, typer.Option(help="Base: name of a bundled or an own model, or a model file.")
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            help="Model file (.safetensors); default in a project: models/adapted.safetensors.",
            rich_help_panel=_RESULT,
        ),
    ] = None,
    report: Annotated[
        Path | None,
        typer.Option(help="Report (.json); default: beside the model.", rich_help_panel=_RESULT),
    ] = None,
    full: Annotated[
        bool, typer.Option("--full", help="Put the encoder in, too.", rich_help_panel=_RESULT)
    ] = False,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace a model.", rich_help_panel=_RESULT)
    ] = False,
    unverified: Annotated[
        bool,
        typer.Option(
            "--unverified",
            help="Write the model even if nothing can be held out.",
            rich_help_panel=_RESULT,
        ),
    ] = False,
    start: Annotated[str, typer.Option(help="warm or random.", rich_help_panel=_TRAINING)] = "warm",
    epochs: Annotated[int, typer.Option(min=1, help="At most.", rich_help_panel=_TRAINING)] = 50,
    learning_rate: Annotated[
        float, typer.Option(min=1e-8, max=1.0, help="Of AdamW.", rich_help_panel=_TRAINING)
    ] = 3e-4,
    seconds: Annotated[
        float, typer.Option(min=0.1, help="Box of the training.", rich_help_panel=_TRAINING)
    ] = 25.0,
    feature_seconds: Annotated[
        float, typer.Option(min=0.1, help="Box of the features.", rich_help_panel=_TRAINING)
    ] = 25.0,
    seed: Annotated[
        int, typer.Option(min=0, help="Of all random choices.", rich_help_panel=_TRAINING)
    ] = 0,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:n or mps.")] = "auto",
    as_json: Annotated[bool, typer.Option("--json", help="Print the report.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Warnings only.")] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show tracebacks.")] = False,
) -> int:
    """Adapt a model to a few annotated cells; unlabeled is unknown.

    Ctrl-C keeps the best so far. Exit code 1: nothing better was found, no model was written.
    """
    # Takes torch, which the help text can do without.
    from napari_dinocell.core.adapt.runner import Job, Training, run  # noqa: PLC0415

    job = Job(
        tuple(inputs),
        labels=tuple(labels or ()),
        background=tuple(background or ()),
        regions=tuple(regions or ()),
        axes=axes,
        channel=channel,
        diameter=diameter,
        model=model,
        output=output,
        report=report,
        full=full,
        overwrite=overwrite,
        unverified=unverified,
    )
    training = Training(start, epochs, learning_rate, seed, seconds, feature_seconds, device)
    result, is_written = run(job, training)
    if as_json:
        sys.stdout.write(json.dumps(result.to_json(), indent=1) + "\n")
    return console.DONE if is_written else console.SOME_FAILED


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code."""
    return console.run(adapt_command, argv, "napari-dinocell adapt")
