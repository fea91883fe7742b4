"""What can be made of a base and some annotation; used by `few_shot.py`.

An adaptation is run part by part, as `adapt` does it, because `adapt` keeps only what its gate lets
pass, and the benchmark shows what was turned down, too.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from napari_dinocell.core.adapt import Example, Limits, Recipe
from napari_dinocell.core.adapt.adaptation import Clock, decide, gather
from napari_dinocell.core.adapt.crossfit import crossfit
from napari_dinocell.core.adapt.evidence import Evidence
from napari_dinocell.core.adapt.fit import decode, with_decoder
from napari_dinocell.core.adapt.folds import held_out
from napari_dinocell.core.adapt.prototypes import fit_prototypes
from napari_dinocell.core.adapt.report import Report
from napari_dinocell.core.adapt.tuning import tune
from napari_dinocell.core.model.card import ModelCard
from napari_dinocell.core.model.network import DINOCell
from napari_dinocell.core.prediction import Thresholds

MOST_PATCHES = 50  # that the base's thresholds are tuned on

METHODS = {
    "base": "the base model as it is",
    "thresholds": "its thresholds tuned on the annotation",
    "kept": "what `adapt` keeps; the base where it keeps nothing or cannot tell",
    "adapted": "the adapted decoder, whatever the gate says of it",
    "prototypes": "similarity to the mean annotated cell",
}


@dataclass(frozen=True, eq=False)
class Candidate:
    """A network and its thresholds."""

    network: DINOCell
    at: Thresholds


@dataclass(frozen=True, eq=False)
class Outcome:
    """What came of one annotation.

    Attributes
    ----------
    candidates : dict of str to Candidate
        By the names of `METHODS`.
    report : Report
        Of the adaptation.
    """

    candidates: dict[str, Candidate]
    report: Report


def try_all(
    base: DINOCell, card: ModelCard, examples: Sequence[Example], recipe: Recipe, limits: Limits
) -> Outcome:
    """Every method on the same features of the same annotation.

    Parameters
    ----------
    base : DINOCell
    card : ModelCard
        Of the base.
    examples : sequence of Example
        With at least one labeled cell.
    recipe, limits
        Of the adaptation.
    """
    at = Thresholds(card.peak, card.fill, card.min_area, card.min_prominence)
    begun = time.perf_counter()
    evidence, notes = gather(base, card, examples, limits, Clock(limits, None), None)
    report = Report(card.name, at, at, notes=notes)
    report.n_cells = sum(unit.is_cell for unit in evidence.units)
    report.seconds["features"] = time.perf_counter() - begun
    begun = time.perf_counter()
    parts = held_out(evidence.units, recipe.seed, evidence.home)
    trained = crossfit(base, evidence, parts, recipe, seconds=limits.training_seconds)
    report.folds, report.final = trained.folds, trained.final
    report.seconds["training"] = time.perf_counter() - begun
    kept = decide(base, card, evidence, trained, report)
    if report.verdict == "unverified":
        kept, report.after = base, at
    lift, adapted_at = card.target.lift, report.after
    if report.verdict != "better":
        judged = evidence.judge(trained.maps)
        adapted_at, _ = tune(judged, at, lift=lift, is_complete=evidence.is_complete)
    return Outcome(
        {
            "base": Candidate(base, at),
            "thresholds": Candidate(base, _tuned(base, evidence, at, lift, recipe.seed)),
            "kept": Candidate(kept, report.after),
            "adapted": Candidate(with_decoder(base, trained.state), adapted_at),
            "prototypes": Candidate(
                *fit_prototypes(base, evidence, at, lift=lift, seed=recipe.seed)
            ),
        },
        report,
    )


def _tuned(
    base: DINOCell, evidence: Evidence, at: Thresholds, lift: float, seed: int
) -> Thresholds:
    """Thresholds of the base that do best on what is annotated: on some of it where it is much."""
    order = np.random.default_rng(seed).permutation(len(evidence.patches))
    looked_at = set(order[:MOST_PATCHES].tolist())
    units = frozenset(unit for unit in evidence.units if evidence.home[unit] in looked_at)
    judged = evidence.judge([(units, decode(base, evidence.patches_of(units)))])
    return tune(judged, at, lift=lift, is_complete=evidence.is_complete)[0]
