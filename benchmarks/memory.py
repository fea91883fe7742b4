"""Peak memory of segmenting a large plane from TIFF and Zarr, beyond image and labels.

    python benchmarks/memory.py
    python benchmarks/memory.py --size 10000 --kinds tiff zarr

Each file is segmented in a process of its own, with a network of one convolution, so that what is
measured is everything around the network: reading, normalization, tiles, blending, maps, flood, cut
and labels. Bar: at most 4 GB for 10 000 x 10 000.
"""

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import tifffile
import torch
import zarr
from torch import nn

from napari_dinocell.core.images import read_image
from napari_dinocell.core.model.card import ModelCard
from napari_dinocell.core.model.small import SmallDecoderConfig, SmallEncoderConfig
from napari_dinocell.core.segmenter import Segmenter

BAR_BYTES = 4e9
KINDS = ("tiff", "strips", "zarr")


class Smooth(nn.Module):
    """Map = locally averaged gray values."""

    def __init__(self) -> None:
        super().__init__()
        self.mean = nn.AvgPool2d(5, 1, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(B, C, Y, X) -> (B, 1, Y, X)."""
        return self.mean(x.mean(1, keepdim=True)).clamp(0, 1)


def stub_card() -> ModelCard:
    architecture = {
        "encoder": SmallEncoderConfig().model_dump(mode="json"),
        "decoder": SmallDecoderConfig().model_dump(mode="json"),
    }
    return ModelCard(name="stub", architecture=architecture, peak=0.5, fill=0.2, diameter=24)


def cell_field(size: int) -> np.ndarray:
    """uint16 plane with a cell of about 24 px every 40 px, in noise."""
    rng = np.random.default_rng(0)
    y, x = np.indices((1000, 1000))
    bump = np.clip(1.3 * (1 - np.hypot(y % 40 - 20, x % 40 - 20) / 14), 0, 1)
    block = rng.poisson(500 + 4000 * bump).astype(np.uint16)
    repeats = -(-size // 1000)
    return np.tile(block, (repeats, repeats))[:size, :size]


def write_plane(path: Path, kind: str, plane: np.ndarray) -> None:
    if kind == "zarr":
        array = zarr.create_array(
            path,
            shape=plane.shape,
            chunks=(1024, 1024),
            dtype=plane.dtype,
            dimension_names=("y", "x"),
        )
        array[:] = plane
        return
    tile = (512, 512) if kind == "tiff" else None
    tifffile.imwrite(path, plane, tile=tile, compression="zlib", metadata={"axes": "YX"})


def peak_bytes() -> int:
    """Largest resident size of this process so far."""
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def segment_once(path: str) -> None:
    """Run in the child: segment and print the figures."""
    segmenter = Segmenter(Smooth(), stub_card(), "cpu")
    segmenter.predict(
        np.eye(64), diameter=None
    ).labels()  # compiled kernels and thread pools are not the plane's
    base = peak_bytes()
    start = time.perf_counter()
    image = read_image(path, axes="YX")
    prediction = segmenter.predict(image, diameter=None)
    mapped = time.perf_counter()
    after_maps = peak_bytes()
    labels = prediction.labels()
    print(
        json.dumps(
            {
                "n_cells": len(np.unique(labels[::7, ::7])) - 1,
                "map_s": mapped - start,
                "label_s": time.perf_counter() - mapped,
                "base_bytes": base,
                "map_bytes": after_maps - base,
                "beyond_bytes": peak_bytes() - base - labels.nbytes,
            }
        )
    )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", type=int, default=10_000, help="height and width in px")
    parser.add_argument("--kinds", nargs="+", default=list(KINDS), choices=KINDS)
    parser.add_argument("--child", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        segment_once(options.child)
        return 0
    plane = cell_field(options.size)
    worst = 0.0
    with tempfile.TemporaryDirectory() as folder:
        for kind in options.kinds:
            path = Path(folder) / ("plane.zarr" if kind == "zarr" else f"{kind}.tif")
            write_plane(path, kind, plane)
            child = [sys.executable, __file__, "--child", str(path)]
            done = subprocess.run(child, check=True, capture_output=True, text=True)
            figures = json.loads(done.stdout.splitlines()[-1])
            worst = max(worst, figures["beyond_bytes"])
            print(
                f"{kind:7s} {options.size}²: {figures['beyond_bytes'] / 1e9:.2f} GB beyond image and "
                f"labels (maps alone {figures['map_bytes'] / 1e9:.2f} GB, before the image "
                f"{figures['base_bytes'] / 1e9:.2f} GB); maps {figures['map_s']:.0f} s, "
                f"labels {figures['label_s']:.0f} s, about {figures['n_cells']} cells"
            )
    print(f"bar {BAR_BYTES / 1e9:.0f} GB: {'kept' if worst <= BAR_BYTES else 'BROKEN'}")
    return 0 if worst <= BAR_BYTES else 1


if __name__ == "__main__":
    sys.exit(main())
