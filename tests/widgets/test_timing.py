"""What a run will take."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

pytest.importorskip("platformdirs")

from napari_dinocell.core.tiles import TileGrid
from napari_dinocell.widgets import timing


@given(st.integers(1, 3000), st.integers(1, 3000))
def test_the_number_of_tiles_is_that_of_the_grid(height, width):
    assert timing.count_tiles((height, width), 1.0, 256, 64) == len(TileGrid(height, width))


def test_a_pace_is_kept_for_the_next_session_per_model_and_device():
    assert timing.recall("small", "cpu") is None
    timing.remember("small", "cpu", 0.5)
    timing.remember("vits8", "cpu", 2.0)
    timing.remember("small", "cuda:0", 0.01)
    timing.remember("small", "cpu", 0.4)
    assert timing.recall("small", "cpu") == 0.4
    assert timing.recall("vits8", "cpu") == 2.0
    assert timing.recall("vits8", "mps") is None


@pytest.mark.parametrize("content", ["", "[]", "{", json.dumps({"a": "b"})])
def test_a_damaged_file_of_paces_is_replaced(content):
    timing.remember("small", "cpu", 0.5)
    timing._path().write_text(content)
    assert timing.recall("small", "cpu") is None
    timing.remember("small", "cpu", 0.25)
    assert timing.recall("small", "cpu") == 0.25


def test_a_folder_that_cannot_be_written_costs_only_the_estimate(tmp_path, monkeypatch):
    blocker = tmp_path / "file"
    blocker.write_text("")
    monkeypatch.setenv("XDG_STATE_HOME", str(blocker))
    timing.remember("small", "cpu", 0.5)
    assert timing.recall("small", "cpu") is None


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.2, "less than 1 s"), (8.2, "8 s"), (150, "2 min"), (5400, "1.5 h")],
)
def test_durations_read_as_people_say_them(seconds, text):
    assert timing.time_text(seconds) == text
