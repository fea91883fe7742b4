"""One field of a manifest: where it is from, what its channels are, where they lie."""

import re
from dataclasses import dataclass
from typing import Literal

from napari_dinocell.core.storage import natural_key

_BRIGHTFIELD = re.compile(r"bright ?field|highzbf|lowzbf|\bbf\d*\b|phase|\bdpc\b|\bdic\b", re.I)
_STAINS = ("DNA", "ER", "RNA", "AGP", "Mito")
ChannelKind = Literal["fluorescence", "brightfield"]


@dataclass(frozen=True)
class FieldRecord:
    """One field: where it is from, and where its channels lie.

    Attributes
    ----------
    source, batch, plate, well, site : str
        As text always: there are plates called 000123. Empty where the data have no such level.
    channels : tuple of str
        Names, in the order in which the planes are stacked.
    addresses : tuple of str
        Paths or ``s3://`` addresses: one per channel, or fewer files with several channels each,
        in the order of the channels.
    pixel_size_um : float or None
    """

    source: str
    batch: str
    plate: str
    well: str
    site: str
    channels: tuple[str, ...]
    addresses: tuple[str, ...]
    pixel_size_um: float | None = None

    def __post_init__(self) -> None:
        if not 1 <= len(self.addresses) <= len(self.channels):
            raise ValueError(
                f"Field {self.id} has {len(self.channels)} channels and {len(self.addresses)} "
                "addresses; give one address per channel, or fewer files with several channels."
            )

    @property
    def id(self) -> str:
        """Source, batch, plate, well and site, joined by slashes."""
        return "/".join((self.source, self.batch, self.plate, self.well, self.site))

    @property
    def plate_id(self) -> str:
        """The part of `id` that fields of one plate share."""
        return "/".join((self.source, self.batch, self.plate))

    @property
    def kinds(self) -> tuple[ChannelKind, ...]:
        """For each channel what its name says it is: a stain, or transmitted light."""
        return tuple(
            "brightfield" if is_brightfield(name) else "fluorescence" for name in self.channels
        )


def is_brightfield(channel: str) -> bool:
    """Whether a channel's name says transmitted light: brightfield at any focus, phase, DIC."""
    return _BRIGHTFIELD.search(channel.replace("_", " ")) is not None


def channel_rank(name: str) -> tuple[object, ...]:
    """Sort key of channels: the five stains of Cell Painting, others, transmitted light."""
    place = _STAINS.index(name) if name in _STAINS else len(_STAINS)
    return is_brightfield(name), place, natural_key(name), name
