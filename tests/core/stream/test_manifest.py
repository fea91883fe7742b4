import pickle
import weakref
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from napari_dinocell.core.stream.manifest import (
    Manifest,
    is_held_out,
    read_records,
    write_records,
)
from napari_dinocell.core.stream.records import FieldRecord, is_brightfield

from .plates import record, records


def test_fields_are_ordered_by_plate_well_and_site_with_numbers_by_their_value():
    sites = [
        FieldRecord("s", "b", p, "A01", n, ("x",), ("x",)) for p in ("P10", "P9") for n in "A92"
    ]
    sites.append(FieldRecord("s", "b", "P9", "A01", "10", ("x",), ("x",)))
    ids = [r.id for r in Manifest(sites)]
    assert ids == [
        *(f"s/b/P9/A01/{n}" for n in ("2", "9", "10", "A")),
        *(f"s/b/P10/A01/{n}" for n in ("2", "9", "A")),
    ]


@given(st.permutations(range(70)))
def test_the_order_of_records_does_not_matter(numbers):
    manifest = Manifest(record(n) for n in numbers)
    assert manifest.sha256 == Manifest(records(70)).sha256
    assert list(manifest) == [manifest[row] for row in range(70)]


def test_a_manifest_comes_back_from_its_file_and_from_another_process(tmp_path):
    manifest = Manifest(records(150, "s3://bucket/folder with space/π"))
    manifest.write(tmp_path / "fields.parquet")
    for other in (Manifest.read(tmp_path / "fields.parquet"), pickle.loads(pickle.dumps(manifest))):
        assert list(other) == list(manifest)
        assert other.sha256 == manifest.sha256
        assert other.shard_sizes() == manifest.shard_sizes()


def test_names_that_differ_in_case_alone_are_different_fields(tmp_path):
    pair = [record(0, plate="p"), record(0, plate="P")]
    manifest = Manifest(pair)
    manifest.write(tmp_path / "m.parquet")
    assert list(Manifest.read(tmp_path / "m.parquet")) == list(manifest)


def test_a_field_listed_twice_is_refused_by_name():
    with pytest.raises(ValueError, match="lab/day 1/P0/A02/1 is listed twice"):
        Manifest([record(0), record(1), record(1, "elsewhere")])


def test_a_manifest_of_ordered_records_is_the_same_and_never_holds_all_of_them():
    alive = most_alive = 0

    def forget() -> None:
        nonlocal alive
        alive -= 1

    def read():
        nonlocal alive, most_alive
        for field in Manifest(records(2000)):
            copy = replace(field)
            alive += 1
            most_alive = max(most_alive, alive)
            weakref.finalize(copy, forget)
            yield copy

    assert Manifest.from_ordered(read()).sha256 == Manifest(records(2000)).sha256
    assert most_alive < 200


def test_a_file_in_another_order_is_refused(tmp_path):
    write_records(tmp_path / "m.parquet", [record(1), record(0)])
    with pytest.raises(ValueError, match="out of order"):
        Manifest.read(tmp_path / "m.parquet")


def test_the_hash_tells_other_fields_but_not_other_addresses():
    here, there = Manifest(records(20, "/disk")), Manifest(records(20, "s3://bucket"))
    assert here.sha256 == there.sha256
    assert here.sha256 != Manifest(records(21, "/disk")).sha256
    swapped = [record(n, channels=("RNA", "DNA")) for n in range(20)]
    assert here.sha256 != Manifest(swapped).sha256


def test_shards_are_at_most_64_fields_of_one_plate():
    plates = [record(n, plate="P") for n in range(16)]
    plates += [FieldRecord("s", "b", "Q", "A01", str(n), ("x",), ("x",)) for n in range(130)]
    assert Manifest(plates).shard_sizes() == [16, 64, 64, 2]


def test_whole_plates_and_whole_sources_are_held_out():
    fields = [
        FieldRecord(source, "b", f"P{p}", "A01", str(n), ("x",), ("x",))
        for source in ("one", "two")
        for p in range(40)
        for n in range(3)
    ]
    held_out = [r for r in fields if is_held_out(r, 0.25, ["two"], seed=1)]
    train = [r for r in fields if r not in held_out]
    assert not {r.plate_id for r in train} & {r.plate_id for r in held_out}
    assert {r.source for r in train} == {"one"}
    plates = {r.plate_id for r in held_out if r.source == "one"}
    assert 0.05 < len(plates) / 40 < 0.45
    # A larger share adds plates and moves none back; another seed chooses others.
    more = {r.plate_id for r in fields if is_held_out(r, 0.5, ["two"], seed=1)}
    assert plates < more
    assert plates != {r.plate_id for r in fields[:120] if is_held_out(r, 0.25, seed=2)}


def test_a_row_that_does_not_exist_is_refused():
    with pytest.raises(IndexError, match="manifest of 3"):
        Manifest(records(3))[3]


def test_an_empty_manifest_is_refused_but_an_empty_table_is_a_file(tmp_path):
    write_records(tmp_path / "empty", [])
    assert list(read_records(tmp_path / "empty")) == []
    with pytest.raises(ValueError, match="has no fields"):
        Manifest.read(tmp_path / "empty")


def test_what_is_no_manifest_is_told_in_a_sentence(tmp_path):
    with pytest.raises(FileNotFoundError, match="build one first"):
        Manifest.read(tmp_path / "none.parquet")
    (tmp_path / "text.parquet").write_text("not Parquet")
    with pytest.raises(ValueError, match="is not a manifest"):
        Manifest.read(tmp_path / "text.parquet")


def test_addresses_may_be_fewer_but_not_more_than_channels():
    assert FieldRecord(
        "s", "b", "p", "w", "1", ("R", "G", "B", "NIR"), ("rgb.tif", "nir.tif")
    ).channels
    with pytest.raises(ValueError, match="1 channels and 2 addresses"):
        FieldRecord("s", "b", "p", "w", "1", ("R",), ("a", "b"))


@pytest.mark.parametrize(
    "name",
    ["Brightfield", "BrightField_L", "HighZBF", "LowZBF", "BF", "DigitalPhase", "DPC", "DIC"],
)
def test_transmitted_light_is_known_by_name(name):
    assert is_brightfield(name)


@pytest.mark.parametrize(
    "name", ["DNA", "ER", "RNA", "AGP", "Mito", "w1 DNA", "GFP", "BFP", "Tubulin"]
)
def test_stains_are_not_taken_for_transmitted_light(name):
    assert not is_brightfield(name)
