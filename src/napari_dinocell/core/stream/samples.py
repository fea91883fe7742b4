"""What a run is handed: one tile of a field, normalized."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .records import ChannelKind, FieldRecord


@dataclass(frozen=True)
class Sample:
    """One tile of a field.

    Attributes
    ----------
    number : int
        In the run: step * batch + slot. Keys the sample's randomness.
    record : FieldRecord
        The field that was read: where one was replaced, the other one.
    tile : (C, S, S) float32 array
        Channels normalized by the percentiles of the whole field (`intensity.normalize`): from the
        16 bits as stored, never through 8. C may differ between samples.
    available : (C,) bool array
        False for channels without contrast, whose plane is 0; at least one is True.
    """

    number: int
    record: FieldRecord
    tile: NDArray[np.float32]
    available: NDArray[np.bool_]

    @property
    def id(self) -> str:
        """Source, batch, plate, well and site of the field."""
        return self.record.id

    @property
    def channels(self) -> tuple[str, ...]:
        """Names of the C channels."""
        return self.record.channels

    @property
    def kinds(self) -> tuple[ChannelKind, ...]:
        """For each channel ``fluorescence`` or ``brightfield``, by its name."""
        return self.record.kinds


@dataclass(frozen=True)
class TileSettings:
    """Size of tiles.

    Attributes
    ----------
    side : int
        Px of a tile as it is handed out.
    pixel_size_um : float or None
        Fields of known pixel size are resampled to this one. None leaves all as they are.
    """

    side: int = 320
    pixel_size_um: float | None = None

    def side_in(self, record: FieldRecord) -> int:
        """Px of a tile in the field's own pixels."""
        if self.pixel_size_um is None or record.pixel_size_um is None:
            return self.side
        return max(1, round(self.side * self.pixel_size_um / record.pixel_size_um))
