"""The user's own models: files in the library that are found by their name, as bundled ones are."""

from __future__ import annotations

import re
from pathlib import Path

from napari_dinocell.core.model.library import library_folder

__all__ = ["ENDING", "own_folder", "own_model_path", "own_models", "unused_name"]

ENDING = ".safetensors"
_FORBIDDEN = re.compile(r'[/\\:*?"<>|\x00-\x1f]')


def own_folder() -> Path:
    """Folder of the user's own models; it need not exist."""
    return library_folder() / "own"


def own_model_path(name: str) -> Path:
    """File of an own model; it need not exist.

    Raises
    ------
    ValueError
        If the name cannot be that of a file.
    """
    if not name.strip() or name.startswith(".") or _FORBIDDEN.search(name):
        raise ValueError(
            f"Model name {name!r} cannot be a file's; use letters, digits, spaces, - and _."
        )
    return own_folder() / f"{name}{ENDING}"


def own_models() -> tuple[str, ...]:
    """Names of the user's own models, sorted; their files need not be whole."""
    return tuple(sorted(path.stem for path in own_folder().glob(f"*{ENDING}")))


def unused_name(wanted: str, taken: tuple[str, ...] = ()) -> str:
    """A name for a new own model: as wanted where possible, else with a number.

    Parameters
    ----------
    wanted : str
        Characters that file names cannot have become spaces.
    taken : tuple of str
        Names beside those of own models that are not free.
    """
    base = " ".join(_FORBIDDEN.sub(" ", wanted).strip(". ").split()) or "adapted"
    known = {*own_models(), *taken}
    name, number = base, 2
    while name in known:
        name, number = f"{base} {number}", number + 1
    return name
