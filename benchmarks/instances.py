"""Flood and cut beside scikit-image's watershed, on the same map in the same run.

    python benchmarks/instances.py [--size 2048] [--cells 2000] [--repeats 5]

The map is synthetic and noisy: touching cells of a Voronoi partition, their lifted distance map,
blurred noise on top, so that there are several times more local maxima than cells. The noise has a
grain of 2 px because networks don't put out white noise.
"""

from __future__ import annotations

import argparse
import platform
import statistics
import time
from collections.abc import Callable

import numpy as np
import numpy.typing as npt
from scipy import ndimage
from scipy.spatial import cKDTree
from skimage.segmentation import watershed

from napari_dinocell.core.distance import distance_map, lift_threshold
from napari_dinocell.core.instances import Cut, ThresholdTree, flood, quantize, warm_up
from napari_dinocell.core.levels import level
from napari_dinocell.core.measure import measure
from napari_dinocell.core.metrics import score_image

LIFT = 0.2
PEAK, FILL = lift_threshold(0.47, LIFT), 0.13
FILTERS = {"min_area": 30, "min_prominence": 0.05}
EIGHT = np.ones((3, 3))


def voronoi_cells(size: int, n_cells: int, seed: int) -> npt.NDArray[np.int32]:
    """Discs around random points, clipped where they meet: (size, size) labels, about 70 % full."""
    rng = np.random.default_rng(seed)
    points = rng.uniform(0, size, (n_cells, 2))
    grid = np.stack(np.mgrid[:size, :size], axis=-1).reshape(-1, 2)
    distance, nearest = cKDTree(points).query(grid)
    radius = 0.75 * size / np.sqrt(n_cells)
    return np.where(distance < radius, nearest + 1, 0).reshape(size, size).astype(np.int32)


def noisy_map(labels: npt.NDArray[np.int32], seed: int) -> npt.NDArray[np.float32]:
    """Lifted distance map with noise of standard deviation 0.03 and a grain of 2 px."""
    rng = np.random.default_rng(seed)
    grain = ndimage.gaussian_filter(rng.standard_normal(labels.shape).astype(np.float32), 2)
    distance = distance_map(labels, lift=LIFT) + 0.03 * grain / grain.std()
    return np.clip(distance, 0, 1).astype(np.float32)


def scikit_image(quantized: npt.NDArray[np.uint16]) -> npt.NDArray[np.int32]:
    """Marker watershed of the same map at the same thresholds."""
    markers, _ = ndimage.label(quantized > level(PEAK), EIGHT)
    mask = quantized > level(FILL)
    return watershed(-quantized.astype(np.int32), markers, mask=mask, connectivity=2)


def seconds(action: Callable[[], object], repeats: int) -> list[float]:
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        action()
        times.append(time.perf_counter() - start)
    return times


def report(name: str, times: list[float], reference: float | None = None) -> None:
    median = statistics.median(times)
    ratio = f"{median / reference:9.4f}" if reference else "        -"
    print(f"{name:<44}{1e3 * median:10.1f}{1e3 * min(times):10.1f}{1e3 * max(times):10.1f}{ratio}")


def moves(tree: ThresholdTree, repeats: int, *, of_peak: bool) -> list[float]:
    """Seconds of each cut while one threshold moves, the result being written into one array."""
    out = np.empty(tree.shape, np.uint16)
    steps = np.linspace(-0.05, 0.05, 4 * repeats)
    times = []
    for step in steps:
        peak, fill = (PEAK + step, FILL) if of_peak else (PEAK, FILL + step)
        start = time.perf_counter()
        tree.cut(peak, fill, out=out, **FILTERS)
        times.append(time.perf_counter() - start)
    return times


def agreement(tree: ThresholdTree, reference: npt.NDArray[np.int32]) -> str:
    cut: Cut = tree.cut(PEAK, FILL)
    same_foreground = np.array_equal(cut.labels > 0, reference > 0)
    # Cells and markers are paired at the marker pixels; where they differ elsewhere is border.
    marker = tree.quantized > level(PEAK)
    name = np.zeros(int(cut.ids[-1]) + 1, np.int32)
    name[cut.labels[marker]] = reference[marker]
    share = np.mean(name[cut.labels][reference > 0] != reference[reference > 0])
    return (
        f"cells {len(cut.ids)} / {reference.max()} (ours / scikit-image), same foreground "
        f"{same_foreground}, border pixels on the other side {100 * share:.3f} %"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", type=int, default=2048)
    parser.add_argument("--cells", type=int, default=2000)
    parser.add_argument("--repeats", type=int, default=5)
    arguments = parser.parse_args()
    labels = voronoi_cells(arguments.size, arguments.cells, seed=0)
    distance = noisy_map(labels, seed=1)
    warm_up()
    quantized = quantize(distance)
    tree = flood(distance)
    print(
        f"{platform.machine()}, numpy {np.__version__}; {arguments.size}^2 px, "
        f"{arguments.cells} cells, {len(tree.heights) - 1} basins, {len(tree.edges[2])} edges, "
        f"foreground {100 * np.mean(quantized > level(FILL)):.0f} %"
    )
    print(agreement(tree, scikit_image(quantized)))
    print(f"{'step':<44}{'median ms':>10}{'min':>10}{'max':>10}{'ratio':>9}")
    n = arguments.repeats
    # Interleaved, so that a busy machine is as unfair to one as to the other.
    theirs: list[float] = []
    ours: list[float] = []
    for _ in range(n):
        theirs += seconds(lambda: scikit_image(quantized), 1)
        ours += seconds(lambda: flood(distance), 1)
    reference = statistics.median(theirs)
    report("scikit-image: markers + watershed", theirs)
    report("flood, float map to tree (bar 0.35, aim 0.2)", ours, reference)
    report("move of peak, filters on (bar 0.01)", moves(tree, n, of_peak=True), reference)
    report("move of fill, filters on (bar 0.01)", moves(tree, n, of_peak=False), reference)
    centre = slice(arguments.size // 4, arguments.size // 4 + arguments.size // 2)
    window = (centre, centre)
    report(
        "move of peak, window of a quarter",
        seconds(lambda: tree.cut(PEAK, FILL, window=window, **FILTERS), 4 * n),
        reference,
    )
    measure(labels[:64, :64])
    report("distance map of the labels", seconds(lambda: distance_map(labels, LIFT), n))
    report("measure, default columns", seconds(lambda: measure(labels, distance), n))
    report("measure, shape=True", seconds(lambda: measure(labels, distance, shape=True), 1))
    found = tree.cut(PEAK, FILL, **FILTERS).labels
    report("score of the cells, all metrics", seconds(lambda: score_image(labels, found), n))


if __name__ == "__main__":
    main()
