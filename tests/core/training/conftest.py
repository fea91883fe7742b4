"""Small labeled images in files: bright discs on a dim, textured ground."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tifffile
from imageio.v3 import imwrite
from scipy import ndimage

from napari_dinocell.core.training.data import (
    LabeledDataset,
    LabeledImage,
    instance_areas,
    with_areas,
)


class Specimen:
    """Writes pairs of image and labels into a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def discs(self, shape, radius, n, seed=0, dtype=np.uint8, color=False):
        """Plane and labels of up to `n` discs that do not touch."""
        rng = np.random.default_rng(seed)
        labels = np.zeros(shape, np.int32)
        y, x = np.indices(shape)
        cell_id = 0
        for cy, cx in rng.uniform(0, shape, (n, 2)):
            near = (y - cy) ** 2 + (x - cx) ** 2
            if near.min() <= 1 and not labels[near <= (radius + 2) ** 2].any():
                cell_id += 1
                labels[near <= radius**2] = cell_id
        plane = 0.15 + 0.02 * rng.random(shape) + 0.5 * (labels > 0)
        plane += 0.2 * ndimage.gaussian_filter((labels > 0).astype(float), 3)
        if color:
            plane = plane[..., None] * np.array([1.0, 0.6, 0.8])
        return (plane * np.iinfo(dtype).max).astype(dtype), labels

    def write(self, path, array):
        path = self.folder / path
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.suffix == ".tif":
            is_color = array.ndim == 3 and array.shape[2] == 3
            tifffile.imwrite(path, array, photometric="rgb" if is_color else "minisblack")
        else:
            imwrite(path, array)
        return path

    def item(self, stem, plane, labels, set_name="discs", group=None, suffix=".tif"):
        """LabeledImage of a pair written to files."""
        image = self.write(f"{stem}{suffix}", plane)
        mask = self.write(f"{stem}_labels.tif", labels.astype(np.uint16))
        item = LabeledImage(set_name, group or stem, image, mask)
        return with_areas(item, instance_areas(labels))

    def dataset(self, n=3, **changes):
        options = {"shape": (160, 200), "radius": 9, "n": 60} | changes
        pairs = [self.discs(seed=i, **options) for i in range(n)]
        return LabeledDataset(self.item(f"disc{i}", *pair) for i, pair in enumerate(pairs))


@pytest.fixture
def specimen(tmp_path):
    return Specimen(tmp_path)
