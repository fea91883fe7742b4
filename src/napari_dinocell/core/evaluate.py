"""Compare labels with the truth, or score a model on labeled images.

python -m napari_dinocell.core.evaluate --pred results/ --true annotated/
python -m napari_dinocell.core.evaluate --model vits8 --data data/ --split val --diameter given
"""

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from napari_dinocell.core.console import run
from napari_dinocell.core.pairs import score_folders


def evaluate(
    pred: Annotated[Path | None, typer.Option(help="Folder (or file) of predicted labels.")] = None,
    true: Annotated[Path | None, typer.Option(help="Folder (or file) of reference labels.")] = None,
    axes: Annotated[
        str | None, typer.Option(help="Axes of label stacks that don't name them, such as TYX.")
    ] = None,
    model: Annotated[str | None, typer.Option(help="Name or file of a model to score.")] = None,
    data: Annotated[
        Path | None, typer.Option(help="Data folder with index.csv, or images + labels.")
    ] = None,
    split: Annotated[str, typer.Option(help="Split of the data folder.")] = "val",
    sets: Annotated[
        list[str] | None, typer.Option(help="Data set to score; repeat it. Default: all.")
    ] = None,
    diameter: Annotated[
        str,
        typer.Option(help="given (median of the labels), auto, none, or a number of pixels."),
    ] = "given",
    tune: Annotated[
        bool, typer.Option(help="Tune the thresholds first; on the split val only.")
    ] = False,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:n or mps.")] = "auto",
    seed: Annotated[int, typer.Option(help="Seed of the bootstrap intervals.")] = 0,
    as_json: Annotated[
        bool, typer.Option("--json", help="Write JSON to stdout instead of the table.")
    ] = False,
    debug: Annotated[bool, typer.Option(help="Show the traceback of an error.")] = False,
) -> None:
    """Scores per image, per data set and over all, with 95 % intervals over images.

    SEG, DET and OP_CSB as in the Cell Tracking Challenge; AP is TP / (TP + FP + FN) at IoU 0.5,
    0.75 and 0.9; F1 and PQ at 0.5. Either --pred and --true, or --model and --data.
    """
    labels, scored = (pred, true), (model, data)
    if all(labels) and not any(scored):
        assert pred is not None
        assert true is not None
        scores = score_folders(true, pred, axes=axes, seed=seed)
        _show(scores.to_json(), (scores.image_table(), scores.table()), as_json)
    elif all(scored) and not any(labels):
        # Takes torch, which comparing two folders can do without.
        from napari_dinocell.core.training.validation import evaluate_model  # noqa: PLC0415

        assert model is not None
        assert data is not None
        console = Console(stderr=True)
        with Progress(console=console, transient=True, disable=not console.is_terminal) as bar:
            images = bar.add_task("images", total=None)
            result = evaluate_model(
                model,
                data,
                split,
                sets,
                diameter=diameter,
                tune=tune,
                device=device,
                seed=seed,
                progress=lambda done, total: bar.update(images, completed=done, total=total),
            )
        tables = result.scores.image_table(), result.scores.table(result.title())
        _show(result.to_json(), tables, as_json)
    else:
        raise ValueError(
            "Give either --pred and --true (two folders of labels) or --model and --data (a model "
            "and a data folder)."
        )


def _show(result: dict[str, Any], tables: Sequence[Table], as_json: bool) -> None:
    if as_json:
        sys.stdout.write(json.dumps(result, indent=1, allow_nan=False) + "\n")
    else:
        console = Console()
        # A pipe or a log file has no width that columns would have to be cut for.
        (console if console.is_terminal else Console(width=160)).print(*tables)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code."""
    return run(evaluate, argv, "napari-dinocell evaluate")


if __name__ == "__main__":
    sys.exit(main())
