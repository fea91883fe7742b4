"""The invariants of the algorithm, 1 to 28, are tests that bear their number."""

import re
from pathlib import Path

TESTS = Path(__file__).parents[1]


def test_every_invariant_has_a_test_named_after_it():
    code = "".join(path.read_text(encoding="utf-8") for path in TESTS.rglob("test_*.py"))
    named = {int(number) for number in re.findall(r"def test_invariant_(\d+)_", code)}
    assert named == set(range(1, 29))
