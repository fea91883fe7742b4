import json
import math

import numpy as np
import pytest
from rich.console import Console

from napari_dinocell.core.evaluation import Evaluation, ScoredImage, summarize
from napari_dinocell.core.metrics import score_image

CELLS = np.array([[1, 1, 0, 2]])
PERFECT, HALF = score_image(CELLS, CELLS), score_image(CELLS, np.where(CELLS == 1, 1, 0))
EMPTY = score_image(CELLS * 0, CELLS)


def text_of(evaluation: Evaluation) -> str:
    recorder = Console(width=100)
    with recorder.capture() as captured:
        recorder.print(evaluation.table("title"))
    return captured.get()


def test_sets_are_pooled_by_themselves_and_together() -> None:
    result = summarize(
        [
            ScoredImage("1", "a", PERFECT, 1.0),
            ScoredImage("2", "b", HALF, 2.0),
            ScoredImage("3", "a", HALF, 3.0),
        ]
    )
    assert list(result.sets) == ["a", "b"]
    assert result.sets["a"].score.seg == pytest.approx(3 / 4)
    assert result.pooled.score.seg == pytest.approx(4 / 6)
    assert (result.sets["a"].seconds_per_image, result.pooled.seconds_per_image) == (2.0, 2.0)


def test_json_holds_scores_intervals_and_images_and_no_nan() -> None:
    result = summarize([ScoredImage("1", "a", HALF), ScoredImage("2", "b", EMPTY)])
    tree = json.loads(json.dumps(result.to_json(), allow_nan=False))
    assert tree["sets"]["a"]["seg"] == 0.5
    assert tree["sets"]["b"]["seg"] is None
    assert tree["sets"]["b"]["n_spurious"] == 2
    assert tree["sets"]["a"]["intervals"]["seg"] == [None, None]
    assert len(tree["pooled"]["intervals"]["ap50"]) == 2
    assert [(image["name"], image["set"]) for image in tree["images"]] == [("1", "a"), ("2", "b")]
    assert tree["pooled"]["seconds_per_image"] is None


def test_intervals_are_the_same_for_the_same_seed_and_enclose_the_score() -> None:
    images = [ScoredImage(str(i), "a", (PERFECT, HALF)[i % 2]) for i in range(9)]
    first, same = (summarize(images, seed=1).pooled.intervals for _ in range(2))
    assert first == same
    low, high = first["seg"]
    assert 0.5 <= low < 7 / 9 < high <= 1.0


def test_table_shows_every_set_all_images_and_why_a_score_is_undefined() -> None:
    text = text_of(summarize([ScoredImage("1", "first", HALF, 1.5), ScoredImage("2", "no", EMPTY)]))
    for word in ("first", "no", "all", "SEG", "0.500", "undefined", "all spurious"):
        assert word in text


def test_table_of_one_set_has_one_column_and_its_time() -> None:
    text = text_of(summarize([ScoredImage("1", "only", PERFECT, 1.5)]))
    assert "all" not in text
    assert "1.50" in text
    assert math.isnan(summarize([]).pooled.seconds_per_image)
