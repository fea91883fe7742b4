"""Cell segmentation with a DINOv3-style backbone, a distance map and live thresholds.

Public names are loaded on first use, so that importing the package stays fast and pulls in
neither torch nor Qt.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from napari_dinocell.core.adapt import Example, adapt
    from napari_dinocell.core.images import Image, read_image
    from napari_dinocell.core.segmenter import Prediction, Segmenter

__version__ = "0.1.0"

_HOMES = {
    "Example": "napari_dinocell.core.adapt",
    "Image": "napari_dinocell.core.images",
    "Prediction": "napari_dinocell.core.segmenter",
    "Segmenter": "napari_dinocell.core.segmenter",
    "adapt": "napari_dinocell.core.adapt",
    "read_image": "napari_dinocell.core.images",
}

__all__ = [
    "Example",
    "Image",
    "Prediction",
    "Segmenter",
    "__version__",
    "adapt",
    "read_image",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
