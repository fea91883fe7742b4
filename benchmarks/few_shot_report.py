"""Table and picture of the few-shot benchmark, from the rows that `few_shot.py` wrote.

    python benchmarks/few_shot_report.py runs/few_shot
    python benchmarks/few_shot_report.py runs/few_shot --table table.md --plot docs/images/few_shot.png

Per set and base: mean over the seeds, plus or minus the standard deviation of the gain over the base
of the same seed. Each seed holds back other images, on which the base, too, scores differently; the
spread of the gains is what tells whether a method helps.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from few_shot import Row, read_rows
from few_shot_data import Shots
from few_shot_methods import METHODS

mpl.use("Agg")
from matplotlib import pyplot as plt
from matplotlib.axes import Axes

SCORES = {"op_csb": "OP_CSB", "ap50": "AP50"}
NAMES = {
    "base": "base",
    "thresholds": "thresholds alone",
    "kept": "kept by the gate",
    "adapted": "adapted decoder",
    "prototypes": "prototypes",
}
COLORS = {
    "base": "#555555",
    "thresholds": "#0072b2",
    "kept": "#009e73",
    "adapted": "#d55e00",
    "prototypes": "#cc79a7",
}

Group = tuple[str, str, str]


def grouped(rows: Sequence[Row]) -> dict[Group, dict[Shots, dict[str, dict[int, Row]]]]:
    """Rows by set and base, shots, method and seed."""
    found: dict[Group, dict[Shots, dict[str, dict[int, Row]]]] = {}
    for row in rows:
        group = (row["set"], row["base"], row["weights"])
        by_method = found.setdefault(group, {}).setdefault(Shots(row["kind"], row["shots"]), {})
        by_method.setdefault(row["method"], {})[row["seed"]] = row
    return {
        group: dict(sorted(shots.items(), key=lambda one: (one[0].kind, one[0].count)))
        for group, shots in sorted(found.items())
    }


def values(by_method: dict[str, dict[int, Row]], method: str, score: str) -> tuple[float, float]:
    """Mean of a score, and standard deviation of its gain over the base; NaN with one seed."""
    seeds = by_method[method]
    found = np.array([row[score] for row in seeds.values()])
    gains = np.array([row[score] - by_method["base"][seed][score] for seed, row in seeds.items()])
    return float(found.mean()), float(gains.std(ddof=1)) if len(gains) > 1 else float("nan")


def cell(by_method: dict[str, dict[int, Row]], method: str, score: str) -> str:
    """Mean and spread, in bold where the mean gain is above zero by more than its standard error."""
    mean, spread = values(by_method, method, score)
    if method == "base":
        return f"{mean:.3f}"
    gain = mean - values(by_method, "base", score)[0]
    text = f"{mean:.3f} ± {spread:.3f}" if np.isfinite(spread) else f"{mean:.3f}"
    is_sure = gain > spread / np.sqrt(len(by_method[method]))
    return f"**{text}**" if is_sure else text


def markdown(rows: Sequence[Row]) -> str:
    """One table per set and base."""
    parts = []
    for (set_name, base, weights), shots in grouped(rows).items():
        title = f"`{set_name}`, base `{base}` (weights {weights}), {' / '.join(SCORES.values())}:"
        lines = [title, ""]
        lines += [
            _line(["annotated", "seeds", *NAMES.values(), "gate"]),
            _line(["---"] * (len(NAMES) + 3)),
        ]
        for wanted, by_method in shots.items():
            verdicts = [row["verdict"] for row in by_method["kept"].values()]
            gate = ", ".join(f"{verdicts.count(v)} {v}" for v in dict.fromkeys(verdicts))
            cells = [
                " / ".join(cell(by_method, method, score) for score in SCORES) for method in METHODS
            ]
            lines.append(_line([str(wanted), str(len(verdicts)), *cells, gate]))
        parts.append("\n".join(lines))
    return "\n\n".join(parts) + "\n"


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def plot(rows: Sequence[Row], path: Path) -> None:
    """One column per set and base, one row per score; bars are the spread of the gain."""
    groups = grouped(rows)
    figure, axes = plt.subplots(
        len(SCORES), len(groups), figsize=(1.2 + 3.0 * len(groups), 5.6), squeeze=False,
        sharex="col", layout="constrained",
    )  # fmt: skip
    for column, ((set_name, base, _), shots) in enumerate(groups.items()):
        for row, score in enumerate(SCORES):
            _panel(axes[row][column], shots, score)
        axes[0][column].set_title(f"{set_name}\nbase: {base}", fontsize=9)
    for row, title in enumerate(SCORES.values()):
        axes[row][0].set_ylabel(title)
    handles, labels = axes[0][0].get_legend_handles_labels()
    n_columns = len(labels) if len(groups) > 2 else 3
    figure.legend(handles, labels, loc="outside lower center", ncols=n_columns, frameon=False)
    figure.savefig(path, dpi=110)
    plt.close(figure)


def _panel(panel: Axes, shots: dict[Shots, dict[str, dict[int, Row]]], score: str) -> None:
    """Lines of all methods, cells and images apart."""
    names = list(shots)
    for number, method in enumerate(METHODS):
        found = np.array([values(by_method, method, score) for by_method in shots.values()])
        for kind in ("cells", "images"):
            here = [place for place, name in enumerate(names) if name.kind == kind]
            if not here:
                continue
            x = np.array(here) + 0.07 * (number - 2)
            options: dict[str, Any] = {"color": COLORS[method], "lw": 1.5, "ms": 3.5, "capsize": 2}
            is_first = here[0] == 0
            options["label"] = NAMES[method] if is_first else None
            if method == "base":
                low, high = x - 0.35, x + 0.35
                panel.hlines(
                    found[here, 0], low, high, color=COLORS[method], label=options["label"]
                )
            else:
                spread = np.nan_to_num(found[here, 1])
                panel.errorbar(x, found[here, 0], yerr=spread, marker="o", **options)
    panel.set_xticks(
        range(len(names)), [str(name).replace(" ", "\n") for name in names], fontsize=7
    )
    panel.tick_params(axis="y", labelsize=8)
    panel.grid(axis="y", alpha=0.25)
    panel.spines[["top", "right"]].set_visible(False)


def main() -> int:
    """Write the table and the picture."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path, help="--out of few_shot.py")
    parser.add_argument("--table", type=Path, help="default: table.md in the folder")
    parser.add_argument("--plot", type=Path, help="default: plot.png in the folder")
    options = parser.parse_args()
    rows = read_rows(options.folder / "rows.jsonl")
    if not rows:
        sys.exit(f"{options.folder} holds no rows.jsonl with rows; run few_shot.py first.")
    table = options.table or options.folder / "table.md"
    table.write_text(markdown(rows), encoding="utf-8")
    picture = options.plot or options.folder / "plot.png"
    plot(rows, picture)
    print(markdown(rows))
    print(f"{table} and {picture} are written")
    return 0


if __name__ == "__main__":
    sys.exit(main())
