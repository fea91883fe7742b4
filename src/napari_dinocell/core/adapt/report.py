"""What an adaptation did, in numbers for a file and in sentences for a person."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from napari_dinocell.core.adapt.fit import Curve
from napari_dinocell.core.adapt.folds import LEAST_CELLS
from napari_dinocell.core.adapt.score import Tally, is_better, is_higher
from napari_dinocell.core.adapt.survey import Elsewhere
from napari_dinocell.core.exports import to_json
from napari_dinocell.core.prediction import Thresholds

Verdict = Literal["better", "thresholds", "unchanged", "unverified"]


@dataclass(frozen=True)
class Scores:
    """Tallies on held-out annotation; those of `tuned` and `adapted` at re-tuned thresholds."""

    base: Tally
    tuned: Tally
    adapted: Tally


def verdict_of(scores: Scores | None) -> Verdict:
    """What is kept: of what beats the base by more than chance, the best.

    The adapted decoder has to beat the base with re-tuned thresholds, too: that is the smaller
    change.
    """
    if scores is None:
        return "unverified"
    if is_better(scores.adapted, scores.base) and is_higher(scores.adapted, scores.tuned):
        return "better"
    return "thresholds" if is_better(scores.tuned, scores.base) else "unchanged"


@dataclass
class Report:
    """What went in, what came out, and what it took.

    Attributes
    ----------
    base : str
        Name of the model that was adapted.
    verdict : str
        "better": the decoder is adapted. "thresholds": only the thresholds changed. "unchanged":
        nothing did. "unverified": the decoder is adapted, but whether it helps is not known.
    n_cells, n_empty : int
        Annotated cells and empty places in use.
    before, after : Thresholds
        Of the base, and of the result.
    tuned : Thresholds or None
        Best of the base; None where nothing was held out.
    scores : Scores or None
        None where nothing was held out.
    folds : list of Curve
        Trainings with held-out annotation.
    final : Curve or None
        Training on everything.
    elsewhere : Elsewhere or None
        Cells found where nothing is annotated; None where nothing changed.
    n_views, n_windows : int
        Feature windows, and their dihedral views in all.
    n_patches : int
    is_cancelled : bool
    seconds : dict
        By part: features, training, tuning.
    notes : list of str
        Sentences for the user.
    """

    base: str
    before: Thresholds
    after: Thresholds
    tuned: Thresholds | None = None
    verdict: Verdict = "unverified"
    n_cells: int = 0
    n_empty: int = 0
    scores: Scores | None = None
    folds: list[Curve] = field(default_factory=list)
    final: Curve | None = None
    elsewhere: Elsewhere | None = None
    n_views: int = 0
    n_windows: int = 0
    n_patches: int = 0
    is_cancelled: bool = False
    seconds: dict[str, float] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    def sentence(self) -> str:
        """What happened, for the user."""
        if self.scores is None:
            cells = f"{self.n_cells} cell{'s' * (self.n_cells != 1)}"
            return (
                f"Whether the model is better can't be verified with {cells} in use; "
                f"annotate at least {LEAST_CELLS}, or look at the result and decide."
            )
        base, tuned, adapted = (
            f"{tally.score:.3f}"
            for tally in (self.scores.base, self.scores.tuned, self.scores.adapted)
        )
        cells = f"On {self.scores.base.n_cells} held-out cells"
        return {
            "better": f"{cells} the score rises from {base} to {adapted}, with other thresholds "
            f"alone to {tuned}: the adapted model is kept.",
            "thresholds": f"{cells} other thresholds raise the score from {base} to {tuned}, "
            f"training does not improve on that ({adapted}): only the thresholds changed.",
            "unchanged": f"{cells} neither training ({adapted}) nor other thresholds ({tuned}) "
            f"improve on the score of the base ({base}) beyond chance: nothing was changed.",
            "unverified": "",
        }[self.verdict]

    def to_json(self) -> dict[str, Any]:
        """Plain dict for `json.dumps`."""
        plain = asdict(self)
        if self.scores is not None:
            for name in ("base", "tuned", "adapted"):
                plain["scores"][name]["score"] = getattr(self.scores, name).score
        plain["sentence"] = self.sentence()
        numbers: dict[str, Any] = to_json(plain)
        return numbers
