"""Small fields in files, and a run on them that takes a tenth of a second per step."""

from pathlib import Path

import numpy as np
import pytest
import tifffile
import yaml
from scipy import ndimage

from napari_dinocell.core.pretrain.config import SSLConfig
from napari_dinocell.core.training.config import load_config


def write_fields(folder: Path, n: int = 8, n_channels: int = 3, side: int = 80) -> None:
    """Fields of blobs of several sizes; channels are increasing functions of one image."""
    for index in range(n):
        rng = np.random.default_rng(index)
        image = ndimage.gaussian_filter(rng.normal(size=(side, side)), 1.5 * 2 ** (index % 3))
        image = np.exp(image / image.std())
        image /= np.percentile(image, 99)
        stack = np.stack([image ** (0.7 + 0.4 * c) for c in range(n_channels)])
        stack = np.clip(stack + 0.01 * rng.normal(size=stack.shape), 0, 2)
        path = folder / f"plate{index % 4}" / f"field{index}.tif"
        path.parent.mkdir(parents=True, exist_ok=True)
        pixels = (stack * 20_000 + 500).astype(np.uint16)
        tifffile.imwrite(path, pixels, photometric="minisblack")


@pytest.fixture
def fields(tmp_path):
    write_fields(tmp_path / "fields")
    return tmp_path / "fields"


@pytest.fixture
def run_file(fields, tmp_path):
    """Configuration of a small run; tests change it by overrides."""
    content = {
        "name": "small",
        "out": str(tmp_path / "out"),
        "data": {
            "sources": [str(fields)], "axes": "CYX", "held_out": 0.0, "tile": 48, "tiles_per_field": 2,
            "fetch_threads": 2, "field_threads": 2,
        },
        "model": {"encoder": "tiny"},
        "heads": {
            "prototypes": 32, "hidden": 48, "bottleneck": 16, "steps": 4, "warmup": 2, "still": 1,
            "gate": 0,
        },
        "views": {"global_size": 32, "local_size": 16, "n_local": 2},
        "loss": {"cross": 0.5, "min_block": 2},
        "optimizer": {"warmup_epochs": 1},
        "teacher": {"temperature_epochs": 2},
        "epochs": 4,
        "steps_per_epoch": 4,
        "batch": 4,
        "device": "cpu",
        "precision": "float32",
        "threads": 1,
        "checkpoint_every": 1,
        "keep": 30,
        "log_every": 1,
        "look_every": 0,
    }  # fmt: skip
    path = tmp_path / "run.yaml"
    path.write_text(yaml.safe_dump(content), encoding="utf-8")
    return path


@pytest.fixture
def configured(run_file):
    """Function from overrides to a configuration."""

    def load(*overrides: str) -> SSLConfig:
        return load_config(SSLConfig, run_file, overrides)

    return load
