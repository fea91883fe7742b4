"""Labeled images for training: what one is, and a sequence of them with a bounded cache."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, overload

import numpy as np
import numpy.typing as npt

from napari_dinocell.core.errors import ImageFileError
from napari_dinocell.core.training.decode import (
    UNKNOWN,
    LabelArray,
    LabelSource,
    NoLabels,
    load_labels,
    read_plane,
)

__all__ = [
    "UNKNOWN",
    "ByteCache",
    "LabelArray",
    "LabeledDataset",
    "LabeledImage",
    "instance_areas",
    "with_areas",
]


@dataclass(frozen=True)
class LabeledImage:
    """One image and where its labels are; nothing is decoded until it is read.

    Attributes
    ----------
    set_name : str
        Data set; sets are drawn by weight, and scores are reported per set.
    group : str
        Field, movie or specimen. Images of one group never part in a split.
    image : Path
        Image file.
    labels : Path or callable
        Label file, or a picklable callable that returns (Y, X) int32 labels.
    diameter : float
        Median of 2 * sqrt(area / pi) over the instances, px; nan where there are none.
    n_instances : int
        Number of instances.
    axes : str, optional
        Names of the axes of the image where the file doesn't tell them.
    weight : float
        How often the image is drawn against others of its set, > 0.
    """

    set_name: str
    group: str
    image: Path
    labels: LabelSource
    diameter: float = float("nan")
    n_instances: int = 0
    axes: str | None = None
    weight: float = 1.0

    def __post_init__(self) -> None:
        if not self.weight > 0:
            raise ValueError(
                f"Weight of {self.image} is {self.weight}; weights must be positive, "
                "leave the image out instead."
            )

    @property
    def is_labeled(self) -> bool:
        """Whether anybody annotated the image; else only a teacher can make use of it."""
        return not isinstance(self.labels, NoLabels)


class ByteCache:
    """Least recently used values, dropped when their sizes exceed a bound.

    Invariant: the sum of the sizes of all values but the newest is at most `max_bytes`.
    """

    def __init__(self, max_bytes: int) -> None:
        self.max_bytes = max_bytes
        self._values: OrderedDict[Any, tuple[Any, int]] = OrderedDict()
        self._n_bytes = 0
        self._lock = threading.Lock()

    @property
    def n_bytes(self) -> int:
        """Sum of the sizes of the values held, bytes."""
        return self._n_bytes

    def get(self, key: Any, build: Callable[[], tuple[Any, int]]) -> Any:
        """Return the value of `key`; `build` gives (value, size in bytes) where it is absent."""
        with self._lock:
            if key in self._values:
                self._values.move_to_end(key)
                return self._values[key][0]
        value, size = build()
        with self._lock:
            if key not in self._values:
                self._values[key] = (value, size)
                self._n_bytes += size
            while self._n_bytes > self.max_bytes and len(self._values) > 1:
                _, (_, dropped) = self._values.popitem(last=False)
                self._n_bytes -= dropped
        return value

    # Workers start with an empty cache: neither the lock nor the pixels should be pickled.
    def __getstate__(self) -> dict[str, Any]:
        return {"max_bytes": self.max_bytes}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(state["max_bytes"])  # type: ignore[misc]


class LabeledDataset(Sequence[LabeledImage]):
    """A fixed sequence of labeled images and the probabilities with which they are drawn.

    Invariant: `probabilities` sums to 1; a set's share is its weight over the sum of the weights
    of all sets, and within a set images count as weight * sqrt(number of instances), so that rich
    images are seen more often, but not in proportion.

    Parameters
    ----------
    images : iterable of LabeledImage
        At least one.
    set_weights : mapping of str to float, optional
        Relative weight of each set, >= 0. A set without one gets sqrt(number of its images): no
        modality drowns, and none of a handful of images is repeated all the time.
    cache_bytes : int
        Bound on the decoded images that `cache` keeps.

    Raises
    ------
    ValueError
        No images, a weight for a set that is not there, or no positive weight.
    """

    def __init__(
        self,
        images: Iterable[LabeledImage],
        set_weights: Mapping[str, float] | None = None,
        cache_bytes: int = 1 << 30,
    ) -> None:
        self.images = tuple(images)
        if not self.images:
            raise ValueError("The data set has no labeled images; check its path and split.")
        self.cache = ByteCache(cache_bytes)
        self.set_names = tuple(sorted({image.set_name for image in self.images}))
        given = dict(set_weights or {})
        unknown = sorted(set(given) - set(self.set_names))
        if unknown:
            raise ValueError(
                f"Weights name {', '.join(unknown)}, but the sets are "
                f"{', '.join(self.set_names)}; correct the names."
            )
        counts = {s: sum(i.set_name == s for i in self.images) for s in self.set_names}
        self.set_weights = {s: float(given.get(s, counts[s] ** 0.5)) for s in self.set_names}
        if min(self.set_weights.values()) < 0 or sum(self.set_weights.values()) <= 0:
            raise ValueError(
                f"Set weights are {self.set_weights}; give none below 0 and at least one above."
            )
        self.probabilities = self._probabilities()

    def _probabilities(self) -> npt.NDArray[np.float64]:
        chances = np.array([i.weight * max(i.n_instances, 1) ** 0.5 for i in self.images])
        names = np.array([i.set_name for i in self.images])
        total = sum(self.set_weights.values())
        for name, weight in self.set_weights.items():
            inside = names == name
            chances[inside] *= weight / total / chances[inside].sum()
        return chances

    def __len__(self) -> int:
        return len(self.images)

    @overload
    def __getitem__(self, index: int) -> LabeledImage: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[LabeledImage]: ...
    def __getitem__(self, index: int | slice) -> LabeledImage | Sequence[LabeledImage]:
        return self.images[index]

    def __iter__(self) -> Iterator[LabeledImage]:
        return iter(self.images)

    def subset(self, indices: Iterable[int]) -> LabeledDataset:
        """Return the data set of the images at `indices`, with the same weights of sets."""
        images = [self.images[i] for i in indices]
        present = {image.set_name for image in images}
        weights = {s: w for s, w in self.set_weights.items() if s in present}
        return LabeledDataset(images, weights, self.cache.max_bytes)

    def read(self, index: int) -> tuple[npt.NDArray[Any], LabelArray]:
        """Decode one image and its labels.

        Returns
        -------
        plane : (Y, X) or (Y, X, 3) array
            Raw values in the dtype of the file.
        labels : (Y, X) int32 array
            0 is background, `UNKNOWN` (-1) was not annotated.

        Raises
        ------
        ImageFileError
            A file can't be read, or the shapes of image and labels differ.
        """
        item = self.images[index]
        plane = read_plane(item.image, item.axes)
        labels = load_labels(item.labels)
        if plane.shape[:2] != labels.shape:
            raise ImageFileError(
                f"{item.image} is {plane.shape[0]} x {plane.shape[1]} px, but its labels are "
                f"{labels.shape[0]} x {labels.shape[1]}; image and labels must have one size."
            )
        return plane, labels


def with_areas(item: LabeledImage, areas: npt.ArrayLike) -> LabeledImage:
    """Return `item` with the number and the median diameter of instances of these areas, px."""
    diameters = 2 * np.sqrt(np.asarray(areas, dtype=np.float64) / np.pi)
    diameter = float(np.median(diameters)) if diameters.size else float("nan")
    return replace(item, diameter=diameter, n_instances=int(diameters.size))


def instance_areas(labels: LabelArray) -> npt.NDArray[np.intp]:
    """Return the areas of the instances of (Y, X) labels, px."""
    return np.unique(labels[labels > 0], return_counts=True)[1]
