"""Ours and other programs on the same images, scored by one evaluator.

    python benchmarks/compare_peers.py DATA --split test --out runs/peers
    python benchmarks/compare_peers.py DATA --peers deepsea otsu_watershed --sets usiigaci_phase
    python benchmarks/compare_peers.py DATA --weights stardist=MODEL cellpose=FILE
    python benchmarks/compare_peers.py DATA --prepare stardist

Every peer runs through its adapter in `benchmarks/peers/`, in a virtual environment of its own that
is made under --environments; ours run through the command line. Nobody is told the diameter of the
cells. Weights are files: nothing is downloaded but packages. A peer whose weights are not given is
listed as not run. Writes `compare.md`, `compare.json` and one picture per set to --out, and takes
up finished runs when started again.
"""

import argparse
import json
import platform
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import tifffile
from peer_report import Scored, chosen, markdown, picture
from peer_runs import Adapter, NotRunError, Run, prepare, read_adapters, run_ours, run_peer
from peers.protocol import Settings

from napari_dinocell.core.evaluation import ScoredImage
from napari_dinocell.core.metrics import score_image
from napari_dinocell.core.model.files import bundled_models
from napari_dinocell.core.training.validation import load_split

MODELS = Path(__file__).resolve().parents[1] / "src/napari_dinocell/resources/models"


@dataclass(frozen=True)
class ImageSet:
    """Images of one set: a folder of TIFF files for the methods, and planes and truth in memory."""

    name: str
    folder: Path
    images: dict[str, npt.NDArray[Any]] = field(default_factory=dict)
    truth: dict[str, npt.NDArray[np.integer]] = field(default_factory=dict)


def read_sets(options: argparse.Namespace) -> list[ImageSet]:
    """Read the images, and write those that methods will read."""
    dataset = load_split(options.data, options.split, options.sets)
    found: dict[str, ImageSet] = {}
    for index, item in enumerate(dataset):
        folder = options.out / "images" / options.split / item.set_name
        image_set = found.setdefault(item.set_name, ImageSet(item.set_name, folder))
        if options.images is not None and len(image_set.images) == options.images:
            continue
        plane, truth = dataset.read(index)
        image_set.images[item.image.stem], image_set.truth[item.image.stem] = plane, truth
    for image_set in found.values():
        image_set.folder.mkdir(parents=True, exist_ok=True)
        for old in image_set.folder.glob("*.tif"):
            if old.stem not in image_set.images:
                old.unlink()
        for name, plane in image_set.images.items():
            kind = "rgb" if plane.ndim == 3 else "minisblack"
            tifffile.imwrite(image_set.folder / f"{name}.tif", plane, photometric=kind)
    return list(found.values())


def scored(image_set: ImageSet, method: str, ours: bool, run: Run) -> Scored:
    """Score what a run wrote."""
    images = [
        ScoredImage(
            name,
            image_set.name,
            score_image(truth, tifffile.imread(run.labels[name])),
            run.seconds[name],
        )
        for name, truth in image_set.truth.items()
    ]
    return Scored(image_set.name, method, ours, images, run.peak_bytes)


class Comparison:
    """All runs of one call, kept by method.

    Attributes
    ----------
    runs : dict of (method, set) to Run
    results : list of Scored
    not_run : dict of str to str
        Why, by the title of the peer.
    facts : dict of str to dict
        Version, model and licences, by method.
    """

    def __init__(self, options: argparse.Namespace, sets: list[ImageSet]) -> None:
        self.options, self.sets = options, sets
        self.runs: dict[tuple[str, str], Run] = {}
        self.results: list[Scored] = []
        self.not_run: dict[str, str] = {}
        self.facts: dict[str, dict[str, str]] = {}

    def ours(self, model: str) -> None:
        """Run one of our models on all sets."""
        # The card in this file holds the hash of the backbone, where that lies in a second file.
        weights = Path(model) if Path(model).suffix else MODELS / f"{model}.safetensors"
        for image_set in self.sets:
            output = self._output(Path(model).stem, image_set)
            print(f"{model} on {image_set.name} ...", file=sys.stderr)
            run = run_ours(model, weights, image_set.folder, self.options.device, output)
            self._add(Path(model).stem, True, image_set, run)
        self.facts[Path(model).stem] = {"version": run.version, "model": run.model}

    def peer(self, adapter: Adapter) -> None:
        """Run a peer on all sets, or note why not."""
        weights = self.options.weights.get(adapter.name)
        if adapter.weights and weights is None:
            self.not_run[adapter.title] = (
                f"its weights are not here; give --weights {adapter.name}=PATH, {adapter.weights}."
            )
            return
        if weights is not None and not Path(weights).exists():
            self.not_run[adapter.title] = f"there are no weights at {weights}; correct --weights."
            return
        try:
            print(f"{adapter.title}: environment ...", file=sys.stderr)
            python = prepare(adapter, self.options.environments)
            for image_set in self.sets:
                print(f"{adapter.title} on {image_set.name} ...", file=sys.stderr)
                told = Settings(
                    self.options.device, weights, str(self.options.data), image_set.name
                )
                output = self._output(adapter.name, image_set)
                run = run_peer(adapter, python, image_set.folder, told, output)
                self._add(adapter.title, False, image_set, run)
        except NotRunError as error:
            self.not_run[adapter.title] = str(error)
            return
        self.facts[adapter.title] = {
            "version": run.version,
            "model": run.model,
            "trained on": adapter.trained_on,
            "code licence": adapter.code_license,
            "weights licence": adapter.weights_license,
        }

    def _output(self, method: str, image_set: ImageSet) -> Path:
        return self.options.out / "labels" / self.options.split / method / image_set.name

    def _add(self, method: str, ours: bool, image_set: ImageSet, run: Run) -> None:
        self.runs[method, image_set.name] = run
        self.results.append(scored(image_set, method, ours, run))

    def write(self) -> str:
        """Write tables, JSON and pictures; returns the tables."""
        order = [image_set.name for image_set in self.sets]
        self.results.sort(key=lambda result: order.index(result.set_name))
        where = f"{platform.machine()}, {self.options.device}"
        text = markdown(self.results, self.not_run, f"{self.options.split} images, {where}")
        lines = [
            f"- {method}: {', '.join(f'{k} {v}' for k, v in facts.items() if v)}"
            for method, facts in self.facts.items()
        ]
        text += "\n## Methods\n\n" + "\n".join(lines) + "\n"
        out = self.options.out
        (out / "compare.md").write_text(text, encoding="utf-8")
        results = {
            "split": self.options.split,
            "methods": self.facts,
            "not_run": self.not_run,
            "results": [result.to_json() for result in self.results],
        }
        (out / "compare.json").write_text(json.dumps(results, indent=1), encoding="utf-8")
        for image_set in self.sets:
            self._picture(image_set)
        return text

    def _picture(self, image_set: ImageSet) -> None:
        here = [result for result in self.results if result.set_name == image_set.name]
        names = list(image_set.images)
        columns = {"truth": [image_set.truth[name] for name in names]}
        for result in here:
            run = self.runs[result.method, image_set.name]
            columns[result.method] = [tifffile.imread(run.labels[name]) for name in names]
        planes = [image_set.images[name] for name in names]
        images = {result.method: result.images for result in here}
        rows = chosen(here[0].images) if here else {}
        if rows:
            path = self.options.out / f"{self.options.split}-{image_set.name}.png"
            picture(path, planes, columns, images, rows)


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    adapters = read_adapters()
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path, help="data folder with index.csv")
    parser.add_argument("--sets", nargs="+", help="all of the split if none")
    parser.add_argument("--split", choices=("val", "test"), default="val")
    parser.add_argument("--images", type=int, help="the first so many of each set; default all")
    parser.add_argument("--models", nargs="*", default=list(bundled_models()), help="ours")
    parser.add_argument("--peers", nargs="*", choices=list(adapters), default=list(adapters))
    parser.add_argument("--weights", nargs="+", default=[], metavar="PEER=PATH")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--environments", type=Path, help="default: OUT/environments")
    parser.add_argument("--out", type=Path, default=Path("runs/peers"))
    parser.add_argument("--prepare", nargs="+", choices=list(adapters), help="only environments")
    options = parser.parse_args(argv)
    for given in options.weights:
        if given.partition("=")[0] not in adapters or not given.partition("=")[2]:
            parser.error(f"--weights {given}: write PEER=PATH, PEER one of {', '.join(adapters)}")
    pairs = (given.split("=", 1) for given in options.weights)
    options.weights = {name: str(Path(path).expanduser().resolve()) for name, path in pairs}
    options.data, options.out = options.data.resolve(), options.out.resolve()
    options.environments = options.environments or options.out / "environments"
    return options


def main(argv: Sequence[str] | None = None) -> int:
    """Run, score, write; print the tables."""
    options = parse(argv)
    adapters = read_adapters()
    if options.prepare:
        for name in options.prepare:
            print(prepare(adapters[name], options.environments))
        return 0
    comparison = Comparison(options, read_sets(options))
    for model in options.models:
        comparison.ours(model)
    for name in options.peers:
        comparison.peer(adapters[name])
    print(comparison.write())
    return 0


if __name__ == "__main__":
    sys.exit(main())
