"""Whether the viewer tests can run here."""

import pytest


def test_the_viewer_tests_can_run_here(why_not):
    if why_not:
        pytest.skip(why_not)
