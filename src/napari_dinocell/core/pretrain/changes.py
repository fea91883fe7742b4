"""Which settings of a run are others than those of the checkpoint that it goes on from."""

from collections.abc import Iterator
from typing import Any

import yaml

from napari_dinocell.core.pretrain.config import SSLConfig

# What the network learns from, and how. The order of samples is checked by the stream; where and
# how fast things are read or written may change.
_LEARNING = (
    "model.encoder", "model.drop_path", "model.rescale", "heads.", "views.", "photometry.", "loss.",
    "teacher.", "optimizer.", "data.tile", "data.pixel_size_um", "data.left_out", "data.joint",
    "epochs", "steps_per_epoch", "micro_batch",
)  # fmt: skip


def changed_settings(before: str, config: SSLConfig) -> list[str]:
    """Settings that matter to what is learned and differ, each as ``key (before -> now)``.

    Parameters
    ----------
    before : str
        Configuration of the checkpoint, as YAML.
    config : SSLConfig
        The present one.
    """
    old = dict(_flat(yaml.safe_load(before)))
    new = dict(_flat(config.model_dump(mode="json")))
    return [
        f"{key} ({old[key]} -> {value})"
        for key, value in new.items()
        if key.startswith(_LEARNING) and key in old and old[key] != value
    ]


def _flat(tree: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Dotted keys and values."""
    for key, value in tree.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value
