"""Where a layer lies in the world: the one place that copies spatial metadata between layers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from napari_dinocell.core.units import um_per_unit

__all__ = ["Placement"]

Matrix = npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Placement:
    """Spatial metadata of a layer, kept also when the layer is deleted.

    Attributes
    ----------
    scale, translate : (n,) arrays
        Of the n dimensions of the layer; color samples are none.
    rotate : (n, n) array
    shear : (n * (n - 1) / 2,) or (n, n) array
    affine : (n + 1, n + 1) array
        What napari applies after the others.
    units, axis_labels : tuples of n
    """

    scale: Matrix
    translate: Matrix
    rotate: Matrix
    shear: Matrix
    affine: Matrix
    units: tuple[Any, ...]
    axis_labels: tuple[str, ...]

    @classmethod
    def of(cls, layer: Any) -> Placement:
        """Placement of a napari layer."""
        return cls(
            scale=np.array(layer.scale, float),
            translate=np.array(layer.translate, float),
            rotate=np.array(layer.rotate, float),
            shear=np.array(layer.shear, float),
            affine=np.array(layer.affine.affine_matrix, float),
            units=tuple(layer.units),
            axis_labels=tuple(layer.axis_labels),
        )

    @property
    def ndim(self) -> int:
        """Number of dimensions."""
        return len(self.scale)

    def is_same(self, other: Placement) -> bool:
        """Whether pixels of equal index lie at the same point of the world; names don't matter."""
        return (
            self.ndim == other.ndim
            and [str(unit) for unit in self.units] == [str(unit) for unit in other.units]
            and all(
                np.allclose(mine, its)
                for mine, its in (
                    (self.scale, other.scale),
                    (self.translate, other.translate),
                    (self.rotate, other.rotate),
                    (shear_matrix(self.shear, self.ndim), shear_matrix(other.shear, self.ndim)),
                    (self.affine, other.affine),
                )
            )
        )

    def options(self) -> dict[str, Any]:
        """Keyword arguments that put a new layer at the same place."""
        return {
            "scale": self.scale,
            "translate": self.translate,
            "rotate": self.rotate,
            "shear": self.shear,
            "affine": self.affine,
            "units": self.units,
            "axis_labels": self.axis_labels,
        }

    def keep(self, dimensions: Sequence[int]) -> Placement:
        """Placement of what is left when all but some dimensions are dropped.

        Raises
        ------
        ValueError
            If a dropped dimension is rotated or sheared into one that stays.
        """
        kept = list(dimensions)
        if len(kept) == self.ndim:
            return self
        dropped = [i for i in range(self.ndim) if i not in kept]
        shear = shear_matrix(self.shear, self.ndim)
        for matrix in (self.rotate, shear, self.affine[:-1, :-1]):
            if np.any(matrix[np.ix_(kept, dropped)]) or np.any(matrix[np.ix_(dropped, kept)]):
                raise ValueError(
                    "An axis that the result does not have is rotated or sheared into space; "
                    "split the layer along that axis first."
                )
        rows = [*kept, self.ndim]
        return Placement(
            scale=self.scale[kept],
            translate=self.translate[kept],
            rotate=self.rotate[np.ix_(kept, kept)],
            shear=shear[np.ix_(kept, kept)],
            affine=self.affine[np.ix_(rows, rows)],
            units=tuple(self.units[i] for i in kept),
            axis_labels=tuple(self.axis_labels[i] for i in kept),
        )

    def part(self, offset: Sequence[float], factor: Sequence[float] | None = None) -> Placement:
        """Placement of a part of the data, or of a coarser version of it.

        Parameters
        ----------
        offset : sequence of n floats
            Index of the part's first pixel.
        factor : sequence of n floats, optional
            Pixels of this layer per pixel of the part. Pixel centers are moved so that the edges
            of both images meet.
        """
        steps = np.ones(self.ndim) if factor is None else np.asarray(factor, float)
        first = np.asarray(offset, float) + (steps - 1) / 2
        linear = self.rotate @ shear_matrix(self.shear, self.ndim) @ np.diag(self.scale)
        return replace(self, scale=self.scale * steps, translate=self.translate + linear @ first)

    def pixel_size_um(self, y: int, x: int) -> tuple[float, float] | None:
        """Height and width of a pixel in µm, if the units of both dimensions are lengths.

        Parameters
        ----------
        y, x : int
            Dimensions.
        """
        height, width = self.step_um(y), self.step_um(x)
        return None if height is None or width is None else (height, width)

    def step_um(self, dimension: int) -> float | None:
        """Distance of neighboring pixels along a dimension in µm, if its unit is a length."""
        per_unit = um_per_unit(str(self.units[dimension]))
        return None if per_unit is None else abs(float(self.scale[dimension])) * per_unit

    def is_stretched(self, y: int, x: int) -> bool:
        """Whether shear or affine make areas others than `pixel_size_um` tells.

        Parameters
        ----------
        y, x : int
            Dimensions.
        """
        linear = self.affine[:-1, :-1] @ self.rotate @ shear_matrix(self.shear, self.ndim)
        columns = linear[:, [y, x]]
        return not np.allclose(columns.T @ columns, np.eye(2), atol=1e-6)


def shear_matrix(shear: Matrix, ndim: int) -> Matrix:
    """Shear as (n, n) matrix; napari gives the values above the diagonal where these are all."""
    if shear.ndim == 2:
        return shear
    matrix = np.eye(ndim)
    matrix[np.triu_indices(ndim, 1)] = shear
    return matrix
