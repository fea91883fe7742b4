"""Gather the unlabelled images that the bundled `small` learned from.

    python scripts/gather_unlabelled.py DATA runs/unlabelled

DATA holds `multichannel/index.csv` (columns path, split, licence, train_allowed) and
`unlabelled/index.csv` (path, licence). Of the first, fields of the split "train" are taken, each
channel on its own, unless they come from a package under the LGPL that says nothing of its images.
"""

import csv
import sys
from collections import defaultdict
from pathlib import Path

from napari_dinocell.core.training import unlabelled

MODEL = "vits8"


def files_by_license(data: Path) -> dict[tuple[str, str], list[Path]]:
    """Image files by license and axes ("" where the files tell them)."""
    files: dict[tuple[str, str], list[Path]] = defaultdict(list)
    for axes, name in (("CYX", "multichannel"), ("", "unlabelled")):
        with (data / name / "index.csv").open(newline="", encoding="utf-8") as file:
            for row in csv.DictReader(file):
                is_meant = row.get("split", "train") == "train"
                is_allowed = row.get("train_allowed", "yes") == "yes"
                if is_meant and is_allowed and "LGPL" not in row["licence"]:
                    files[row["licence"], axes].append(data / row["path"])
    return files


def main(data: Path, out: Path) -> int:
    """Gather all of them; what is there already is kept."""
    worst = 0
    for (name, axes), files in files_by_license(data).items():
        options = ["--model", MODEL, "--license", name, *(["--axes", axes] if axes else [])]
        worst = max(worst, unlabelled.main([str(out), *map(str, files), *options]))
    return worst


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(f"Two folders are needed, data and result; see the head of {sys.argv[0]}.")
    sys.exit(main(Path(sys.argv[1]), Path(sys.argv[2])))
