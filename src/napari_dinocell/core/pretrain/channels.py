"""What a view of a field shows: its channels, grouped, and their renderings as network input.

A field of a plate has fluorescence channels, which differ by stain, and perhaps brightfield planes,
which differ by focus alone and have the opposite polarity; an aerial image has channels that belong
together (red, green, blue) beside others (infrared, elevation). A *rendering* is the linear map
from the channels to what the network sees; being linear, it can be applied before or after
cropping.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class ChannelGroup:
    """Channels that are treated alike.

    Attributes
    ----------
    channels : tuple of int
        Indices into the field's C axis.
    kind : str
        ``fluorescence``: each channel is a view of its own and enters the average. ``brightfield``:
        near copies of one view; one of them is taken per sample, never averaged. ``joint``: all
        channels together are one view (three of them as color, else their average), which enters
        the average as one.
    """

    channels: tuple[int, ...]
    kind: Literal["fluorescence", "brightfield", "joint"] = "fluorescence"


@dataclass(frozen=True)
class Rendering:
    """Linear map from the C channels of a field to 1 (gray) or 3 (color) planes.

    Two renderings are equal if they show the same, whatever their names.

    Attributes
    ----------
    weights : tuple of rows of C floats
        Each row sums to 1.
    name : str
        For people.
    """

    weights: tuple[tuple[float, ...], ...]
    name: str = field(default="", compare=False)

    @property
    def n_planes(self) -> int:
        """1 for gray, 3 for color."""
        return len(self.weights)

    def apply(self, channels: NDArray[Any]) -> NDArray[Any]:
        """Planes (P, Y, X) of a field (C, Y, X)."""
        return np.tensordot(np.asarray(self.weights, np.float32), channels, axes=1)


def _average(parts: Sequence[Rendering], name: str) -> Rendering:
    """Gray average in which each part counts the same."""
    grays = [np.mean(part.weights, axis=0) for part in parts]
    return Rendering((tuple(float(w) for w in np.mean(grays, axis=0)),), name)


class FieldViews:
    """The renderings that one sample of a field offers.

    Attributes
    ----------
    parts : tuple of Rendering
        Fluorescence channels and joint groups: the views that enter the average. Empty channels are
        left out.
    brightfield : Rendering or None
        The one brightfield plane of this sample.
    mean : Rendering
        Average of the parts; of a field without any, its brightfield plane.

    Parameters
    ----------
    rng : numpy Generator
        Chooses the brightfield plane.
    available : (C,) bool array
        False for channels that show nothing or that the field lacks.
    groups : sequence of ChannelGroup, optional
        By default all channels are fluorescence. Channels in no group are not used.
    brightfield_share : float
        Probability that a draw of a single view takes brightfield, where there is one. A field that
        has nothing else shows it always.

    Raises
    ------
    ValueError
        If a group names a channel that does not exist or is in two groups, or nothing is left to
        show.
    """

    def __init__(
        self,
        rng: np.random.Generator,
        available: Sequence[bool] | NDArray[np.bool_],
        groups: Sequence[ChannelGroup] | None = None,
        *,
        brightfield_share: float = 0.0,
    ) -> None:
        n_channels = len(available)
        if groups is None:
            groups = (ChannelGroup(tuple(range(n_channels))),)
        _check(groups, n_channels)
        self.brightfield_share = brightfield_share
        parts: list[Rendering] = []
        brightfield: list[Rendering] = []
        for group in groups:
            there = [c for c in group.channels if available[c]]
            singles = [Rendering((_one_hot(c, n_channels),), f"channel {c}") for c in there]
            if group.kind == "fluorescence":
                parts += singles
            elif group.kind == "brightfield":
                brightfield += singles
            elif there:
                parts.append(_joint(singles))
        self.parts = tuple(parts)
        self.brightfield = brightfield[rng.integers(len(brightfield))] if brightfield else None
        if self.parts:
            self.mean = _average(self.parts, "mean")
        elif self.brightfield is not None:
            self.mean = self.brightfield
        else:
            raise ValueError(
                f"None of the {n_channels} channels of this field shows anything; take another."
            )

    def single(self, rng: np.random.Generator, *, besides: Rendering | None = None) -> Rendering:
        """One view drawn evenly from the parts, or brightfield with its own probability.

        Parameters
        ----------
        besides : Rendering, optional
            Not this one, if there is another.
        """
        parts = [part for part in self.parts if part != besides]
        brightfield = self.brightfield if self.brightfield != besides else None
        if brightfield is not None and (not self.parts or rng.random() < self.brightfield_share):
            return brightfield
        choice = parts or self.parts or (self.mean,)
        return choice[rng.integers(len(choice))]

    def singles(self, rng: np.random.Generator, n: int) -> list[Rendering]:
        """`n` views, all different while there are enough."""
        drawn: list[Rendering] = []
        while len(drawn) < n:
            shuffled = [self.parts[i] for i in rng.permutation(len(self.parts))]
            drawn += shuffled or [self.mean]
        drawn = drawn[:n]
        if self.brightfield is not None and self.parts and rng.random() < self.brightfield_share:
            drawn[rng.integers(n)] = self.brightfield
        return drawn

    def other(self, rng: np.random.Generator, rendering: Rendering) -> Rendering | None:
        """Another rendering of the same crop, for cross-channel targets.

        The average is answered by a single view; a single view by the average or another single
        one, evenly. None if the field has but one view.
        """
        if rendering == self.mean or rng.random() < 0.5:
            answer = self.single(rng, besides=rendering)
        else:
            answer = self.mean
        if answer != rendering:
            return answer
        others = [r for r in (self.mean, *self.parts) if r != rendering]
        return others[rng.integers(len(others))] if others else None


def _one_hot(channel: int, n_channels: int) -> tuple[float, ...]:
    return tuple(float(c == channel) for c in range(n_channels))


def _joint(singles: Sequence[Rendering]) -> Rendering:
    name = "joint " + ", ".join(s.name.removeprefix("channel ") for s in singles)
    if len(singles) == 3:
        return Rendering(tuple(s.weights[0] for s in singles), name)
    return _average(singles, name)


def _check(groups: Sequence[ChannelGroup], n_channels: int) -> None:
    named = [c for group in groups for c in group.channels]
    outside = [c for c in named if not 0 <= c < n_channels]
    if outside:
        raise ValueError(
            f"A channel group names channel {outside[0]}; the field has 0 to {n_channels - 1}."
        )
    if len(set(named)) < len(named):
        raise ValueError(f"Channel groups {named} name a channel twice; each belongs to one group.")
