import itertools
import os
import signal
import socket
import threading
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from napari_dinocell.core.errors import StreamError
from napari_dinocell.core.stream.manifest import Manifest
from napari_dinocell.core.stream.messages import receive, send
from napari_dinocell.core.stream.order import Order
from napari_dinocell.core.stream.processes import ProcessStream, open_stream, split_slots
from napari_dinocell.core.stream.samples import Sample, TileSettings
from napari_dinocell.core.stream.sources import SourceSettings
from napari_dinocell.core.stream.stream import FieldStream

from .plates import write_plate

N, SIDE = 32, 24


@pytest.fixture
def manifest(tmp_path) -> Manifest:
    return write_plate(tmp_path / "plate", N)


def opened(manifest: Manifest, n_processes: int, transform=None) -> FieldStream | ProcessStream:
    order = Order(manifest.shard_sizes(8), seed=5, batch=16, tiles_per_field=4, window=2)
    return open_stream(
        order,
        manifest,
        SourceSettings(n_threads=4),
        n_processes=n_processes,
        tiles=TileSettings(side=SIDE),
        transform=transform,
    )


def take(stream: FieldStream | ProcessStream, n: int) -> list[Sample]:
    return [sample for samples in itertools.islice(stream, n) for sample in samples]


def assert_same(one: list[Sample], other: list[Sample]) -> None:
    assert [(s.number, s.id) for s in one] == [(s.number, s.id) for s in other]
    for a, b in zip(one, other, strict=True):
        np.testing.assert_array_equal(a.tile, b.tile)


def test_invariant_24_processes_give_the_samples_states_and_counts_of_threads(manifest):
    """Also with a broken field, and one goes on where the other was stopped."""
    Path(manifest[3].addresses[0]).write_bytes(b"")
    with opened(manifest, 0) as stream:
        whole = take(stream, 8)
        early = stream.state_dict() | {"step": 3}
        replaced = stream.state_dict()["replaced"]
        unread = stream.counters.snapshot()
    assert list(replaced) == [manifest[3].id]
    with opened(manifest, 3) as stream:
        assert_same(take(stream, 8), whole)
        state = stream.state_dict()
        assert state == early | {"step": 8}
        assert stream.counters["replaced"] == unread["replaced"]
        # How many readers meet the broken field before one of them replaces it is left to chance.
        assert min(stream.counters["errors/decode"], unread["errors/decode"]) >= 1
        assert stream.counters["seconds_waited"] > 0
    with opened(manifest, 2) as stream:
        stream.load_state_dict(early)
        assert_same(take(stream, 5), whole[3 * 16 :])
    with opened(manifest, 0) as stream:
        stream.load_state_dict(state)
        ninth = take(stream, 1)
    assert [s.number for s in ninth] == list(range(128, 144))


def test_a_killed_process_ends_the_run_with_one_sentence_and_leaves_none(manifest):
    stream = opened(manifest, 2)
    take(stream, 1)
    processes = [child._process for child in stream._children]
    os.kill(processes[1].pid, signal.SIGKILL)
    with pytest.raises(StreamError, match=r"exit code -9\); the run stops here"):
        take(stream, 100)
    assert not any(process.is_alive() for process in processes)
    with pytest.raises(StreamError, match="closed"):
        next(stream)


class Unpicklable(Exception):
    def __init__(self, one: int, other: int) -> None:
        super().__init__(f"{one} and {other}")


def number_of(sample: Sample) -> tuple[int, int]:
    return sample.number, os.getpid()


def refuse(sample: Sample) -> None:
    raise Unpicklable(sample.number, 2)


def test_a_transform_runs_in_the_child_and_its_error_reaches_the_loop(manifest):
    with opened(manifest, 1, number_of) as stream:
        numbers, processes = zip(*next(stream), strict=True)
    assert numbers == tuple(range(16))
    assert os.getpid() not in processes
    with (
        opened(manifest, 1, refuse) as stream,
        pytest.raises(StreamError, match="Unpicklable: 0 and 2"),
    ):
        next(stream)


def test_a_checkpoint_that_does_not_fit_is_refused_before_a_process_starts(manifest):
    stream = opened(manifest, 2)
    state = stream.state_dict()
    with pytest.raises(ValueError, match="other fields"):
        stream.load_state_dict(state | {"manifest": "x"})
    assert not stream._children
    with pytest.raises(ValueError, match="at least one"):
        ProcessStream(stream._order, manifest, SourceSettings(), n_processes=0)


@given(st.integers(0, 9), st.integers(1, 12), st.integers(1, 5), st.integers(1, 6))
def test_parts_of_slots_are_consecutive_even_and_part_no_field(start, n_fields, n_tiles, n):
    slots = range(start * n_tiles, (start + n_fields) * n_tiles)
    parts = split_slots(slots, n, n_tiles)
    assert [slot for part in parts for slot in part] == list(slots)
    assert all(len(part) % n_tiles == 0 for part in parts)
    sizes = [len(part) // n_tiles for part in parts]
    assert len(parts) == min(n, n_fields)
    assert max(sizes) - min(sizes) <= 1


def test_values_and_arrays_come_over_a_socket_as_they_were():
    here, there = socket.socketpair()
    value = {
        "arrays": [np.arange(3_000_000, dtype=np.uint16).reshape(3, -1), np.zeros((0, 4))],
        "x": "é",
    }
    thread = threading.Thread(target=send, args=(there, value))
    thread.start()
    received = receive(here)
    thread.join()
    assert received["x"] == "é"
    for one, other in zip(received["arrays"], value["arrays"], strict=True):
        np.testing.assert_array_equal(one, other)
        assert one.flags.writeable
    there.sendall(b"\1\0\0")  # and dies in the middle
    there.close()
    assert receive(here) is None
    here.close()
