"""Typed run configurations: YAML files plus ``section.key=value`` overrides.

Defaults live in the types. Every loop of the project reads its settings through `load_config`,
so that a misspelt key is an error that names the nearest right one.
"""

import difflib
from collections.abc import Iterator, Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any, Literal, TypeVar, get_args

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from napari_dinocell.core.training.augment import AugmentConfig


class Section(BaseModel):
    """A frozen group of settings; unknown keys are refused."""

    model_config = ConfigDict(frozen=True, extra="forbid")


C = TypeVar("C", bound=Section)


class DataSettings(Section):
    """Where labeled images come from."""

    source: str = Field(
        description="folder with an index.csv, of images and labels, YAML manifest or COCO JSON"
    )
    sets: dict[str, float] | None = Field(
        None,
        description="names of the sets to use and the share of crops drawn from each; all if not given",
    )
    validation: str | None = Field(
        None,
        description="what is scored; by default the val split of an index.csv, else a part held out",
    )
    held_out: float = Field(0.1, gt=0, lt=1, description="part of each set that is held out ★")
    split_seed: int = Field(0, ge=0, description="seed of that choice")


class ModelSettings(Section):
    """Which network is trained and from what it starts."""

    encoder: Literal["vits8", "vitb8", "vitl8", "vits8-learned", "small"] = Field(
        "vits8-learned",
        description="vits8, vitb8, vitl8: DINOv3 layout; vits8-learned: DINOv2 layout",
    )
    encoder_weights: str | None = Field(
        None, description="weights file of the encoder; random if not given"
    )
    init: str | None = Field(None, description="model to start from (encoder and decoder)")
    freeze_encoder: bool = True
    decoder_widths: tuple[int, ...] = Field((128, 64, 32, 16), description="★ (256, 128, 64, 32)")
    decoder_stem: int = Field(
        16, ge=0, description="channels of the image stem of the last stage; 0 = none"
    )


class CropSettings(Section):
    """How training crops are cut."""

    size: int = Field(256, ge=32, multiple_of=8, description="side in px")
    diameter: float = Field(
        30.0, gt=0, description="median cell diameter that planes are rescaled to, px"
    )
    lift: float = Field(
        0.2, ge=0, lt=1, description="value of the target at the rim of a cell; ★ 0"
    )
    color: bool = Field(True, description="keep the color of RGB images; otherwise luminance")
    pool: int = Field(0, ge=0, description="number of different crops; 0 = every crop is new")
    cache: str | None = Field(
        None, description="folder for crops and frozen features; needs a pool"
    )
    cache_gb: float = Field(20.0, gt=0, description="byte bound of that folder")

    @model_validator(mode="after")
    def _cache_needs_pool(self) -> "CropSettings":
        if self.cache is not None and self.pool == 0:
            raise ValueError("crops.cache is set but crops.pool is 0; a cache needs a finite pool")
        return self


class LossSettings(Section):
    """What is minimized; with balance = gradient = 0 it is the plain mean squared error ★."""

    balance: float = Field(
        0.0, ge=0, le=1, description="0: pixels count equally; 1: cells count equally"
    )
    gradient: float = Field(
        0.0, ge=0, description="weight of the squared error of the map's gradient"
    )


class DistillSettings(Section):
    """A teacher whose maps are learned beside the labels."""

    teacher: str
    weight: float = Field(0.5, ge=0, le=1, description="share of the teacher's map in the target")


class OptimizerSettings(Section):
    """AdamW with warm-up, cosine decay, clipping and an average of the weights."""

    lr: float = Field(1e-3, gt=0)
    final_lr: float = Field(1e-6, ge=0)
    warmup: int = Field(100, ge=0, description="steps")
    weight_decay: float = Field(0.01, ge=0)
    betas: tuple[float, float] = (0.9, 0.999)
    eps: float = Field(1e-8, gt=0)
    clip: float = Field(1.0, gt=0, description="largest norm of the gradient")
    encoder_lr_scale: float = Field(
        0.1, gt=0, description="rate of the last encoder block against the decoder's"
    )
    layer_decay: float = Field(
        0.75, gt=0, le=1, description="factor per encoder block, from last to first"
    )
    ema: float = Field(0.998, ge=0, lt=1, description="momentum of the averaged weights")


class Config(Section):
    """One supervised training run."""

    name: str = Field(description="name of the model that is written")
    out: str = Field(description="folder of checkpoints, log and model")
    data: DataSettings
    model: ModelSettings = ModelSettings()
    crops: CropSettings = CropSettings()
    augment: AugmentConfig = AugmentConfig()
    loss: LossSettings = LossSettings()
    distill: DistillSettings | None = None
    optimizer: OptimizerSettings = OptimizerSettings()
    steps: int = Field(2000, ge=1)
    batch: int = Field(8, ge=1, description="crops per step over all processes")
    seed: int = Field(0, ge=0)
    device: str = Field("auto", description="auto, cpu, cuda, cuda:n or mps")
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    threads: int = Field(0, ge=0, description="CPU threads; 0 = all")
    resume: str = Field("auto", description="auto: newest good checkpoint in out; never; or a file")
    checkpoint_every: int = Field(1000, ge=1, description="steps ★")
    keep: int = Field(2, ge=1, description="checkpoints kept")
    validate_every: int = Field(1000, ge=1, description="steps")
    log_every: int = Field(10, ge=1, description="steps")
    wandb: Literal["online", "offline", "disabled"] = "disabled"
    wandb_project: str = "napari-dinocell"
    licenses: dict[str, str] = Field(
        {}, description="license of each data set and weight file, for the card"
    )
    notes: str = Field("", description="remarks for the card")


def load_config(kind: type[C], path: str | Path, overrides: Sequence[str] = ()) -> C:
    """Read a YAML file into a typed configuration.

    Parameters
    ----------
    kind : Section subclass
        The configuration's type; defaults stand there.
    path : path
        YAML file.
    overrides : sequence of str
        ``key=value`` or ``section.key=value``; the value is read as YAML.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        If the file is not a mapping, a key is unknown (the nearest one is named) or a value is
        not allowed.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(
            f"There is no configuration file {path}; give the path of a YAML file."
        )
    try:
        tree = yaml.safe_load(path.read_text(encoding="utf-8"))
    except yaml.YAMLError as error:
        raise ValueError(f"{path} is not valid YAML: {' '.join(str(error).split())}.") from error
    if not isinstance(tree, dict):
        raise ValueError(f"{path} holds {type(tree).__name__}, expected a mapping of settings.")
    for override in overrides:
        _apply(tree, override)
    known = list(key_paths(kind))
    for key in _leaves(tree, known):
        if key not in known:
            near = difflib.get_close_matches(key, known, n=1, cutoff=0.0)[0]
            raise ValueError(f"Unknown setting {key!r} in {path.name}; did you mean {near!r}?")
    try:
        return kind.model_validate(tree)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"]) or path.name
        given = "" if first["type"] == "missing" else f" (given: {first['input']!r})"
        raise ValueError(f"Setting {where}: {first['msg']}{given}.") from error


def shipped_configs(*, self_supervised: bool = False) -> dict[str, Path]:
    """Configurations that come with the package, by name: of supervised training, or the other."""
    folder = Path(str(files("napari_dinocell") / "resources" / "configs"))
    found = sorted(folder.glob("*.yaml"))
    return {path.stem: path for path in found if path.stem.startswith("ssl_") == self_supervised}


def dump_config(config: Section) -> str:
    """Return the full configuration as YAML that `load_config` reads back."""
    return yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False, allow_unicode=True)


def key_paths(kind: type[BaseModel], prefix: str = "") -> Iterator[str]:
    """Dotted names of all settings of a configuration type, sections included."""
    for name, field in kind.model_fields.items():
        yield prefix + name
        section = _section_of(field.annotation)
        if section is not None:
            yield from key_paths(section, f"{prefix}{name}.")


def _section_of(annotation: Any) -> type[BaseModel] | None:
    for part in (annotation, *get_args(annotation)):
        if isinstance(part, type) and issubclass(part, BaseModel):
            return part
    return None


def _leaves(tree: dict[str, Any], known: Sequence[str], prefix: str = "") -> Iterator[str]:
    """Dotted keys of the tree; mappings that are the value of a known setting are not entered."""
    for key, value in tree.items():
        path = f"{prefix}{key}"
        is_section = path not in known or any(name.startswith(f"{path}.") for name in known)
        if isinstance(value, dict) and value and is_section:
            yield from _leaves(value, known, f"{path}.")
        else:
            yield path


def _apply(tree: dict[str, Any], override: str) -> None:
    key, equals, text = override.partition("=")
    if not equals or not key:
        raise ValueError(
            f"Override {override!r} is not of the form key=value or section.key=value."
        )
    *sections, last = key.split(".")
    for section in sections:
        child = tree.setdefault(section, {})
        if child is None:
            child = tree[section] = {}
        if not isinstance(child, dict):
            raise ValueError(f"Override {override!r}: {section!r} is a value, not a section.")
        tree = child
    tree[last] = yaml.safe_load(text)
