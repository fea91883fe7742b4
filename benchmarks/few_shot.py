r"""What a few annotated cells or images are worth on images that nobody annotated.

    python benchmarks/few_shot.py DATA --base small --sets miccai2015_tissue ctc_fluo
    python benchmarks/few_shot.py DATA --base runs/few_shot/bases/phase/small-without-phase.safetensors \
        --sets usiigaci_phase --shots 1 5 10 50 1i 5i 10i --seeds 5
    python benchmarks/few_shot_report.py runs/few_shot

DATA is a folder with index.csv. --base names models; none is measured on a set that its card lists
as training data, so that every set is new to its base. For the sets that the bundled models have
seen, bases are trained without one of them (docs/adapt.md has the commands).

Per set and seed, a third of the groups (fields, movies, specimens) is held back, and at most
--queries of their images judge; the cells that are annotated come from the others. --shots are cells
(5) or whole images (5i). Everybody is told the median diameter of each image. The boxes in time are
those of the command `adapt` unless given: a busy computer gains less.

One line of JSON per set, base, shots, seed and method is added to OUT/rows.jsonl; what is there is not
measured again, so that a stopped run goes on. OUT/settings.json holds what all rows share.
"""

import argparse
import hashlib
import json
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from few_shot_data import Division, Shots, annotate_shots, divide, read_set
from few_shot_methods import METHODS, Candidate, Outcome, try_all
from torch import Tensor, nn

from napari_dinocell.core.adapt import Limits, Recipe
from napari_dinocell.core.metrics import pool, score_image
from napari_dinocell.core.model.blocks import fold_batch_norm
from napari_dinocell.core.model.card import ModelCard
from napari_dinocell.core.model.files import load_model
from napari_dinocell.core.model.network import DINOCell
from napari_dinocell.core.model.store import tensors_sha256
from napari_dinocell.core.prediction import Prediction, Thresholds
from napari_dinocell.core.segmenter import Segmenter
from napari_dinocell.core.training.data import LabeledDataset

SETS = ["dsb2018_fluo", "dsb2018_stained", "usiigaci_phase", "miccai2015_tissue", "ctc_fluo"]
SHOTS = ["1", "5", "10", "50", "1i", "5i", "10i"]

Row = dict[str, Any]


class Remembering(nn.Module):
    """An encoder that computes each batch of tiles once: every candidate has the same encoder."""

    def __init__(self, encoder: nn.Module) -> None:
        super().__init__()
        self.encoder = encoder
        self.known: dict[bytes, list[Tensor]] = {}

    def features(self, x: Tensor) -> list[Tensor]:
        """What the encoder gives."""
        key = hashlib.sha256(x.cpu().contiguous().numpy().tobytes()).digest()
        if key not in self.known:
            self.known[key] = self.encoder.features(x)  # type: ignore[operator]
        return self.known[key]

    def __deepcopy__(self, memo: dict[int, Any]) -> "Remembering":
        return self  # the segmenter works with a copy of its network


class Judge:
    """Query images of one division; what the base makes of them is computed once."""

    def __init__(
        self, dataset: LabeledDataset, division: Division, base: DINOCell, card: ModelCard
    ) -> None:
        self._dataset, self._division, self._base, self._card = dataset, division, base, card
        self._maps: list[Prediction] = []
        self._encoder = Remembering(fold_batch_norm(base.encoder))

    def score(self, candidate: Candidate) -> Row:
        """Pooled scores of all query images."""
        if candidate.network is not self._base:
            maps = self._predict(candidate.network)
        else:
            self._maps = maps = self._maps or self._predict(candidate.network)
        scores = []
        for index, prediction in zip(self._division.query, maps, strict=True):
            labels = prediction.labels(candidate.at.peak, candidate.at.fill)
            scores.append(score_image(self._dataset.read(index)[1], labels))
        pooled = pool(scores)
        return {
            "op_csb": pooled.op_csb,
            "ap50": pooled.ap50,
            "seg": pooled.seg,
            "det": pooled.det,
            "n_true": pooled.n_true,
            "n_pred": pooled.n_pred,
        }

    def _predict(self, network: DINOCell) -> list[Prediction]:
        """Maps of all query images, by the way that users take."""
        encoder, network.encoder = network.encoder, self._encoder
        try:
            segmenter = Segmenter(network, self._card, next(network.parameters()).device)
        finally:
            network.encoder = encoder
        found = []
        for index in self._division.query:
            plane, _ = self._dataset.read(index)
            axes = "YX" if plane.ndim == 2 else "YXS"
            diameter = self._dataset[index].diameter
            found.append(segmenter.predict(plane, axes=axes, diameter=diameter))
        return found


def measure(
    judge: Judge, outcome: Outcome, baseline: dict[str, Row], identity: Row
) -> Iterator[Row]:
    """One row per method; equal networks at equal thresholds are scored once."""
    base = outcome.candidates["base"].network
    scored: dict[tuple[int, Thresholds], Row] = {}
    for name in METHODS:
        candidate = outcome.candidates[name]
        key = (id(candidate.network), candidate.at)
        if key not in scored:
            if candidate.network is base and str(candidate.at) in baseline:
                scored[key] = baseline[str(candidate.at)]
            else:
                scored[key] = judge.score(candidate)
            if candidate.network is base:
                baseline[str(candidate.at)] = scored[key]
        report = outcome.report
        yield {
            **identity,
            "method": name,
            **scored[key],
            "peak": candidate.at.peak,
            "fill": candidate.at.fill,
            "verdict": report.verdict,
            "n_cells": report.n_cells,
            "steps": sum(curve.steps[-1] for curve in report.folds)
            + (report.final.steps[-1] if report.final else 0),
            "feature_seconds": report.seconds["features"],
            "training_seconds": report.seconds["training"],
        }


def run(options: argparse.Namespace) -> int:
    """Measure whatever is missing; return how many rows were added."""
    rows_path = open_output(options)
    done = {identity_of(row) for row in read_rows(rows_path)}
    shots = [Shots.parse(text) for text in options.shots]
    added = 0
    for base_name in options.base:
        network, card = load_model(base_name, device=options.device)
        weights = tensors_sha256(network.state_dict())[:12]
        for set_name in options.sets:
            if set_name in card.data:
                print(f"{card.name} was trained on {set_name}: left out", flush=True)
                continue
            dataset = read_set(options.data, set_name)
            for seed in range(options.seeds):
                division = divide(dataset.images, options.queries, seed, options.apart)
                judge, baseline = Judge(dataset, division, network, card), {}
                for wanted in shots:
                    identity = {"set": set_name, "base": card.name, "weights": weights}
                    identity |= {"kind": wanted.kind, "shots": wanted.count, "seed": seed}
                    if identity_of(identity) in done:
                        continue
                    begun = time.perf_counter()
                    try:
                        examples = annotate_shots(dataset, division.support, wanted, seed)
                    except ValueError as error:
                        print(f"{set_name}, {wanted}: {error}", flush=True)
                        continue
                    limits = Limits(options.feature_seconds, options.training_seconds)
                    outcome = try_all(
                        network, card, examples, Recipe(seed=seed, calm=options.calm), limits
                    )
                    rows = list(measure(judge, outcome, baseline, identity))
                    with open(rows_path, "a", encoding="utf-8") as file:
                        file.write("".join(json.dumps(row) + "\n" for row in rows))
                    added += len(rows)
                    found = ", ".join(f"{row['method']} {row['op_csb']:.3f}" for row in rows)
                    seconds = time.perf_counter() - begun
                    print(
                        f"{card.name}, {set_name}, {wanted}, seed {seed}: {found}; "
                        f"{outcome.report.verdict}; {seconds:.0f} s",
                        flush=True,
                    )
    return added


def identity_of(row: Row) -> tuple[Any, ...]:
    """What tells one adaptation from another."""
    return tuple(row[key] for key in ("set", "base", "weights", "kind", "shots", "seed"))


def read_rows(path: Path) -> list[Row]:
    """All rows; a last line that was cut off is left out."""
    if not path.exists():
        return []
    lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
    return [json.loads(line) for line in lines if line.endswith("\n")]


def open_output(options: argparse.Namespace) -> Path:
    """Path of the rows; a folder with rows of other settings is refused."""
    shared = {
        "queries": options.queries,
        "apart": options.apart,
        "feature_seconds": options.feature_seconds,
        "training_seconds": options.training_seconds,
        "calm": options.calm,
        "threads": torch.get_num_threads(),
    }
    options.out.mkdir(parents=True, exist_ok=True)
    path = options.out / "settings.json"
    if path.exists() and json.loads(path.read_text(encoding="utf-8")) != shared:
        raise ValueError(f"{path} holds other settings than {shared}; give another --out.")
    path.write_text(json.dumps(shared), encoding="utf-8")
    rows = options.out / "rows.jsonl"
    whole = read_rows(rows)
    complete = "".join(json.dumps(row) + "\n" for row in whole[: _complete(whole)])
    if rows.exists() and rows.stat().st_size > len(complete.encode()):
        rows.write_text(complete, encoding="utf-8")  # it was stopped in the middle of a line
    return rows


def _complete(rows: list[Row]) -> int:
    """Number of rows that belong to adaptations of which every method is there."""
    return len(rows) // len(METHODS) * len(METHODS)


def options_of(arguments: list[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data", type=Path)
    parser.add_argument("--base", nargs="+", default=["small"], help="names or files of models")
    parser.add_argument("--sets", nargs="+", default=SETS)
    parser.add_argument("--shots", nargs="+", default=SHOTS, help="5: cells; 5i: whole images")
    parser.add_argument("--seeds", type=int, default=5, help="how many")
    parser.add_argument("--queries", type=int, default=8, help="images that judge, at most")
    parser.add_argument(
        "--apart",
        choices=["group", "image"],
        default="group",
        help="what support and query share not",
    )
    parser.add_argument("--feature-seconds", type=float, default=Limits().feature_seconds)
    parser.add_argument("--training-seconds", type=float, default=Limits().training_seconds)
    parser.add_argument("--calm", type=float, default=Recipe().calm, help="see core.adapt.Recipe")
    parser.add_argument("--out", type=Path, default=Path("runs/few_shot"))
    parser.add_argument("--device", default="cpu")
    return parser.parse_args(arguments)


def main() -> int:
    """Measure what is missing."""
    try:
        print(f"{run(options_of())} rows were added")
    except (ValueError, OSError) as error:
        sys.exit(str(error))
    return 0


if __name__ == "__main__":
    sys.exit(main())
