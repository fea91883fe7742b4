"""Time of an adaptation, by part: 10 annotated cells in a 1024 x 1024 image.

    python benchmarks/adapt_time.py vits8
    python benchmarks/adapt_time.py vits8 small --threads 2 --cells 10
    python benchmarks/adapt_time.py --untrained small

Bar on 2 cores: less than 60 s, of which features <= 25 s, training <= 25 s, tuning <= 5 s; on a GPU
less than 10 s, of which features <= 4 s, training <= 4 s, tuning <= 2 s. Features and training are
boxed by their bars, so what a slow computer loses is steps and views: both are printed. CPU seconds
beside wall seconds tell what a busy computer adds.

The image is a bundled sample repeated in mirror, the annotation 10 discs that are spread so evenly
that few share a window: the cost depends on where cells lie, not on whether they are right, and
labels that make no sense keep the training from ending before its box.
"""

import argparse
import json
import sys
import time
from pathlib import Path

import numpy as np
import torch

from napari_dinocell.core.adapt import Example, Limits, Recipe, adapt
from napari_dinocell.core.device import resolve_device
from napari_dinocell.core.images import read_image
from napari_dinocell.core.instances import warm_up
from napari_dinocell.core.intensity import luminance
from napari_dinocell.core.model.card import ModelCard
from napari_dinocell.core.model.files import bundled_models, load_model
from napari_dinocell.core.model.network import DINOCell, build_network
from napari_dinocell.core.samples import sample_path

SIDE = 1024
CPU_BARS = {"features": 25.0, "training": 25.0, "tuning": 5.0, "all": 60.0}
GPU_BARS = {"features": 4.0, "training": 4.0, "tuning": 2.0, "all": 10.0}
ARCHITECTURES = {
    "small": {"encoder": {"kind": "small"}, "decoder": {"kind": "small"}},
    "vits8": {"encoder": {"kind": "vit"}, "decoder": {"kind": "unet"}},
}


def plane_of(source: Path) -> np.ndarray:
    """The image in gray, repeated in mirror until it fills the plane."""
    pixels = read_image(source).array[:SIDE, :SIDE]
    gray = luminance(pixels) if pixels.ndim == 3 else np.asarray(pixels)
    missing = [(0, SIDE - length) for length in gray.shape]
    return np.pad(gray, missing, mode="symmetric")


def spread_cells(n_cells: int, radius: int, seed: int) -> np.ndarray:
    """Labels of discs, evenly spread with some disorder: each in a window of its own, the worst."""
    rng = np.random.default_rng(seed)
    side = int(np.ceil(np.sqrt(n_cells)))
    pitch = SIDE / side
    y, x = np.indices((SIDE, SIDE))
    labels = np.zeros((SIDE, SIDE), np.int32)
    for number in range(n_cells):
        cell = np.array(divmod(number, side)) + 0.5 + rng.uniform(-0.25, 0.25, 2)
        cy, cx = cell * pitch
        labels[(y - cy) ** 2 + (x - cx) ** 2 <= radius**2] = number + 1
    return labels


def load(name: str, untrained: bool) -> tuple[DINOCell, ModelCard]:
    """A bundled model, or its architecture with random weights."""
    if not untrained:
        return load_model(name)
    network = build_network(ARCHITECTURES[name]).eval()
    card = ModelCard(name=name, architecture=network.architecture, peak=0.6, fill=0.2, diameter=24)
    return network, card


def measure(name: str, options: argparse.Namespace) -> dict[str, object]:
    """Adapt once and return the seconds by part, and what they sufficed for."""
    base = load(name, options.untrained)
    example = Example(
        plane_of(sample_path(options.sample)),
        spread_cells(options.cells, round(base[1].diameter / 2), options.seed),
    )
    limits = Limits(options.feature_seconds, options.training_seconds)
    wall, cpu = time.perf_counter(), time.process_time()
    adapted = adapt(base, [example], recipe=Recipe(), limits=limits, device=options.device)
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    report = adapted.report
    curves = [*report.folds, *([report.final] if report.final else [])]
    return {
        "model": name,
        "device": str(resolve_device(options.device)),
        "threads": torch.get_num_threads(),
        "seconds": report.seconds | {"all": wall},
        "cpu_seconds": cpu,
        "windows": report.n_windows,
        "views": report.n_views,
        "patches": report.n_patches,
        "steps": [curve.steps[-1] for curve in curves],
        "verdict": report.verdict,
    }


def main() -> int:
    """Print a table, and the record of each model as JSON."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("models", nargs="*", help="default: all that are bundled")
    parser.add_argument("--untrained", action="store_true", help="random weights, same cost")
    parser.add_argument("--cells", type=int, default=10)
    parser.add_argument("--sample", default="fluorescence")
    parser.add_argument("--threads", type=int)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--feature-seconds", type=float, help="default: the bar")
    parser.add_argument("--training-seconds", type=float, help="default: the bar")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    if options.threads:
        torch.set_num_threads(options.threads)
    warm_up()
    bars = CPU_BARS if resolve_device(options.device).type == "cpu" else GPU_BARS
    options.feature_seconds = options.feature_seconds or bars["features"]
    options.training_seconds = options.training_seconds or bars["training"]
    passed = True
    for name in options.models or bundled_models():
        found = measure(name, options)
        print(json.dumps(found))
        for part, bar in bars.items():
            seconds = found["seconds"][part]
            is_met = seconds <= bar
            passed &= is_met
            print(
                f"{name:8} {part:9} {seconds:6.1f} s  bar {bar:4.0f} s  {'ok' if is_met else 'MISSED'}"
            )
    return 0 if passed else 1


if __name__ == "__main__":
    sys.exit(main())
