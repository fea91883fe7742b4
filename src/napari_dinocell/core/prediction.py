"""What a prediction holds: maps, and all that is needed to cut them again or to reproduce them."""

from __future__ import annotations

import platform
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from threading import Lock
from typing import Any

import numba
import numpy as np
import numpy.typing as npt
import torch

from napari_dinocell import __version__
from napari_dinocell.core.instances import Cut, ThresholdTree, flood
from napari_dinocell.core.intensity import IntensityRange
from napari_dinocell.core.mapstore import MapStore
from napari_dinocell.core.model.card import ModelCard

__all__ = ["Prediction", "Scaling", "Thresholds"]

_TREES = 4
_TREE_PIXELS = 1 << 26  # of all kept trees: about 6 bytes each


@dataclass(frozen=True)
class Thresholds:
    """Values that turn maps into labels; see `ThresholdTree.cut`.

    Attributes
    ----------
    peak, fill : float
        On the map, 0 < fill < peak < 1.
    min_area : int
        Pixels of the image.
    min_prominence : float
        In units of the map.
    """

    peak: float
    fill: float
    min_area: int
    min_prominence: float


@dataclass(frozen=True)
class Scaling:
    """How the image was resized for the network, and why.

    Attributes
    ----------
    scale : float
        Pixels of the network per pixel of the image.
    diameter : float or None
        Median diameter of cells in px of the image that this is meant for, where known.
    reason : str
        One of "none", "diameter", "pixel size", "estimate", "no cells found".
    n_cells : int
        Cells that an estimate rests on.
    """

    scale: float = 1.0
    diameter: float | None = None
    reason: str = "none"
    n_cells: int = 0


class Prediction:
    """Distance maps of all planes of an image, and the labels they give at any thresholds.

    Use it as a context manager, or call `close`, to remove temporary files at once.

    Attributes
    ----------
    maps : sequence of (Y, X) uint16 arrays
        65535 for 1; in the order of `indices`.
    axes : str
        Of the labels: those of the image without C and S.
    shape : tuple of int
        Of the labels.
    indices : tuple of dict
        Position of each plane on the T and Z axes.
    ranges : tuple of IntensityRange
        Normalization of each plane; give them to `Segmenter.predict` to treat another view or block
        of the same planes alike.
    scaling : Scaling
    model_card : ModelCard
    pixel_size_um : (float, float) or None
        Of the image, (y, x).
    notes : tuple of str
        Sentences for the user: what was ignored or could not be found.
    """

    def __init__(
        self,
        maps: MapStore,
        axes: str,
        shape: tuple[int, ...],
        indices: Sequence[Mapping[str, int]],
        ranges: Sequence[IntensityRange],
        scaling: Scaling,
        model_card: ModelCard,
        *,
        pixel_size_um: tuple[float, float] | None = None,
        notes: Sequence[str] = (),
        model_hash: Callable[[], str] = str,
        run: Mapping[str, Any] | None = None,
    ) -> None:
        self.maps = maps
        self.axes = axes
        self.shape = shape
        self.indices = tuple(dict(index) for index in indices)
        self.ranges = tuple(ranges)
        self.scaling = scaling
        self.model_card = model_card
        self.pixel_size_um = pixel_size_um
        self.notes = tuple(notes)
        self._model_hash = model_hash
        self._run = dict(run or {})
        self._trees: OrderedDict[int, ThresholdTree] = OrderedDict()
        self._lock = Lock()

    def __enter__(self) -> Prediction:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        sizes = ", ".join(f"{a} {n}" for a, n in zip(self.axes, self.shape, strict=True))
        return f"<Prediction of {self.model_card.name}: {sizes}>"

    @property
    def n_planes(self) -> int:
        """Number of planes."""
        return len(self.maps)

    @property
    def scale(self) -> float:
        """Pixels of the network per pixel of the image."""
        return self.scaling.scale

    def thresholds(
        self,
        peak: float | None = None,
        fill: float | None = None,
        min_area: int | None = None,
        min_prominence: float | None = None,
    ) -> Thresholds:
        """Given values, and the model's for the rest.

        The model's minimum area counts pixels at its own scale and is converted to the image's.
        """
        card = self.model_card
        return Thresholds(
            card.peak if peak is None else peak,
            card.fill if fill is None else fill,
            round(card.min_area / self.scale**2) if min_area is None else min_area,
            card.min_prominence if min_prominence is None else min_prominence,
        )

    def tree(self, plane: int = 0) -> ThresholdTree:
        """Tree of one plane, built when first asked for; the last few are kept."""
        plane = range(self.n_planes)[plane]
        with self._lock:
            if plane in self._trees:
                self._trees.move_to_end(plane)
                return self._trees[plane]
        tree = flood(self.maps[plane])
        with self._lock:
            self._trees[plane] = tree
            allowed = max(1, min(_TREES, _TREE_PIXELS // max(1, tree.quantized.size)))
            while len(self._trees) > allowed:
                self._trees.popitem(last=False)
        return tree

    def cut(
        self,
        plane: int = 0,
        peak: float | None = None,
        fill: float | None = None,
        *,
        min_area: int | None = None,
        min_prominence: float | None = None,
        window: tuple[slice, slice] | None = None,
    ) -> Cut:
        """Cells of one plane: labels and the table that the confidence is made of.

        Parameters
        ----------
        plane : int
            Position in `indices`.
        peak, fill, min_area, min_prominence : optional
            See `Thresholds`; what is not given comes from the model.
        window : pair of slices (y, x), optional
            Part of the plane to return labels of.

        Raises
        ------
        ValueError
            If a threshold is out of range.
        """
        chosen = asdict(self.thresholds(peak, fill, min_area, min_prominence))
        return self.tree(plane).cut(chosen.pop("peak"), chosen.pop("fill"), window=window, **chosen)

    def labels(
        self,
        peak: float | None = None,
        fill: float | None = None,
        min_area: int | None = None,
        min_prominence: float | None = None,
    ) -> npt.NDArray[np.int32]:
        """Labels of the whole image.

        Parameters
        ----------
        peak, fill, min_area, min_prominence : optional
            See `Thresholds`; what is not given comes from the model.

        Returns
        -------
        int32 array of `shape`, axes as in `axes`
            0 is background. Ids are positive, not consecutive, and count anew in each plane.

        Raises
        ------
        ValueError
            If a threshold is out of range.
        """
        labels = np.zeros(self.shape, np.int32)
        for plane, index in enumerate(self.indices):
            cells = self.cut(
                plane, peak, fill, min_area=min_area, min_prominence=min_prominence
            ).labels
            target = labels[tuple(index.get(axis, slice(None)) for axis in self.axes)]
            is_transposed = self.axes.index("X") < self.axes.index("Y")
            target[...] = cells.T if is_transposed else cells
        return labels

    def provenance(self, **thresholds: Any) -> dict[str, Any]:
        """All that is needed to reproduce the labels, as plain values for a JSON file.

        Parameters
        ----------
        **thresholds
            Those that were given to `labels` or `cut`.
        """
        card = self.model_card
        return {
            "program": {"name": "napari-dinocell", "version": __version__},
            "model": {"name": card.name, "version": card.version, "sha256": self._model_hash()},
            "thresholds": asdict(self.thresholds(**thresholds)),
            "normalization": {
                "percentiles": list(card.input.percentiles),
                "contrast_floor": card.input.contrast_floor,
                "color": card.input.color,
                "ranges": [asdict(range_) for range_ in self.ranges],
            },
            "scaling": asdict(self.scaling),
            "tiles": {"tile": card.tile, "overlap": card.overlap},
            "pixel_size_um": list(self.pixel_size_um) if self.pixel_size_um else None,
            "axes": self.axes,
            "shape": list(self.shape),
            **self._run,
            "notes": list(self.notes),
            "versions": {
                "python": platform.python_version(),
                "numpy": np.__version__,
                "torch": torch.__version__,
                "numba": numba.__version__,
            },
        }

    def close(self) -> None:
        """Let go of maps and trees and remove temporary files."""
        with self._lock:
            self._trees.clear()
        self.maps.close()
