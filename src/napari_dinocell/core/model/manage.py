"""List models; import, rename, delete the user's own, and write any model as one file."""

from __future__ import annotations

import logging
from pathlib import Path

from napari_dinocell.core.errors import ModelFileError
from napari_dinocell.core.model.card import ModelCard
from napari_dinocell.core.model.files import bundled_models, load_model, read_card, save_model
from napari_dinocell.core.model.library import keep_encoder
from napari_dinocell.core.model.own import own_model_path, own_models, unused_name
from napari_dinocell.core.model.store import read_safetensors, tensors_sha256
from napari_dinocell.core.writing import make_folder

__all__ = [
    "delete_model",
    "import_model",
    "import_unless_there",
    "installed",
    "rename_model",
    "write_model",
]

_log = logging.getLogger(__name__)


def installed() -> list[tuple[str, str, ModelCard]]:
    """Name, kind ("bundled" or "own") and card of all models that a name finds.

    The card's name is the one that finds it. Damaged files among the user's own are left out, with a
    warning.
    """
    found = [(name, "bundled", read_card(name)) for name in bundled_models()]
    for name in own_models():
        try:
            card = read_card(own_model_path(name))
        except (ModelFileError, OSError) as error:
            _log.warning("%s", error)
            continue
        found.append((name, "own", card.model_copy(update={"name": name})))
    return found


def import_model(path: str | Path, name: str | None = None) -> ModelCard:
    """Copy a model file into the user's own models; its encoder comes along.

    Parameters
    ----------
    path : path
    name : str, optional
        That it gets; by default that of the file.

    Returns
    -------
    ModelCard
        As it is found under that name.

    Raises
    ------
    FileNotFoundError, ModelFileError
        As `load_model`.
    ValueError
        If the name is taken or cannot be a file's.
    OSError
        If the library cannot be written to.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"There is no model file {path}; check the path.")
    target = _free(name or path.stem)
    network, card = load_model(path)
    card = card.model_copy(update={"name": target.stem})
    make_folder(target.parent)
    if card.backbone is not None:
        keep_encoder(network)  # first, so that there is no model file without its encoder
    return save_model(target, network, card)


def import_unless_there(path: str | Path) -> str | None:
    """Copy a model file into the user's own models, unless one of them is the same.

    Another one of the same name stays; the copy then gets a number.

    Returns
    -------
    str or None
        Name of the copy; None if there was no need for one.

    Raises
    ------
    FileNotFoundError, ModelFileError, OSError
        As `import_model`.
    """
    path = Path(path)
    wanted = _fingerprint(path)
    for name in own_models():
        try:
            if _fingerprint(own_model_path(name)) == wanted:
                return None
        except (ModelFileError, OSError):
            continue  # damaged, and another one at that
    return import_model(path, unused_name(path.stem, bundled_models())).name


def rename_model(name: str, new: str) -> ModelCard:
    """Give one of the user's own models another name.

    Raises
    ------
    ValueError
        If there is no such own model, or the new name is taken or cannot be a file's.
    FileNotFoundError, ModelFileError, OSError
        As `load_model` and `save_model`.
    """
    old = _own(name)
    target = _free(new)
    network, card = load_model(old)
    card = save_model(target, network, card.model_copy(update={"name": new}))
    old.unlink()
    return card


def delete_model(name: str) -> None:
    """Delete one of the user's own models; its encoder stays, others may need it.

    Raises
    ------
    ValueError
        If there is no such own model.
    OSError
        If the file cannot be removed.
    """
    _own(name).unlink()


def write_model(name_or_path: str | Path, output: str | Path) -> ModelCard:
    """Write a model as one file that loads on any computer, its encoder included.

    Raises
    ------
    FileNotFoundError, ModelFileError
        As `load_model`.
    ValueError
        If the file is there already or has another ending.
    OSError
        If there is no room for it, or no right to write it.
    """
    output = Path(output)
    if output.exists():
        raise ValueError(f"{output} is there already; give another name.")
    network, card = load_model(name_or_path)
    make_folder(output.parent)
    return save_model(output, network, card, full=True)


def _fingerprint(path: Path) -> tuple[str, float, float]:
    """What tells models of one encoder apart, in a full file and in one without it alike."""
    tensors = read_safetensors(path)[0]
    decoder = {key: value for key, value in tensors.items() if key.startswith("decoder.")}
    card = read_card(path)
    return tensors_sha256(decoder), card.peak, card.fill


def _own(name: str) -> Path:
    if name in bundled_models():
        raise ValueError(f"{name} comes with the package; only your own models can be changed.")
    path = own_model_path(name)
    if not path.is_file():
        known = ", ".join(own_models()) or "none"
        raise ValueError(f"You have no model {name!r}; yours are: {known}.")
    return path


def _free(name: str) -> Path:
    path = own_model_path(name)
    if path.exists() or name in bundled_models():
        raise ValueError(f"There is a model {name!r} already; choose another name.")
    return path
