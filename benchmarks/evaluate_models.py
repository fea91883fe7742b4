"""Every bundled model beside the classical baseline: scores per set with and without the diameter.

    python benchmarks/evaluate_models.py DATA
    python benchmarks/evaluate_models.py DATA --split test --models vits8 --classical classical.json

Models are cut at the thresholds of their cards, which were tuned on validation images. The median
cell diameter is that of each image's own labels (given), estimated (auto) or not told (none).
"""

import argparse
import json
import platform
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import classical
import torch
from rich.console import Console
from rich.table import Table

from napari_dinocell.core.evaluation import TITLES
from napari_dinocell.core.model.files import bundled_models
from napari_dinocell.core.training.validation import evaluate_model, load_split

COLUMNS = ("ap50", "ap75", "op_csb", "seg", "det")


def rows(options: argparse.Namespace, console: Console) -> Iterator[dict[str, Any]]:
    """One result per method, diameter and set."""
    if options.classical is not None:
        baseline = json.loads(options.classical.read_text(encoding="utf-8"))[options.split]
    else:
        tuned = classical.tune(load_split(options.data, "val"))
        baseline = classical.evaluate(load_split(options.data, options.split), tuned).to_json()
    yield from _of("Otsu + watershed", "none", baseline)
    for model in options.models:
        for diameter in options.diameter:
            console.print(f"{model}, diameter {diameter} ...")
            result = evaluate_model(
                model, options.data, options.split, diameter=diameter, device=options.device
            )
            yield from _of(model, diameter, result.to_json())


def _of(method: str, diameter: str, result: dict[str, Any]) -> Iterator[dict[str, Any]]:
    for name, scores in result["sets"].items():
        yield {"set": name, "method": method, "diameter": diameter, **scores}


def as_table(results: Sequence[dict[str, Any]], title: str) -> Table:
    """Table by set, with the interval of AP50 over images."""
    table = Table(title=title)
    for name in ("set", "method", "diameter", "images", "cells", "found"):
        table.add_column(name, justify="left" if name in ("set", "method") else "right")
    for name in COLUMNS:
        table.add_column(TITLES[name], justify="right")
    table.add_column("AP50 95 %", justify="right")
    table.add_column("s/image", justify="right")
    for set_name in dict.fromkeys(row["set"] for row in results):
        table.add_section()
        for number, row in enumerate([row for row in results if row["set"] == set_name]):
            low, high = row["intervals"]["ap50"]
            table.add_row(
                "" if number else set_name,
                row["method"],
                row["diameter"],
                *(str(row[name]) for name in ("n_images", "n_true", "n_pred")),
                *("undefined" if row[name] is None else f"{row[name]:.3f}" for name in COLUMNS),
                "" if low is None else f"{low:.3f}-{high:.3f}",
                f"{row['seconds_per_image']:.2f}",
            )
    return table


def main(argv: Sequence[str] | None = None) -> int:
    """Score, print one table, and JSON where asked for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path, help="data folder with index.csv")
    parser.add_argument("--split", default="val")
    parser.add_argument("--models", nargs="+", default=list(bundled_models()))
    parser.add_argument("--diameter", nargs="+", default=["given", "none", "auto"])
    parser.add_argument("--device", default="auto")
    parser.add_argument("--classical", type=Path, help="result of classical.py --json")
    parser.add_argument("--json", action="store_true", help="JSON on stdout instead of the table")
    options = parser.parse_args(argv)
    console = Console(width=160, stderr=options.json)
    results = list(rows(options, console))
    where = f"{platform.machine()}, {torch.get_num_threads()} threads, torch {torch.__version__}"
    console.print(as_table(results, f"{options.split}, {where}"))
    if options.json:
        sys.stdout.write(json.dumps(results, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
