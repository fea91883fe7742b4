import json
import subprocess
import sys
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from napari_dinocell.core.errors import StreamError
from napari_dinocell.core.stream.manifest import Manifest
from napari_dinocell.core.stream.sources import SourceSettings
from napari_dinocell.core.stream.substitutes import Substitutes, replacement

from .plates import plane, write_plate

N = 40


@pytest.fixture
def manifest(tmp_path) -> Manifest:
    return write_plate(tmp_path / "plate", N)


@pytest.fixture
def opened():
    """Makes readers, and ends their threads."""
    made: list[Substitutes] = []

    def make(manifest: Manifest, **settings: object) -> Substitutes:
        made.append(SourceSettings(n_threads=4, **settings).open(manifest, seed=7))
        return made[-1]

    yield make
    for fields in made:
        fields.stop()


def break_field(manifest: Manifest, row: int) -> str:
    Path(manifest[row].addresses[0]).write_bytes(b"II*\0 and no more")
    return manifest[row].id


def read_in_turn(fields: Substitutes, rows: Iterable[int]) -> None:
    for row in rows:
        fields.read(row)


def test_invariant_26_a_broken_field_is_replaced_by_a_function_of_seed_and_id(manifest, opened):
    broken = break_field(manifest, 3)
    expected = manifest[replacement(7, broken, 1, N)]
    fields = opened(manifest)
    field = fields.read(3)
    assert field.record == expected
    assert fields.state() == {broken: expected.id}
    assert fields.counters["replaced"] == 1
    for row in range(N):  # no other field is touched
        if row != 3:
            assert fields.read(row).record == manifest[row]


def test_a_replacement_that_is_broken_is_replaced_by_the_next_attempt(manifest, opened):
    broken = break_field(manifest, 3)
    rows = [replacement(7, broken, attempt, N) for attempt in range(1, 6)]
    break_field(manifest, rows[0])
    expected = next(manifest[row] for row in rows if row not in (3, rows[0]))
    order_one = opened(manifest)
    assert order_one.read(3).record == expected
    other_order = opened(manifest)
    other_order.read(rows[0])  # known as broken before it is needed as a replacement
    assert other_order.read(3).record == expected


def test_replacements_are_drawn_evenly():
    rows = [replacement(0, f"field {n}", 1, 10) for n in range(5000)]
    counts = np.bincount(rows, minlength=10)
    assert counts.min() > 400
    assert replacement(0, "field 1", 1, 10**9) != replacement(1, "field 1", 1, 10**9)
    assert replacement(0, "field 1", 1, 10**9) != replacement(0, "field 1", 2, 10**9)


def test_invariant_26_a_broken_field_is_written_down_once_and_not_asked_for_again(
    manifest, opened, tmp_path
):
    broken = break_field(manifest, 3)
    quarantine = tmp_path / "run" / "broken.jsonl"
    for _ in range(2):
        fields = opened(manifest, quarantine=quarantine)
        fields.read(3)
        fields.read(3)
    lines = [json.loads(line) for line in quarantine.read_text().splitlines()]
    assert [line["field"] for line in lines] == [broken]
    assert lines[0]["kind"] == "decode"
    assert not fields.counters.errors  # the second run knew


def test_a_torn_last_line_of_the_quarantine_does_not_stop_a_run(manifest, opened, tmp_path):
    quarantine = tmp_path / "broken.jsonl"
    quarantine.write_text(json.dumps({"field": manifest[1].id}) + '\n{"field": "lab')
    broken = break_field(manifest, 3)
    fields = opened(manifest, quarantine=quarantine)
    assert fields.read(1).record != manifest[1]
    fields.read(3)
    again = opened(manifest, quarantine=quarantine)
    again.read(3)
    assert not again.counters.errors
    assert broken in quarantine.read_text()


def test_two_processes_write_one_line_for_one_field(manifest, tmp_path):
    broken = [break_field(manifest, row) for row in (3, 4)]
    manifest.write(tmp_path / "m.parquet")
    program = """
import sys
from napari_dinocell.core.stream.manifest import Manifest
from napari_dinocell.core.stream.sources import SourceSettings
fields = SourceSettings(quarantine=sys.argv[2]).open(Manifest.read(sys.argv[1]), seed=7)
for row in (3, 4):
    fields.read(row)
fields.stop()
"""
    quarantine = tmp_path / "broken.jsonl"
    command = [sys.executable, "-c", program, str(tmp_path / "m.parquet"), str(quarantine)]
    processes = [subprocess.Popen(command) for _ in range(2)]
    assert [process.wait() for process in processes] == [0, 0]
    lines = [json.loads(line)["field"] for line in quarantine.read_text().splitlines()]
    assert sorted(lines) == sorted(broken)


def test_a_resumed_run_keeps_its_replacements_although_the_field_is_well_again(manifest, opened):
    broken = break_field(manifest, 3)
    before = opened(manifest)
    before.read(3)
    write_plate(Path(manifest[0].addresses[0]).parents[1], N)
    after = opened(manifest)
    after.load_state(before.state())
    field = after.read(3)
    assert field.record.id == before.state()[broken]
    np.testing.assert_array_equal(field.channels, before.read(3).channels)
    assert after.state() == before.state()
    fresh = opened(manifest)
    np.testing.assert_array_equal(fresh.read(3).channels[0], plane(3))


def test_too_many_broken_fields_stop_the_run_with_one_sentence(manifest, opened):
    for row in range(0, N, 4):
        break_field(manifest, row)
    fields = opened(manifest, most_broken=0.1)
    read_in_turn(fields, range(16))
    with pytest.raises(StreamError, match=r"5 of the last 17 fields were broken .*decode 1\d"):
        fields.read(16)


def test_a_share_of_broken_fields_that_is_allowed_is_worked_around(manifest, opened):
    for row in range(0, N, 4):
        break_field(manifest, row)
    fields = opened(manifest, most_broken=0.5)
    records = [fields.read(row).record for row in range(N)]
    assert sum(record != manifest[row] for row, record in enumerate(records)) == N / 4
    assert fields.counters["replaced"] == N / 4


def test_the_share_is_that_of_the_latest_fields_not_of_the_whole_run(manifest, opened):
    fields = opened(manifest, memory_bytes=1 << 24, most_broken=0.2)
    for read in range(400):  # a long healthy time
        fields.read(read % 20)
    for row in range(20, N):
        break_field(manifest, row)
    read_in_turn(fields, range(20, 28))
    with pytest.raises(StreamError, match="9 of the last 40"):
        fields.read(28)


def test_a_manifest_that_is_wholly_in_quarantine_is_told(manifest, opened, tmp_path):
    quarantine = tmp_path / "broken.jsonl"
    quarantine.write_text("".join(json.dumps({"field": r.id}) + "\n" for r in manifest))
    with pytest.raises(StreamError, match="delete the file"):
        opened(manifest, quarantine=quarantine).read(0)


def test_a_wrong_address_stops_the_run_and_condemns_no_field(manifest, opened, tmp_path):
    elsewhere = Manifest(
        replace(r, addresses=tuple(f"{tmp_path}/moved{a}" for a in r.addresses)) for r in manifest
    )
    quarantine = tmp_path / "broken.jsonl"
    fields = opened(elsewhere, quarantine=quarantine)
    with pytest.raises(
        StreamError, match=r"None of the first \d+ fields .*not found .*moved.* lie"
    ):
        fields.read(0)
    assert not quarantine.exists()
    mended = opened(manifest, quarantine=quarantine)
    assert [mended.read(row).record for row in range(N)] == list(manifest)


def test_few_broken_fields_before_the_first_good_one_are_written_down_with_it(
    manifest, opened, tmp_path
):
    broken = [break_field(manifest, row) for row in range(3)]
    quarantine = tmp_path / "broken.jsonl"
    fields = opened(manifest, quarantine=quarantine)
    read_in_turn(fields, range(3))
    lines = [json.loads(line)["field"] for line in quarantine.read_text().splitlines()]
    assert sorted(lines) == sorted(broken)
