"""Few-shot adaptation: a model, a few annotated cells -> a model that knows these cells.

    from napari_dinocell.core.adapt import Example, adapt

    adapted = adapt("vits8", [Example(plane, labels)])
    adapted.save("mine.safetensors")

Names are loaded on first use, so that the command's help answers without waiting for torch.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from napari_dinocell.core.adapt.adaptation import Limits, Progress, adapt
    from napari_dinocell.core.adapt.adapted import Adapted
    from napari_dinocell.core.adapt.command import main
    from napari_dinocell.core.adapt.examples import Example, examples_of
    from napari_dinocell.core.adapt.fit import Recipe
    from napari_dinocell.core.adapt.report import Report
    from napari_dinocell.core.adapt.suggestion import Suggestion, suggest

_HOMES = {
    "Adapted": "adapted",
    "Example": "examples",
    "Limits": "adaptation",
    "Progress": "adaptation",
    "Recipe": "fit",
    "Report": "report",
    "Suggestion": "suggestion",
    "adapt": "adaptation",
    "examples_of": "examples",
    "main": "command",
    "suggest": "suggestion",
}

__all__ = [
    "Adapted",
    "Example",
    "Limits",
    "Progress",
    "Recipe",
    "Report",
    "Suggestion",
    "adapt",
    "examples_of",
    "main",
    "suggest",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
