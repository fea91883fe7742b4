"""The bundled images, for napari's menu of samples."""

from __future__ import annotations

from typing import Any

from skimage.io import imread

from napari_dinocell.core.samples import SAMPLES, sample_path

__all__ = ["fluorescence", "phase_contrast", "stained"]

_TITLES = {sample.key: sample.title for sample in SAMPLES}


def _sample(key: str) -> list[tuple[Any, dict[str, Any], str]]:
    pixels = imread(sample_path(key))
    return [(pixels, {"name": _TITLES[key], "rgb": pixels.ndim == 3}, "image")]


def fluorescence() -> list[tuple[Any, dict[str, Any], str]]:
    """Nuclei, fluorescence."""
    return _sample("fluorescence")


def phase_contrast() -> list[tuple[Any, dict[str, Any], str]]:
    """Cells, phase contrast."""
    return _sample("phase_contrast")


def stained() -> list[tuple[Any, dict[str, Any], str]]:
    """Nuclei, purple stain."""
    return _sample("stained")
