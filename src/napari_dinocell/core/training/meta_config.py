"""Settings of a meta-training run."""

from pydantic import Field

from napari_dinocell.core.training.augment import AugmentConfig
from napari_dinocell.core.training.config import CropSettings, DataSettings, Section

# One task shows one kind of cells: its crops differ as pieces of one field do, not in their pixels.
_GEOMETRY = AugmentConfig.off(flip=0.5, right_angle=1.0, scale=0.9, scale_range=(0.7, 1.4))


class InnerSettings(Section):
    """What is done within a task: a few steps, as an adaptation makes them."""

    steps: int = Field(8, ge=1)
    lr: float = Field(3e-4, gt=0, description="of AdamW, the rate of `adapt`")
    weight_decay: float = Field(0.01, ge=0)
    batch: int = Field(2, ge=1, description="crops per step")
    balance: float = Field(0.5, ge=0, le=1, description="as loss.balance of `train`")


class MetaConfig(Section):
    """One run of Reptile over the groups of labeled sets."""

    name: str = Field(description="name of the model that is written")
    out: str = Field(description="folder of checkpoints, log and model")
    data: DataSettings
    model: str = Field("small", description="name or file of the model that it starts from")
    crops: CropSettings = CropSettings(size=128, diameter=30.0)
    augment: AugmentConfig = _GEOMETRY
    inner: InnerSettings = InnerSettings()
    rate: float = Field(
        0.5, gt=0, le=1, description="part of the way to a task's weights; falls to 0 linearly"
    )
    steps: int = Field(400, ge=1, description="tasks")
    seed: int = Field(0, ge=0)
    device: str = Field("auto", description="auto, cpu, cuda, cuda:n or mps")
    threads: int = Field(0, ge=0, description="CPU threads; 0 = all")
    resume: str = Field("auto", description="auto: newest good checkpoint in out; never; or a file")
    checkpoint_every: int = Field(50, ge=1, description="tasks")
    keep: int = Field(2, ge=1, description="checkpoints kept")
    validate_every: int = Field(100, ge=1, description="tasks")
    validation_tasks: int = Field(12, ge=1, description="held-out tasks that are adapted to")
    log_every: int = Field(10, ge=1, description="tasks")
    licenses: dict[str, str] = Field(
        {}, description="license of each data set, for the card; those of the base are kept"
    )
