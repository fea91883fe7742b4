"""What the cells of a layer were found on: all that an adaptation needs to see them again."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from napari_dinocell.widgets.parts import LayerPart

if TYPE_CHECKING:
    from napari_dinocell.core.intensity import IntensityRange
    from napari_dinocell.widgets.engine import Result

__all__ = ["Origin"]


@dataclass(frozen=True, eq=False)
class Origin:
    """Pixels below a layer of corrections, kept though the image layer is renamed or removed.

    Attributes
    ----------
    part : LayerPart
        Its labels have the grid of the corrections.
    channel : int or None
    scale : float or None
        Pixels of the network per pixel of the part.
    ranges : tuple of IntensityRange, or None
        Normalization of each plane.
    """

    part: LayerPart
    channel: int | None = None
    scale: float | None = None
    ranges: tuple[IntensityRange, ...] | None = None

    @classmethod
    def of(cls, result: Result) -> Origin:
        """Of the cells of a run."""
        prediction = result.prediction
        channel = result.provenance["channel"]
        return cls(result.part, channel, prediction.scale, prediction.ranges)

    def is_same_grid(self, part: LayerPart) -> bool:
        """Whether corrections of this are corrections of a part, too, pixel by pixel."""
        mine = self.part
        return (mine.layer_id, mine.axes, mine.window, mine.level) == (
            part.layer_id,
            part.axes,
            part.window,
            part.level,
        )
