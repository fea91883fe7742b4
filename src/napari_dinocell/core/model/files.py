"""Model files: write, find, check and read them.

A model is a safetensors file `<name>.safetensors` with the card as JSON in its header. It holds the
decoder and names the backbone file, which several models share; or it holds the whole network.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from importlib.resources import files as package_files
from pathlib import Path

import torch
from pydantic import ValidationError
from torch import Tensor, nn

from napari_dinocell.core.errors import ModelFileError
from napari_dinocell.core.model.blocks import ConvNorm
from napari_dinocell.core.model.card import BackboneReference, ModelCard
from napari_dinocell.core.model.library import encoder_path
from napari_dinocell.core.model.network import DINOCell, build_network
from napari_dinocell.core.model.own import ENDING, own_folder, own_models
from napari_dinocell.core.model.store import (
    SkipInitialization,
    halve_matrices,
    read_header,
    read_safetensors,
    tensors_sha256,
    to_float32,
    write_safetensors,
)
from napari_dinocell.core.model.vit import VisionTransformer, ViTConfig

__all__ = [
    "BackboneReference",
    "ModelCard",
    "bundled_models",
    "default_model",
    "load_backbone",
    "load_model",
    "read_card",
    "save_backbone",
    "save_model",
    "tensors_sha256",
]


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
        Write the encoder too, even if the card names a backbone file. Without a named backbone it
        is always written. Kernels and matrices of an encoder are stored in float16.

    Returns
    -------
    ModelCard
        As written.

    Raises
    ------
    ValueError
        If the encoder differs from the backbone file that the card names, or the network is folded.
    """
    path = Path(path)
    if path.suffix != ENDING:
        raise ValueError(f"Model file {path.name} must end with {ENDING}; change its name.")
    card = card.model_copy(update={"architecture": network.architecture})
    _refuse_folded(network)
    tensors = {f"decoder.{key}": value for key, value in network.decoder.state_dict().items()}
    if card.backbone is not None and not full:
        _refuse_changed_encoder(network, card.backbone)
    else:
        encoder = halve_matrices(network.encoder.state_dict())
        tensors |= {f"encoder.{key}": value for key, value in encoder.items()}
    write_safetensors(path, tensors, {"card": card.model_dump_json()})
    return card


def load_model(
    name_or_path: str | Path,
    *,
    device: str | torch.device = "cpu",
    folders: Iterable[str | Path] = (),
) -> tuple[DINOCell, ModelCard]:
    """Read a model: the path of a model file, or the name of a bundled or an own one.

    The backbone is looked for beside the model file, then in `folders`, then among the bundled
    files, then in the user's library; the first whose tensors have the right hash is taken. It may
    be a backbone file, or a model file that holds the whole network.

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
    tensors, header = read_safetensors(path)
    card = _card_of(path, header)
    if not any(key.startswith("encoder.") for key in tensors):
        if card.backbone is None:
            raise ModelFileError(
                f"{path.name} holds a decoder only and names no backbone; export the model again."
            )
        places = [path.parent, *(Path(folder) for folder in folders), _bundled()]
        encoder = _find_backbone(path.name, card.backbone, places)
        tensors |= {f"encoder.{key}": value for key, value in encoder.items()}
    try:
        with SkipInitialization():
            network = build_network(card.architecture)
    except ValueError as error:
        raise ModelFileError(f"Model card of {path.name}: {error}") from error
    _assign(network, to_float32(tensors), path.name)
    return network.to(device).eval(), card


def read_card(name_or_path: str | Path) -> ModelCard:
    """Card of a model, without reading its weights; errors as in `load_model`."""
    path = _find(name_or_path)
    return _card_of(path, read_header(path))


def bundled_models() -> tuple[str, ...]:
    """Names of the models that come with the package."""
    paths = sorted(_bundled().glob(f"*{ENDING}"))
    return tuple(path.stem for path in paths if "card" in read_header(path))


def default_model(device: str) -> str:
    """Name of the bundled model for a kind of device.

    The small one on a CPU, the flagship elsewhere; the other one where only that is bundled.
    """
    wanted, other = ("small", "vits8") if device == "cpu" else ("vits8", "small")
    return wanted if wanted in bundled_models() else other


def save_backbone(
    path: str | Path, encoder: VisionTransformer, about: Mapping[str, str] | None = None
) -> BackboneReference:
    """Write a transformer as a backbone file, atomically; matrices in float16.

    Parameters
    ----------
    path : path
    encoder : VisionTransformer
    about : mapping of str to str, optional
        Source, license, changes: goes into the header as text.

    Returns
    -------
    BackboneReference
        What a card needs to name this file.
    """
    path = Path(path)
    tensors = halve_matrices(encoder.state_dict())
    header = {**(about or {}), "architecture": encoder.config.model_dump_json()}
    write_safetensors(path, tensors, header)
    return BackboneReference(file=path.name, sha256=tensors_sha256(tensors))


def load_backbone(path: str | Path) -> tuple[VisionTransformer, BackboneReference]:
    """Transformer of a backbone file, float32 in evaluation mode, and what names it in a card."""
    path = Path(path)
    tensors, header = read_safetensors(path)
    try:
        config = ViTConfig.model_validate_json(header.get("architecture", ""))
    except ValidationError as error:
        raise ModelFileError(
            f"{path.name} is no backbone file of this project; convert it by convert_backbone.py."
        ) from error
    tensors = to_float32(tensors)
    with SkipInitialization():
        encoder = VisionTransformer(config)
    _assign(encoder, tensors, path.name)
    return encoder.eval(), BackboneReference(file=path.name, sha256=tensors_sha256(tensors))


def _bundled() -> Path:
    return Path(str(package_files("napari_dinocell"))) / "resources" / "models"


def _find(name_or_path: str | Path) -> Path:
    given = Path(name_or_path)
    if given.is_file():
        return given
    if given.name == str(name_or_path):
        for folder in (_bundled(), own_folder()):
            named = folder / f"{name_or_path}{ENDING}"
            if named.is_file():
                return named
    known = ", ".join((*bundled_models(), *own_models())) or "none"
    raise FileNotFoundError(
        f"There is no model {name_or_path}; "
        f"give the path of a model file or the name of an installed one ({known})."
    )


def _find_backbone(
    model: str, reference: BackboneReference, places: Iterable[Path]
) -> dict[str, Tensor]:
    differs = None
    named = [place / Path(reference.file).name for place in places]
    for path in (*named, encoder_path(reference.sha256)):
        if path.is_file():
            tensors = _encoder_tensors(read_safetensors(path)[0])
            if tensors_sha256(tensors) == reference.sha256:
                return tensors
            differs = path
    if differs is not None:
        raise ModelFileError(
            f"Backbone {differs} is not the one that {model} was made for (its hash differs); "
            "put the right file beside the model."
        )
    raise ModelFileError(
        f"{model} needs the backbone file {reference.file}, which was not found; "
        "put it beside the model."
    )


def _encoder_tensors(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Tensors of a backbone file as they are, of a whole model those of its encoder."""
    encoder = {
        key.removeprefix("encoder."): value
        for key, value in tensors.items()
        if key.startswith("encoder.")
    }
    return to_float32(encoder or tensors)


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
            f"Model card of {path.name}: {where}: {first['msg']}; "
            "the file is damaged or from another version."
        ) from error


def _assign(module: nn.Module, tensors: Mapping[str, Tensor], name: str) -> None:
    """Make float32 tensors the weights of a module."""
    own = module.state_dict()
    for kind, names in (("missing in", own.keys() - tensors), ("unknown in", tensors.keys() - own)):
        if names:
            raise ModelFileError(
                f"{len(names)} of {len(own)} weights are {kind} {name} (first: {min(names)}); "
                "the file is damaged or for another architecture."
            )
    for key, value in own.items():
        if tensors[key].shape != value.shape:
            raise ModelFileError(
                f"{key} of {name} has shape {tuple(tensors[key].shape)}, its card says "
                f"{tuple(value.shape)}; the file is damaged."
            )
    module.load_state_dict(dict(tensors), assign=True)


def _refuse_changed_encoder(network: DINOCell, reference: BackboneReference) -> None:
    if tensors_sha256(network.encoder.state_dict()) != reference.sha256:
        raise ValueError(
            f"The encoder is not the one of {reference.file} (its hash differs); "
            "save it as a backbone file of its own, or the whole network with full=True."
        )


def _refuse_folded(network: DINOCell) -> None:
    if any(isinstance(part, ConvNorm) and part.is_folded for part in network.modules()):
        raise ValueError(
            "The network's batch normalizations are folded; save the network that it was made from."
        )
