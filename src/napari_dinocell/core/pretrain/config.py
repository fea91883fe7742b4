"""All settings of a pre-training run, with their defaults; `training.config` reads the files."""

from typing import Annotated, Literal

from pydantic import AfterValidator, Field, model_validator

from napari_dinocell.core.pretrain.strategies import STRATEGIES
from napari_dinocell.core.training.config import Section

Positive = Annotated[float, Field(gt=0)]
Share = Annotated[float, Field(ge=0, le=1)]
Area = Annotated[float, Field(gt=0, le=1)]


def _ascending(pair: tuple[float, float]) -> tuple[float, float]:
    if pair[0] > pair[1]:
        raise ValueError("the first of the two must not be above the second")
    return pair


_InOrder = AfterValidator(_ascending)
Range = Annotated[tuple[float, float], _InOrder]
PositiveRange = Annotated[tuple[Positive, Positive], _InOrder]
ShareRange = Annotated[tuple[Share, Share], _InOrder]
AreaRange = Annotated[tuple[Area, Area], _InOrder]


class DataSettings(Section):
    """Where fields come from, and in which order."""

    sources: tuple[str, ...] = Field(
        min_length=1,
        description="manifests (.parquet), folders of multi-channel images, labeled images",
    )
    axes: str | None = Field(None, description="of files that do not name theirs, such as CYX")
    moved: dict[str, str] = Field(
        {}, description="new beginning of addresses by the old one, such as {s3://bucket: /copy}"
    )
    left_out: tuple[str, ...] = Field((), description="names of channels that are never shown")
    joint: tuple[tuple[str, ...], ...] = Field(
        (("color red", "color green", "color blue"),),
        description="names of channels that are one view together; three of them as color",
    )
    held_out: float = Field(0.05, ge=0, lt=1, description="share of the plates held out")
    held_out_sources: tuple[str, ...] = Field((), description="sources held out as a whole")
    split_seed: int = Field(0, ge=0)
    tile: int = Field(320, ge=32, description="side of a tile, px")
    pixel_size_um: float | None = Field(
        None, gt=0, description="fields of known pixel size are resampled to it"
    )
    tiles_per_field: int = Field(8, ge=1, description="tiles of one fetch; divides the batch")
    spread: int = Field(8, ge=1, description="steps between two tiles of one field")
    window: int = Field(32, ge=1, description="shards that are shuffled into each other")
    endpoint: str | None = Field(
        None, pattern=r"^https?://\S+$", description="URL of an S3 server other than Amazon's"
    )
    region: str = "us-east-1"
    signed: bool = Field(False, description="sign requests with your credentials")
    etag_md5: bool = Field(True, description="an ETag of 32 digits is the MD5 of the bytes")
    processes: int = Field(0, ge=0, description="that read, beside each that trains; 0 = threads")
    fetch_threads: int = Field(16, ge=1, description="objects fetched and decoded at once")
    field_threads: int = Field(8, ge=1, description="fields read at once")
    tile_threads: int = Field(2, ge=1, description="tiles normalized at once")
    look_ahead_mb: float = Field(512, gt=0, description="of fields that wait for their step")
    memory_gb: float = Field(0, ge=0, description="decoded fields kept in memory, at most 1000 ★")
    cache: str | None = Field(None, description="folder of the disk cache")
    cache_gb: float = Field(100, gt=0, description="its bound")
    most_broken: float = Field(0.05, ge=0, le=1, description="share at which the run stops")
    most_zeros: float = Field(0.5, gt=0, le=1, description="of a 16-bit plane, else it is broken")


class ModelSettings(Section):
    """Which backbone is trained and from what it starts."""

    encoder: Literal["vits8", "vitb8", "vitl8", "vits8-learned", "tiny"] = "vits8"
    weights: str | None = Field(
        None, description="backbone or checkpoint of any known layout; random if not given"
    )
    new_tensors: tuple[str, ...] = Field(
        ("mask_token",), description="may be missing in that file, and start anew"
    )
    heads: str | None = Field(None, description="checkpoint whose projection heads go on")
    drop_path: float = Field(0.1, ge=0, lt=1, description="share of samples that skip a branch")
    rescale: float = Field(
        2.0, ge=1, description="patch coordinates are scaled by up to this, either way"
    )

    @model_validator(mode="after")
    def _learned_positions_have_no_scale(self) -> "ModelSettings":
        if self.encoder == "vits8-learned" and self.rescale != 1:
            raise ValueError("vits8-learned has no coordinates to scale; set model.rescale=1")
        return self


class HeadSettings(Section):
    """Projection heads, and the stage in which they alone learn."""

    prototypes: int = Field(8192, ge=2)
    hidden: int = Field(2048, ge=1)
    bottleneck: int = Field(256, ge=1)
    weight_norm: bool = Field(False, description="prototypes of length 1: the fallback of a gate")
    steps: int = Field(2500, ge=0, description="steps with a frozen backbone; 0 = none")
    warmup: int = Field(100, ge=0, description="steps of these")
    still: int = Field(100, ge=0, description="first steps in which prototypes do not move")
    momentum: float = Field(0.99, ge=0, le=1, description="of the teacher's heads meanwhile")
    gate: float = Field(
        0.5, ge=0, description="nats below ln K that the DINO loss must reach by then; 0 = no gate"
    )


class ViewSettings(Section):
    """What crops show; defaults as in `views.CropRanges`."""

    strategy: str = "mean_vs_single"
    brightfield_share: float = Field(0.0, ge=0, le=1)
    global_size: int = Field(224, ge=16, multiple_of=8)
    local_size: int = Field(96, ge=16, multiple_of=8)
    n_local: int = Field(8, ge=0)
    global_area: AreaRange = (0.32, 1.0)
    local_area: AreaRange = (0.05, 0.32)
    aspect: PositiveRange = (3 / 4, 4 / 3)
    least_std: float = Field(0.02, ge=0)
    n_redraws: int = Field(4, ge=0)

    @model_validator(mode="after")
    def _strategy_is_known(self) -> "ViewSettings":
        if self.strategy not in STRATEGIES:
            raise ValueError(f"strategy is unknown; choose one of {', '.join(STRATEGIES)}")
        return self


class PhotometrySettings(Section):
    """Photometric augmentation; see `augment.PhotometryRanges`, whose defaults these are."""

    gamma_share: float = Field(0.5, ge=0, le=1)
    log_gamma: float = Field(0.4, ge=0)
    illumination_share: float = Field(0.2, ge=0, le=1)
    illumination: float = Field(0.2, ge=0, lt=1)
    blur_sigma: PositiveRange = (0.1, 1.5)
    blur_shares: tuple[Share, Share, Share] = (0.5, 0.1, 0.5)
    noise_share: float = Field(0.5, ge=0, le=1)
    photons: PositiveRange = (50.0, 5000.0)
    read_noise: ShareRange = (0.0, 0.02)
    gain_share: float = Field(0.8, ge=0, le=1)
    gain: PositiveRange = (0.6, 1.6)
    offset: Range = (-0.05, 0.10)
    inversion_share: float = Field(0.0, ge=0, le=1)


class LossSettings(Section):
    """What is minimized: DINO plus these."""

    ibot: float = Field(1.0, ge=0, description="weight of masked patches")
    koleo: float = Field(0.1, ge=0, description="weight of spreading, per global crop ★")
    koleo_group: int = Field(
        0, ge=0, description="fields among which neighbors are sought; 0 = all of a micro-batch"
    )
    cross: float = Field(0.0, ge=0, description="weight of cross-channel patch targets")
    gram: float = Field(
        0.0, ge=0, description="weight of keeping the patch similarities of the starting backbone"
    )
    student_temperature: float = Field(0.1, gt=0)
    mask_share: float = Field(0.5, ge=0, le=1, description="of the global crops")
    mask_ratio: ShareRange = Field((0.1, 0.5), description="of the patches of a masked crop")
    min_block: int = Field(16, ge=1, description="least patches of a masked block")


class TeacherSettings(Section):
    """Exponential average and targets."""

    momentum: float = Field(0.996, ge=0, le=1, description="at a batch of 64 ★")
    final_momentum: float = Field(1.0, ge=0, le=1, description="★")
    temperature: float = Field(0.04, gt=0)
    final_temperature: float = Field(0.07, gt=0)
    temperature_epochs: float = Field(30, ge=0)
    iterations: int = Field(3, ge=1, description="of Sinkhorn-Knopp")


class OptimizerSettings(Section):
    """AdamW with layer-wise rates."""

    lr: float = Field(5e-5, gt=0, description="of the last block at a batch of 64 ★")
    final_lr: float = Field(1e-6, ge=0)
    warmup_epochs: float = Field(5, ge=0)
    weight_decay: float = Field(0.04, ge=0)
    final_weight_decay: float = Field(0.04, ge=0)
    betas: tuple[Share, Share] = (0.9, 0.999)
    eps: float = Field(1e-8, gt=0)
    clip: float = Field(3.0, gt=0, description="largest gradient norm of backbone and each head")
    layer_decay: float = Field(0.9, gt=0, le=1)
    patch_embed_scale: float = Field(0.2, gt=0, le=1)
    head_scale: float = Field(10.0, gt=0)


class ProbeSettings(Section):
    """Segmentation from frozen teacher features, as a measure of progress."""

    source: str = Field(description="labeled images, as data.source of supervised training")
    sets: dict[str, float] | None = Field(None, description="names of the sets to use, and shares")
    every: int = Field(10_000, ge=1, description="steps")
    steps: int = Field(300, ge=1, description="steps of the decoder")
    batch: int = Field(8, ge=1)
    images: int = Field(40, ge=1, description="validation images at most")


class SSLConfig(Section):
    """One pre-training run."""

    name: str = Field(description="name of the backbone that is written")
    out: str = Field(description="folder of checkpoints, log, pictures and backbone")
    data: DataSettings
    model: ModelSettings = ModelSettings()
    heads: HeadSettings = HeadSettings()
    views: ViewSettings = ViewSettings()
    photometry: PhotometrySettings = PhotometrySettings()
    loss: LossSettings = LossSettings()
    teacher: TeacherSettings = TeacherSettings()
    optimizer: OptimizerSettings = OptimizerSettings()
    probe: ProbeSettings | None = None
    epochs: float = Field(100, gt=0, description="nominal epochs after the heads' stage ★")
    steps_per_epoch: int = Field(1250, ge=1)
    batch: int = Field(64, ge=1, description="tiles per step over all processes ★")
    micro_batch: int = Field(
        0, ge=0, description="tiles at once per process, gradients are summed; 0 = all"
    )
    seed: int = Field(0, ge=0)
    device: str = Field("auto", description="auto, cpu, cuda, cuda:n or mps")
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    threads: int = Field(0, ge=0, description="CPU threads; 0 = all")
    compile: bool = Field(False, description="compile the blocks")
    recompute: bool = Field(False, description="activation checkpointing: less memory, +33 % time")
    shard: Literal["auto", "always", "never"] = Field(
        "auto",
        description="several processes keep slices of each tensor, not copies; auto: of vitl8",
    )
    resume: str = Field("auto", description="auto: newest good checkpoint in out; never; or a file")
    checkpoint_every: int = Field(1000, ge=1, description="steps ★")
    keep: int = Field(2, ge=1, description="checkpoints kept")
    log_every: int = Field(20, ge=1, description="steps")
    look_every: int = Field(1000, ge=0, description="steps between pictures and health; 0 = never")
    look_fields: int = Field(8, ge=1, description="fixed fields for these")
    wandb: Literal["online", "offline", "disabled"] = "disabled"
    wandb_project: str = "napari-dinocell"

    @property
    def stage_b_steps(self) -> int:
        """Steps in which the whole network learns."""
        return max(1, round(self.epochs * self.steps_per_epoch))

    @property
    def steps(self) -> int:
        """All steps of the run."""
        return self.heads.steps + self.stage_b_steps

    @model_validator(mode="after")
    def _parts_fit(self) -> "SSLConfig":
        size = max(self.views.global_size, self.views.local_size)
        if size > 4 * self.data.tile:
            raise ValueError(f"crops of {size} px are far larger than tiles of {self.data.tile} px")
        if self.batch % self.data.tiles_per_field:
            raise ValueError(
                f"a batch of {self.batch} is no multiple of {self.data.tiles_per_field} tiles per "
                "field; change batch or data.tiles_per_field"
            )
        return self
