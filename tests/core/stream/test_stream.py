import itertools
import threading
from pathlib import Path

import numpy as np
import pytest
import tifffile

from napari_dinocell.core.errors import StreamError
from napari_dinocell.core.intensity import intensity_range, normalize
from napari_dinocell.core.stream.manifest import Manifest
from napari_dinocell.core.stream.order import Order, rank_slots
from napari_dinocell.core.stream.records import FieldRecord
from napari_dinocell.core.stream.samples import Sample, TileSettings
from napari_dinocell.core.stream.sources import SourceSettings
from napari_dinocell.core.stream.stream import FieldStream, Threads, merge_states

from .plates import SIZE, plane, write_plate

SIDE = 24
N = 40


@pytest.fixture
def manifest(tmp_path) -> Manifest:
    return write_plate(tmp_path / "plate", N)


@pytest.fixture
def opened():
    """Makes streams, and closes them."""
    made: list[FieldStream] = []

    def make(manifest: Manifest, rank: int = 0, n_ranks: int = 1, **options: object) -> FieldStream:
        batch = options.pop("batch", 8)
        source = options.pop("source", SourceSettings(n_threads=4))
        order = Order(manifest.shard_sizes(8), seed=5, batch=batch, tiles_per_field=4, window=2)
        options.setdefault("tiles", TileSettings(side=SIDE))
        stream = FieldStream(
            order, source.open(manifest, 5), slots=rank_slots(batch, rank, n_ranks), **options
        )
        made.append(stream)
        return stream

    yield make
    for stream in made:
        stream.close()


def take(stream: FieldStream, n: int) -> list[list[Sample]]:
    return list(itertools.islice(stream, n))


def assert_same(one: list[list[Sample]], other: list[list[Sample]]) -> None:
    assert len(one) == len(other)
    for samples, others in zip(one, other, strict=True):
        assert [(s.number, s.id) for s in samples] == [(s.number, s.id) for s in others]
        for a, b in zip(samples, others, strict=True):
            np.testing.assert_array_equal(a.tile, b.tile)
            np.testing.assert_array_equal(a.available, b.available)


def test_a_tile_is_part_of_its_normalized_field(manifest, opened):
    for sample in take(opened(manifest), 1)[0]:
        assert sample.channels == ("DNA", "RNA")
        assert sample.kinds == ("fluorescence", "fluorescence")
        assert sample.tile.dtype == np.float32
        whole = []
        for address in sample.record.addresses:
            pixels = tifffile.imread(address)
            whole.append(normalize(pixels, intensity_range(pixels)))
        windows = np.lib.stride_tricks.sliding_window_view(np.stack(whole), (SIDE, SIDE), (1, 2))
        places = np.argwhere((windows == sample.tile[:, None, None]).all((0, 3, 4)))
        assert len(places) == 1


def test_gray_values_that_differ_by_one_stay_different(tmp_path, opened):
    """16 bits are kept: a ramp of 4096 neighboring values among 65536 has 4096 values after."""
    ramp = np.zeros((SIZE, SIZE), np.uint16) + 100
    ramp[8:40, 8:40] = 60000
    ramp[:, 48:64] = 30000 + np.arange(64 * 16).reshape(64, 16)
    rows = []
    for n in range(8):
        tifffile.imwrite(tmp_path / f"{n}.tif", ramp)
        rows.append(FieldRecord("", "", "p", "", str(n), ("x",), (str(tmp_path / f"{n}.tif"),)))
    stream = opened(Manifest(rows), tiles=TileSettings(side=SIZE))
    assert len(np.unique(take(stream, 1)[0][0].tile[0, :, 48:])) == 64 * 16


def test_samples_are_numbered_through_the_run_and_an_epoch_shows_each_field_four_times(
    manifest, opened
):
    steps = take(opened(manifest), N * 4 // 8)
    assert [s.number for samples in steps for s in samples] == list(range(N * 4))
    ids = [s.id for samples in steps for s in samples]
    assert all(ids.count(record.id) == 4 for record in manifest)
    tiles = {s.tile.tobytes() for samples in steps for s in samples}
    assert len(tiles) > 0.95 * N * 4  # four different ones


@pytest.mark.parametrize("n_ranks", [2, 4])
def test_ranks_together_get_the_samples_of_one_process(manifest, opened, n_ranks):
    one = take(opened(manifest), 30)
    parts = [take(opened(manifest, rank, n_ranks), 30) for rank in range(n_ranks)]
    joined = [[s for part in parts for s in part[step]] for step in range(30)]
    assert_same(joined, one)


@pytest.mark.parametrize(
    "threads",
    [
        Threads(n_fields=1, n_finishing=1, look_ahead_bytes=1),
        Threads(n_fields=12, n_finishing=5, look_ahead_bytes=1 << 30),
    ],
)
def test_invariant_24_threads_and_look_ahead_change_no_sample(manifest, opened, threads):
    assert_same(take(opened(manifest, threads=threads), 25), take(opened(manifest), 25))


@pytest.mark.parametrize("stop", [7, 23])
@pytest.mark.parametrize("n_ranks", [1, 2])
def test_invariant_24_a_run_that_goes_on_sees_what_it_would_have_seen(
    manifest, opened, stop, n_ranks
):
    whole = take(opened(manifest), 40)
    streams = [opened(manifest, rank, n_ranks) for rank in range(n_ranks)]
    for stream in streams:
        take(stream, stop)
    state = merge_states([stream.state_dict() for stream in streams])
    further = opened(manifest)  # also with another number of processes
    further.load_state_dict(state)
    assert_same(take(further, 40 - stop), whole[stop:])


def test_a_run_goes_on_from_a_copy_of_the_fields_at_another_place(manifest, opened, tmp_path):
    whole = take(opened(manifest), 12)
    elsewhere = write_plate(tmp_path / "copy", N)
    assert elsewhere[0].addresses != manifest[0].addresses
    stream = opened(manifest)
    take(stream, 5)
    further = opened(elsewhere)
    further.load_state_dict(stream.state_dict())
    for one, other in zip(take(further, 7), whole[5:], strict=True):
        assert [s.id for s in one] == [s.id for s in other]
        for a, b in zip(one, other, strict=True):
            np.testing.assert_array_equal(a.tile, b.tile)


def test_a_checkpoint_of_another_order_or_of_other_fields_is_refused(manifest, opened):
    state = opened(manifest).state_dict()
    with pytest.raises(ValueError, match="batch = 8, now it is 16"):
        opened(manifest, batch=16).load_state_dict(state)
    fewer = Manifest(record for record in manifest if record.well != "A01")
    with pytest.raises(ValueError, match="with other fields"):
        opened(fewer).load_state_dict(state)
    begun = opened(manifest)
    take(begun, 1)
    with pytest.raises(ValueError, match="has begun"):
        begun.load_state_dict(state)


def test_invariant_26_broken_fields_change_no_other_sample_and_stay_replaced_after_a_restart(
    manifest, opened
):
    whole = take(opened(manifest), 30)
    broken = [manifest[row].id for row in (3, 17)]
    for row in (3, 17):
        Path(manifest[row].addresses[1]).write_bytes(b"")
    stream = opened(manifest)
    hit = take(stream, 30)
    numbers = [s.number for samples in whole for s in samples if s.id in broken]
    assert 8 <= len(numbers) <= 16
    for samples, clean in zip(hit, whole, strict=True):
        for a, b in zip(samples, clean, strict=True):
            assert a.number == b.number
            assert (a.id != b.id) == (a.number in numbers)
    write_plate(Path(manifest[0].addresses[0]).parents[1], N)  # all are well again
    early = stream.state_dict() | {"step": 10}
    further = opened(manifest)
    further.load_state_dict(early)
    assert_same(take(further, 20), hit[10:])


def test_a_transform_runs_in_the_threads_and_its_result_is_handed_out(manifest, opened):
    def transform(sample: Sample) -> tuple[int, str]:
        return sample.number, threading.current_thread().name

    step = take(opened(manifest, transform=transform), 2)[1]
    assert [number for number, _ in step] == list(range(8, 16))
    assert all(name.startswith("finish") for _, name in step)


def test_an_error_in_a_transform_reaches_the_loop_and_ends_the_stream(manifest, opened):
    def transform(sample: Sample) -> None:
        raise ZeroDivisionError(str(sample.number))

    stream = opened(manifest, transform=transform)
    with pytest.raises(ZeroDivisionError):
        next(stream)
    with pytest.raises(StreamError, match="closed"):
        next(stream)


def test_fields_of_known_pixel_size_come_at_the_wanted_one(tmp_path, opened):
    """A disc of 24 µm radius has the area of one, whatever the pixels of its field."""
    rows = []
    y, x = np.mgrid[:200, :200]
    for n, size in enumerate((0.5, 0.598, 0.703, None) * 4):
        distance = np.hypot(y - 99.5, x - 99.5) * (size or 0.598)
        disc = np.where(distance < 24, 20000, 500).astype(np.uint16)
        tifffile.imwrite(tmp_path / f"{n}.tif", disc)
        address = (str(tmp_path / f"{n}.tif"),)
        rows.append(FieldRecord("", "", "p", "", str(n), ("x",), address, size))
    settings = TileSettings(side=150, pixel_size_um=0.598)
    for sample in take(opened(Manifest(rows), tiles=settings), 1)[0]:
        assert sample.tile.shape == (1, 150, 150)
        side = settings.side_in(sample.record)
        assert side * (sample.record.pixel_size_um or 0.598) == pytest.approx(150 * 0.598, rel=0.01)
        area = (sample.tile[0] > 0.5).sum() * 0.598**2
        assert area == pytest.approx(np.pi * 24**2, rel=0.04)


def test_fields_smaller_than_a_tile_are_mirrored_at_their_edge(tmp_path, opened):
    manifest = write_plate(tmp_path / "small", 8, size=20)
    sample = take(opened(manifest), 1)[0][0]
    assert sample.tile.shape == (2, SIDE, SIDE)
    np.testing.assert_array_equal(sample.tile[:, 20:], sample.tile[:, 16:20][:, ::-1])


def test_fields_with_other_numbers_of_channels_come_in_one_batch(tmp_path, opened):
    rows = []
    for n in range(16):
        stack = np.stack([plane(n, c) for c in range(1 + n % 6)])
        tifffile.imwrite(tmp_path / f"{n}.tif", stack, photometric="minisblack")
        names = tuple("abcdef"[: len(stack)])
        rows.append(FieldRecord("", "", "p", "", str(n), names, (str(tmp_path / f"{n}.tif"),)))
    for sample in take(opened(Manifest(rows)), 1)[0]:
        assert len(sample.tile) == len(sample.channels) == len(sample.available)


def test_a_field_is_fetched_once_for_all_its_tiles(manifest, opened):
    stream = opened(manifest, threads=Threads(look_ahead_bytes=1))
    take(stream, 20)
    # Two channels for each of N fields, twice for those that an epoch's end cuts in two, and what
    # the threads have begun beyond the last step; a request for every tile would be 8 * N.
    assert 2 * N <= stream.counters["requests"] <= 2 * N * 2.5
    assert stream.counters["seconds_waited"] > 0
    assert stream.counters["fields"] >= N


def test_closing_ends_all_threads_even_in_the_middle_of_a_step(manifest, opened):
    before = set(threading.enumerate())
    stream = opened(manifest)
    next(stream)
    stream.close()
    for thread in set(threading.enumerate()) - before:
        thread.join(10)
        assert not thread.is_alive()


def test_memory_stays_bounded_over_many_steps(manifest, opened):
    """After 150 steps hardly more fields are kept than after 30: nothing piles up."""
    stream = opened(manifest, rank=1, n_ranks=4)  # half of a field's tiles
    take(stream, 30)
    early = len(stream._leases)
    take(stream, 120)
    assert len(stream._leases) <= early + 2
