"""Few-shot adaptation: a model and a few annotated cells -> a model that knows these cells."""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from napari_dinocell.core.adapt.adapted import Adapted, adapted_card
from napari_dinocell.core.adapt.crossfit import Trained, crossfit
from napari_dinocell.core.adapt.evidence import Evidence
from napari_dinocell.core.adapt.examples import Example, annotate
from napari_dinocell.core.adapt.features import N_VIEWS, cache_features, read_windows
from napari_dinocell.core.adapt.fit import Curve, Recipe, with_decoder
from napari_dinocell.core.adapt.folds import held_out
from napari_dinocell.core.adapt.report import Report, Scores, verdict_of
from napari_dinocell.core.adapt.survey import survey
from napari_dinocell.core.adapt.tuning import tune
from napari_dinocell.core.adapt.windows import units_of
from napari_dinocell.core.device import resolve_device
from napari_dinocell.core.inference import Cancel
from napari_dinocell.core.instances import warm_up
from napari_dinocell.core.model.card import ModelCard
from napari_dinocell.core.model.files import load_model
from napari_dinocell.core.model.network import DINOCell
from napari_dinocell.core.prediction import Thresholds

Part = Literal["features", "training", "tuning"]
_TUNING_SECONDS = 4.0  # a guess for the time left
_SURVEY_SECONDS = 3.0


@dataclass(frozen=True)
class Limits:
    """Bounds of an adaptation; a slow computer gets a smaller gain, not a longer wait.

    Attributes
    ----------
    feature_seconds, training_seconds : float
    cache_bytes : int
        Of all features.
    n_views : int
        Dihedral views of each window, 1 to 8; fewer when time or memory run out.
    """

    feature_seconds: float = 25.0
    training_seconds: float = 25.0
    cache_bytes: int = 1 << 30
    n_views: int = N_VIEWS

    def __post_init__(self) -> None:
        if not (self.feature_seconds > 0 and self.training_seconds > 0):
            raise ValueError("Seconds for features and training must be positive.")
        if not 1 <= self.n_views <= N_VIEWS:
            raise ValueError(f"{self.n_views} views were asked for; there are 1 to {N_VIEWS}.")


@dataclass(frozen=True)
class Progress:
    """How far an adaptation is.

    Attributes
    ----------
    part : str
        "features", "training" or "tuning".
    done : float
        Of that part, in [0, 1].
    seconds_left : float
        Of all parts, at most.
    curve : Curve or None
        Of the training that is running.
    """

    part: Part
    done: float
    seconds_left: float
    curve: Curve | None = None


Watch = Callable[[Progress], None]


def adapt(
    base: str | Path | tuple[DINOCell, ModelCard],
    examples: Sequence[Example],
    *,
    recipe: Recipe | None = None,
    limits: Limits | None = None,
    device: str = "auto",
    progress: Watch | None = None,
    cancel: Cancel | None = None,
) -> Adapted:
    """Adapt the decoder and the thresholds of a model to partially annotated images.

    Parameters
    ----------
    base : str, Path, or (DINOCell, ModelCard)
        Name or file of a model, or one that is loaded; it stays as it is.
    examples : sequence of Example
        Unlabeled is unknown. At least one labeled cell or one place marked as background.
    recipe, limits : optional
    device : str
        As `Segmenter.from_pretrained`.
    progress : callable, optional
        Gets a `Progress` now and then, on this thread.
    cancel : callable, optional
        True stops within one training step; the best so far is verified and returned.

    Returns
    -------
    Adapted
        The adapted model if it is better on held-out annotation than the base with re-tuned
        thresholds; otherwise the base with the better thresholds. With fewer than 3 cells the
        adapted model, and a report that says that nothing can be verified.

    Raises
    ------
    Cancelled
        If it was cancelled before there was anything to keep.
    ValueError
        If nothing is annotated, no annotated plane shows anything, or the limits do not suffice
        for a single annotation.
    FileNotFoundError, ModelFileError
        As `load_model`.

    Examples
    --------
    >>> adapted = adapt("vits8", [Example(plane, labels)])  # doctest: +SKIP
    >>> print(adapted.report.sentence())  # doctest: +SKIP
    >>> adapted.save("mine.safetensors")  # doctest: +SKIP
    """
    recipe, limits = recipe or Recipe(), limits or Limits()
    network, card = _loaded(base, device)
    warm_up()
    clock = Clock(limits, progress)
    evidence, notes = gather(network, card, examples, limits, clock, cancel)
    at = Thresholds(card.peak, card.fill, card.min_area, card.min_prominence)
    report = Report(card.name, at, at, notes=notes)
    report.n_cells = sum(unit.is_cell for unit in evidence.units)
    report.n_empty = len(evidence.units) - report.n_cells
    report.n_windows = len(evidence.windows)
    report.n_views = sum(len(window.views) for window in evidence.windows)
    report.n_patches = len(evidence.patches)

    parts = held_out(evidence.units, recipe.seed, evidence.home)
    clock.begin("training")
    trained = crossfit(
        network,
        evidence,
        parts,
        recipe,
        seconds=limits.training_seconds,
        cancel=cancel,
        watch=lambda curve, done: clock.advance(done, curve),
    )
    report.folds, report.final = trained.folds, trained.final
    report.is_cancelled = trained.is_cancelled
    clock.begin("tuning")
    result = decide(network, card, evidence, trained, report)
    if report.verdict != "unchanged":
        report.elsewhere = survey(
            (network, result),
            (at, report.after),
            evidence,
            card,
            seconds=_SURVEY_SECONDS,
            cancel=cancel,
        )
        if report.elsewhere.is_notable:
            report.notes.append(report.elsewhere.sentence())
    report.seconds = clock.close()
    return Adapted(result, adapted_card(network, card, report), report)


def decide(
    network: DINOCell, card: ModelCard, evidence: Evidence, trained: Trained, report: Report
) -> DINOCell:
    """Tune thresholds, compare on held-out annotation, and return the network that is kept."""
    lift, at, is_complete = card.target.lift, report.before, evidence.is_complete
    judged = evidence.judge(trained.maps)
    report.after, adapted = tune(judged, at, lift=lift, is_complete=is_complete)
    if trained.is_verified:
        by_base = evidence.judge(trained.by_base)
        report.tuned, tuned = tune(by_base, at, lift=lift, is_complete=is_complete)
        report.scores = Scores(by_base.tally(at), tuned, adapted)
        report.verdict = verdict_of(report.scores)
        if report.verdict != "better":
            report.after = report.tuned if report.verdict == "thresholds" else at
            return network
    return with_decoder(network, trained.state)


def _loaded(
    base: str | Path | tuple[DINOCell, ModelCard], device: str
) -> tuple[DINOCell, ModelCard]:
    where = resolve_device(device)
    if isinstance(base, tuple):
        return copy.deepcopy(base[0]).to(where).eval(), base[1]
    return load_model(base, device=where)


def gather(
    network: DINOCell,
    card: ModelCard,
    examples: Sequence[Example],
    limits: Limits,
    clock: Clock,
    cancel: Cancel | None,
) -> tuple[Evidence, list[str]]:
    """Read the annotation and compute features around it."""
    annotations = [annotate(example, card) for example in examples]
    units = units_of(annotations)
    if not units:
        raise ValueError(
            "Nothing is annotated; label at least one cell, mark background, or draw a region "
            "that is complete."
        )
    dark = [one.name for one in annotations if one.plane is None]
    if len(dark) == len(annotations):
        raise ValueError(f"{dark[0]} shows no contrast above its noise; annotate another image.")
    notes = [f"{name} shows no contrast above its noise and was left out." for name in dark]
    windows = cache_features(
        network,
        read_windows(annotations, units, card),
        Thresholds(card.peak, card.fill, card.min_area, card.min_prominence),
        card,
        seconds=limits.feature_seconds,
        max_bytes=limits.cache_bytes,
        n_views=limits.n_views,
        cancel=cancel,
        advance=clock.advance,
    )
    evidence = Evidence.of(annotations, windows, units)
    if not evidence.units:
        raise ValueError(
            "There was no time or memory for any annotation; raise the limits, or give the "
            "diameter so that the cells are shrunk."
        )
    reached = set(evidence.units)
    n_left = sum(
        unit not in reached and annotations[unit.annotation].plane is not None for unit in units
    )
    if n_left:
        were = "annotation was" if n_left == 1 else "annotations were"
        notes.append(f"{n_left} {were} left out: there was no time or memory for more.")
    return evidence, notes


class Clock:
    """Measures the parts and tells the caller how far they are."""

    def __init__(self, limits: Limits, watch: Watch | None) -> None:
        self._boxes: dict[Part, float] = {
            "features": limits.feature_seconds,
            "training": limits.training_seconds,
            "tuning": _TUNING_SECONDS,
        }
        self._watch = watch
        self._spent: dict[str, float] = {}
        self._part: Part = "features"
        self._begun = time.perf_counter()

    def begin(self, part: Part) -> None:
        """Go on to the next part."""
        self.close()
        self._part, self._begun = part, time.perf_counter()
        self.advance(0.0)

    def advance(self, done: float, curve: Curve | None = None) -> None:
        """Report the part that is done of what runs now."""
        if self._watch is None:
            return
        done = min(max(done, 0.0), 1.0)
        later = list(self._boxes)[list(self._boxes).index(self._part) + 1 :]
        box = self._boxes[self._part]
        spent = time.perf_counter() - self._begun
        # What took so long so far will go on as slowly, but never beyond its box.
        here = min(spent * (1 - done) / done, box) if done > 0 else box
        left = here + sum(self._boxes[part] for part in later)
        self._watch(Progress(self._part, done, left, curve))

    def close(self) -> dict[str, float]:
        """Seconds of all parts up to now."""
        self._spent[self._part] = time.perf_counter() - self._begun
        return dict(self._spent)
