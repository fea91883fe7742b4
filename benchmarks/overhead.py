"""Time around the network at 1024²: read, normalize, tile, blend, flood, cut, measure.

The estimate of the cells' size, which comes before where nobody tells it, is printed beside them.

    python benchmarks/overhead.py
    python benchmarks/overhead.py small vits8 --image cells.tif --threads 2
    python benchmarks/overhead.py --untrained small vits8

The passes of the network are timed inside the same run, so tiles, batches and threads are the
same and a busy computer disturbs both alike. Bar: everything else takes less than 20 % of them.
"""

import argparse
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import tifffile
import torch

from napari_dinocell.core.images import read_image
from napari_dinocell.core.instances import flood, warm_up
from napari_dinocell.core.intensity import intensity_range, normalize
from napari_dinocell.core.measure import measure
from napari_dinocell.core.model.card import ModelCard
from napari_dinocell.core.model.files import bundled_models
from napari_dinocell.core.model.network import build_network
from napari_dinocell.core.samples import sample_path
from napari_dinocell.core.segmenter import Segmenter
from napari_dinocell.core.tiles import Blender, TileGrid

BAR = 0.2
ARCHITECTURES = {
    "small": {"encoder": {"kind": "small"}, "decoder": {"kind": "small"}},
    "vits8": {"encoder": {"kind": "vit"}, "decoder": {"kind": "unet"}},
}


class Clock:
    """Seconds per step, summed."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = defaultdict(float)

    @contextmanager
    def step(self, name: str) -> Iterator[None]:
        """Add the time of the block to the step `name`."""
        start = time.perf_counter()
        yield
        self.seconds[name] += time.perf_counter() - start


def load(name: str, untrained: bool) -> Segmenter:
    """Segmenter of a model, or of its architecture with random weights."""
    if not untrained:
        return Segmenter.from_pretrained(name, "cpu")
    network = build_network(ARCHITECTURES[name]).eval()
    card = ModelCard(name=name, architecture=network.architecture, peak=0.6, fill=0.2, diameter=24)
    warm_up()
    return Segmenter(network, card, "cpu")


def plane_1024(source: Path) -> np.ndarray:
    """The image, repeated in mirror until it fills 1024 x 1024."""
    plane = read_image(source).array[:1024, :1024]
    missing = [(0, 1024 - n) for n in plane.shape[:2]] + [(0, 0)] * (plane.ndim - 2)
    return np.pad(plane, missing, mode="symmetric")


@contextmanager
def timed_passes(segmenter: Segmenter, clock: Clock) -> Iterator[None]:
    """Time every forward pass while the segmenter runs."""
    starts: list[float] = []

    def before(*_: object) -> None:
        starts.append(time.perf_counter())

    def after(*_: object) -> None:
        clock.seconds["network"] += time.perf_counter() - starts.pop()

    handles = [
        segmenter.network.register_forward_pre_hook(before),
        segmenter.network.register_forward_hook(after),
    ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def whole_run(segmenter: Segmenter, path: Path) -> tuple[float, float, np.ndarray]:
    """Seconds in all and in the network, and the labels."""
    clock = Clock()
    start = time.perf_counter()
    with timed_passes(segmenter, clock):
        image = read_image(path)
        prediction = segmenter.predict(image, diameter=None)
        cut = prediction.cut()
        measure(cut.labels, image.array, cut=cut)
    return time.perf_counter() - start, clock.seconds["network"], cut.labels


def steps(segmenter: Segmenter, path: Path, maps: np.ndarray) -> dict[str, float]:
    """Seconds of each step by itself, on the same plane and map."""
    clock, card = Clock(), segmenter.card
    with clock.step("read"):
        image = read_image(path)
        plane = np.asarray(image.array)
    with clock.step("range"):
        range_ = intensity_range(plane, card.input.percentiles, card.input.contrast_floor)
    grid = TileGrid(1024, 1024, card.tile, card.overlap)
    with clock.step("normalize and tile"):
        for index in range(len(grid)):
            normalize(grid.read(plane, index), range_)
    tile = maps[: grid.tile_shape[0], : grid.tile_shape[1]].astype(np.float32) / 65535
    with clock.step("blend"):
        blender = Blender(grid, lambda top, rows: None)
        for _ in range(len(grid)):
            blender.add(tile)
    with clock.step("flood"):
        tree = flood(maps)
    chosen = card.peak, card.fill
    with clock.step("cut"):
        cut = tree.cut(*chosen, min_area=card.min_area, min_prominence=card.min_prominence)
    with clock.step("measure"):
        measure(cut.labels, plane, cut=cut)
    # Not in the sum: it is left out where the diameter is given, and consists of passes.
    with clock.step("size of the cells"):
        segmenter.estimate(image)
    return dict(clock.seconds)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("models", nargs="*", help="names or files; all bundled ones if none")
    parser.add_argument("--untrained", nargs="+", default=[], choices=list(ARCHITECTURES))
    parser.add_argument("--image", type=Path, default=sample_path("fluorescence"))
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    names = options.models or ([] if options.untrained else list(bundled_models()))
    if not names and not options.untrained:
        parser.error("no model is bundled; name a model file or --untrained small vits8")
    broken = False
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "plane.tif"
        plane = plane_1024(options.image)
        tifffile.imwrite(path, plane, photometric="rgb" if plane.ndim == 3 else "minisblack")
        for name in [*names, *options.untrained]:
            segmenter = load(name, name not in names)
            whole_run(segmenter, path)
            runs = [whole_run(segmenter, path) for _ in range(options.repeats)]
            total, network, labels = min(runs, key=lambda run: run[0])
            maps = segmenter.predict(read_image(path), diameter=None).maps[0]
            parts = [steps(segmenter, path, maps) for _ in range(options.repeats)]
            share = total / network - 1
            broken |= share >= BAR
            grid = TileGrid(1024, 1024, segmenter.card.tile, segmenter.card.overlap)
            print(
                f"{name}: {total:.2f} s in all, {network:.2f} s in the network, {share:.1%} around it "
                f"(bar {BAR:.0%}); {len(np.unique(labels)) - 1} cells, {options.threads} threads, "
                f"batches of {segmenter.batch_size}; {grid.redundancy:.2f} pixels through the "
                "network per pixel"
            )
            for step in parts[0]:
                seconds = min(part[step] for part in parts)
                print(f"    {step:20s} {1e3 * seconds:7.1f} ms  {seconds / network:6.2%}")
    return int(broken)


if __name__ == "__main__":
    sys.exit(main())
