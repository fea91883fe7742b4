"""Kinds of target, losses and decoders against each other at an equal budget, on validation images.

    python benchmarks/ablations.py DATA --backbone BACKBONE
    python benchmarks/ablations.py DATA --backbone BACKBONE --steps 600 --variants flagship edt

Every variant is the shipped configuration `vits8` with a few settings changed: same crops, order,
steps and seed, thresholds tuned on validation for each. Runs go on where they were stopped.
"""

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from napari_dinocell.core.training.config import Config, load_config, shipped_configs
from napari_dinocell.core.training.loop import train

VARIANTS = {
    "flagship": (),
    "edt": ("crops.lift=0.0",),
    "plain-mse": ("loss.balance=0.0",),
    "equal-cells": ("loss.balance=1.0",),
    "gradient": ("loss.gradient=1.0",),
    "no-stem": ("model.decoder_stem=0",),
    "wide": ("model.decoder_widths=[256,128,64,32]",),
}
"""Overrides by name; "edt" with "plain-mse" is the target and loss of the original method."""


def run(options: argparse.Namespace, name: str) -> dict[str, Any]:
    """Train one variant and return its scores on validation images."""
    out = options.out / name
    config = load_config(
        Config,
        shipped_configs()["vits8"],
        (
            f"name={name}",
            f"out={out}",
            f"data.source={options.data}",
            f"model.encoder_weights={options.backbone}",
            f"crops.pool={options.pool}",
            f"crops.cache={options.out / 'cache'}",
            f"steps={options.steps}",
            f"validate_every={options.steps}",
            "optimizer.ema=0.98",  # of a run this short the shipped 0.995 averages the start, too
            *VARIANTS[name],
        ),
    )
    path = train(config)
    scores: dict[str, Any] = json.loads(path.with_suffix(".scores.json").read_text("utf-8"))
    return scores


def as_table(results: dict[str, dict[str, Any]], title: str) -> Table:
    """AP50 and OP_CSB per set and their mean, by variant."""
    table = Table("variant", title=title)
    sets = list(next(iter(results.values()))["sets"])
    for name in (*sets, "mean"):
        table.add_column(f"{name}\nAP50 / OP_CSB", justify="right")
    for variant, scores in results.items():
        pairs = [(scores["sets"][s]["ap50"], scores["sets"][s]["op_csb"]) for s in sets]
        pairs.append(tuple(sum(values) / len(sets) for values in zip(*pairs, strict=True)))
        table.add_row(variant, *(f"{ap50:.3f} / {op_csb:.3f}" for ap50, op_csb in pairs))
    return table


def main(argv: Sequence[str] | None = None) -> int:
    """Train all variants, print one table, and JSON where asked for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path, help="data folder with index.csv")
    parser.add_argument("--backbone", type=Path, required=True, help="weights of the encoder")
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--pool", type=int, default=600, help="number of different crops")
    parser.add_argument("--out", type=Path, default=Path("runs/ablations"))
    parser.add_argument("--variants", nargs="+", choices=list(VARIANTS), default=list(VARIANTS))
    parser.add_argument("--json", action="store_true", help="JSON on stdout instead of the table")
    options = parser.parse_args(argv)
    console = Console(width=140, stderr=options.json)
    results: dict[str, dict[str, Any]] = {}
    for name in options.variants:
        console.print(f"{name} ...")
        results[name] = run(options, name)
    console.print(as_table(results, f"validation, {options.steps} steps, diameter given"))
    if options.json:
        sys.stdout.write(json.dumps(results, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
