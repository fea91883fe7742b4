"""Model files: write, find, check and read them.

A model is a safetensors file `<name>.safetensors` with the card as JSON in its header. It holds the decoder
and names the backbone file, which several models share; or it holds the whole network.
"""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Iterable, Mapping
from importlib.resources import files as package_files
from pathlib import Path
from typing import Any

import torch
from pydantic import ValidationError
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn

from ..errors import ModelFileError
from .card import BackboneReference, ModelCard
from .network import DINOCell, build_network
from .vit import ViTConfig

__all__ = [
    "BackboneReference",
    "ModelCard",
    "bundled_models",
    "load_backbone",
    "load_model",
    "read_card",
    "save_backbone",
    "save_model",
    "tensors_sha256",
]

ENDING = ".safetensors"


def save_model(
    path: str | Path, network: DINOCell, card: ModelCard, *, full: bool = False
) -> ModelCard:
    """Write a model file, atomically.

    Parameters
    ----------
    path : path
        Ends with `.safetensors`; an existing file is replaced only when the new one is whole.
    network : DINOCell
    card : ModelCard
        Its architecture is replaced by the network's.
    full : bool
        Write the encoder too, even if the card names a backbone file. Without a named backbone it is
        always written. Kernels and matrices of an encoder are stored in float16.

    Returns
    -------
    ModelCard
        As written.
    """
    path = Path(path)
    if path.suffix != ENDING:
        raise ValueError(f"Model file {path.name} must end with {ENDING}; change its name.")
    card = card.model_copy(update={"architecture": network.architecture})
    tensors = {f"decoder.{k}": v for k, v in network.decoder.state_dict().items()}
    if full or card.backbone is None:
        encoder = _halve_matrices(network.encoder.state_dict())
        tensors |= {f"encoder.{key}": value for key, value in encoder.items()}
    _write(path, tensors, {"card": card.model_dump_json()})
    return card


def load_model(
    name_or_path: str | Path,
    *,
    device: str | torch.device = "cpu",
    folders: Iterable[str | Path] = (),
) -> tuple[DINOCell, ModelCard]:
    """Read a model: a bundled name, or the path of a model file.

    The backbone is looked for beside the model file, then in `folders`, then among the bundled files;
    the first whose tensors have the right hash is taken.

    Returns
    -------
    network : DINOCell
        float32, evaluation mode.
    card : ModelCard

    Raises
    ------
    FileNotFoundError
        If there is no such model.
    ModelFileError
        If a file is damaged or foreign, or the backbone is absent or another one.
    """
    path = _find(name_or_path)
    tensors, header = _read(path)
    card = _card_of(path, header)
    if not any(key.startswith("encoder.") for key in tensors):
        if card.backbone is None:
            raise ModelFileError(
                f"{path.name} holds a decoder only and names no backbone; export the model again."
            )
        places = [path.parent, *(Path(folder) for folder in folders), _bundled()]
        encoder = _find_backbone(path.name, card.backbone, places)
        tensors |= {f"encoder.{key}": value for key, value in encoder.items()}
    with torch.device("meta"):  # no time for initial weights: all of them are replaced
        network = build_network(card.architecture)
    _assign(network, tensors, path.name)
    return network.to(device).eval(), card


def read_card(name_or_path: str | Path) -> ModelCard:
    """Card of a model, without reading its weights; errors as in `load_model`."""
    path = _find(name_or_path)
    try:
        with safe_open(path, "pt") as file:
            return _card_of(path, file.metadata() or {})
    except (SafetensorError, OSError) as error:
        raise _damaged(path, error) from error


def bundled_models() -> tuple[str, ...]:
    """Names of the models that come with the package."""
    found = []
    for path in sorted(_bundled().glob(f"*{ENDING}")):
        with safe_open(path, "pt") as file:
            if "card" in (file.metadata() or {}):
                found.append(path.stem)
    return tuple(found)


def save_backbone(
    path: str | Path, encoder: nn.Module, about: Mapping[str, str] | None = None
) -> BackboneReference:
    """Write a transformer as a backbone file in float16, atomically.

    `about` (source, license, changes) goes into the header as text. Returns what a card needs to name it.
    """
    path = Path(path)
    tensors = {key: value.half() for key, value in encoder.state_dict().items()}
    config: Any = encoder.config
    _write(path, tensors, {**(about or {}), "architecture": config.model_dump_json()})
    return BackboneReference(file=path.name, sha256=tensors_sha256(tensors))


def load_backbone(path: str | Path) -> tuple[dict[str, Tensor], ViTConfig, BackboneReference]:
    """Tensors as stored, configuration and reference of a backbone file."""
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"There is no backbone file {path}; check the path.")
    tensors, header = _read(path)
    try:
        config = ViTConfig.model_validate_json(header.get("architecture", ""))
    except ValidationError as error:
        raise ModelFileError(
            f"{path.name} is no backbone file of this project; convert it with scripts/convert_backbone.py."
        ) from error
    return tensors, config, BackboneReference(file=path.name, sha256=tensors_sha256(tensors))


def tensors_sha256(tensors: Mapping[str, Tensor]) -> str:
    """Hash over names, dtypes, shapes and bytes in order of names; 64 hexadecimal digits."""
    digest = hashlib.sha256()
    for name in sorted(tensors):
        tensor = tensors[name].detach().cpu().contiguous()
        digest.update(f"{name}:{tensor.dtype}:{tuple(tensor.shape)};".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def _bundled() -> Path:
    return Path(str(package_files("napari_dinocell"))) / "resources" / "models"


def _find(name_or_path: str | Path) -> Path:
    given = Path(name_or_path)
    if given.is_file():
        return given
    named = _bundled() / f"{name_or_path}{ENDING}"
    if given.name == str(name_or_path) and named.is_file():
        return named
    known = ", ".join(bundled_models()) or "none"
    raise FileNotFoundError(
        f"There is no model {name_or_path}; give the path of a model file or a bundled name ({known})."
    )


def _find_backbone(
    model: str, reference: BackboneReference, places: Iterable[Path]
) -> dict[str, Tensor]:
    differs = None
    for place in places:
        path = place / Path(reference.file).name
        if path.is_file():
            tensors, _ = _read(path)
            if tensors_sha256(tensors) == reference.sha256:
                return tensors
            differs = path
    if differs is not None:
        raise ModelFileError(
            f"Backbone {differs} is not the one that {model} was made for (its hash differs); "
            "put the right file beside the model."
        )
    raise ModelFileError(
        f"{model} needs the backbone file {reference.file}, which was not found; put it beside the model."
    )


def _read(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    try:
        with safe_open(path, "pt") as file:
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
            return tensors, file.metadata() or {}
    except (SafetensorError, OSError, ValueError) as error:
        raise _damaged(path, error) from error


def _damaged(path: Path, error: Exception) -> ModelFileError:
    return ModelFileError(
        f"{path.name} is not a whole safetensors file ({error}); download or export it again."
    )


def _card_of(path: Path, header: Mapping[str, str]) -> ModelCard:
    if "card" not in header:
        raise ModelFileError(
            f"{path.name} has no model card; give a model file of this project, not bare weights."
        )
    try:
        return ModelCard.model_validate_json(header["card"])
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"]) or "card"
        raise ModelFileError(
            f"Model card of {path.name}: {where}: {first['msg']}; the file is damaged or from another version."
        ) from error


def _assign(network: DINOCell, tensors: Mapping[str, Tensor], name: str) -> None:
    own = network.state_dict()
    for kind, names in (("missing in", own.keys() - tensors), ("unknown in", tensors.keys() - own)):
        if names:
            raise ModelFileError(
                f"{len(names)} of {len(own)} weights are {kind} {name} (first: {min(names)}); "
                "the file is damaged or for another architecture."
            )
    for key, value in own.items():
        if tensors[key].shape != value.shape:
            raise ModelFileError(
                f"{key} of {name} has shape {tuple(tensors[key].shape)}, its card says {tuple(value.shape)}; "
                "the file is damaged."
            )
    ready = {key: tensors[key].to(own[key].dtype) for key in own}
    network.load_state_dict(ready, assign=True)
    for parameter in network.parameters():
        parameter.requires_grad_(True)


def _halve_matrices(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """float16 for kernels and matrices; vectors (biases, variances) keep their precision and range."""
    return {
        key: value.half() if value.ndim > 1 and value.is_floating_point() else value
        for key, value in state.items()
    }


def _write(path: Path, tensors: Mapping[str, Tensor], header: Mapping[str, str]) -> None:
    whole = {key: value.detach().cpu().contiguous() for key, value in tensors.items()}
    content = save(whole, metadata=dict(header))
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(temporary, 0o644)  # noqa: PTH101
        Path(temporary).replace(path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
