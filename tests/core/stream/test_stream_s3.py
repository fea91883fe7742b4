"""A run against a real S3 server, through a proxy that breaks answers, and a server that dies."""

import csv
import itertools
import os
import threading
from pathlib import Path

import numpy as np
import pytest
import tifffile

from napari_dinocell.core.stream.fetch import RetryPolicy
from napari_dinocell.core.stream.manifest import Manifest
from napari_dinocell.core.stream.order import Order
from napari_dinocell.core.stream.records import FieldRecord
from napari_dinocell.core.stream.samples import Sample, TileSettings
from napari_dinocell.core.stream.sources import SourceSettings
from napari_dinocell.core.stream.stores import S3Settings
from napari_dinocell.core.stream.stream import FieldStream, Threads

from .plates import records, write_plate

N = 24
STEPS = 20
POLICY = RetryPolicy(base_s=0.005, cap_s=0.05, patience_s=60)


@pytest.fixture(scope="module")
def manifest(s3_server, tmp_path_factory) -> Manifest:
    """Fields in the bucket; their plates' names have a space."""
    local = write_plate(tmp_path_factory.mktemp("plate"), N)
    upload(s3_server, local, "batch 1")
    return Manifest(records(N, "s3://public/batch 1"))


def upload(server, manifest: Manifest, prefix: str) -> None:
    client = server.client()
    for address in (Path(a) for record in manifest for a in record.addresses):
        key = f"{prefix}/{address.parent.name}/{address.name}"
        client.put_object(Bucket="public", Key=key, Body=address.read_bytes())


def stream_of(manifest: Manifest, url: str, **settings) -> FieldStream:
    s3 = S3Settings(endpoint_url=url, read_timeout_s=2.0, connect_timeout_s=2.0)
    fields = SourceSettings(s3=s3, policy=POLICY, n_threads=8, **settings).open(manifest, 5)
    order = Order(manifest.shard_sizes(8), seed=5, batch=8, tiles_per_field=4, window=2)
    # Little look-ahead, so that what happens between two steps happens to the next ones.
    threads = Threads(look_ahead_bytes=1)
    return FieldStream(order, fields, tiles=TileSettings(side=24), threads=threads)


def take(manifest: Manifest, url: str, n: int = STEPS, **settings) -> list[Sample]:
    with stream_of(manifest, url, **settings) as stream:
        return [sample for samples in itertools.islice(stream, n) for sample in samples]


def assert_same(one: list[Sample], other: list[Sample]) -> None:
    assert [(s.number, s.id) for s in one] == [(s.number, s.id) for s in other]
    for a, b in zip(one, other, strict=True):
        np.testing.assert_array_equal(a.tile, b.tile)


@pytest.fixture(scope="module")
def clean(manifest, s3_server) -> list[Sample]:
    return take(manifest, s3_server.url)


def test_faults_of_all_kinds_change_no_sample(manifest, clean, proxy):
    faults = ("slow down", "page", "reset", "reset in body", "truncate", "flip")
    for n, record in enumerate(manifest):
        for channel, address in enumerate(record.addresses):
            kind = faults[(n + channel) % len(faults)] if n else "stall"
            proxy.break_next(address.removeprefix("s3://public/"), [kind] * (1 + (kind != "stall")))
    proxy.latency_s = 0.002
    with stream_of(manifest, proxy.url) as stream:
        hit = [sample for samples in itertools.islice(stream, STEPS) for sample in samples]
        assert_same(hit, clean)
        values = stream.counters.log_values()
        assert values["system/s3_errors"] >= 2 * N
        assert {f"system/s3_errors/{kind}" for kind in ("slow down", "checksum", "timeout")} <= set(
            values
        )
        assert values["system/s3_unverified"] == 0
        assert values["system/fields_replaced"] == 0
        assert values["system/s3_mb_per_s"] > 0


def test_a_server_killed_and_restarted_in_mid_epoch_changes_no_sample(manifest, clean, s3_server):
    with stream_of(manifest, s3_server.url) as stream:
        hit = [sample for samples in itertools.islice(stream, 7) for sample in samples]
        s3_server.kill()
        restart = threading.Thread(target=s3_server.start)
        n_errors = sum(stream.counters.errors.values())
        waiting = threading.Thread(target=lambda: hit.extend(rest(stream)))
        waiting.start()
        try:
            while sum(stream.counters.errors.values()) < n_errors + 20:
                waiting.join(0.01)
                assert waiting.is_alive()
        finally:
            restart.start()
            restart.join()
        waiting.join()
        assert_same(hit, clean)
        assert stream.counters["replaced"] == 0


def rest(stream: FieldStream) -> list[Sample]:
    return [sample for samples in itertools.islice(stream, STEPS - 7) for sample in samples]


def test_invariant_26_objects_that_stay_broken_are_replaced_and_all_other_samples_stay(
    manifest, clean, proxy, tmp_path
):
    broken = [manifest[row] for row in (2, 11, 19)]
    for record, fault in zip(broken, ("truncate", "flip", "reset"), strict=True):
        proxy.break_always(record.addresses[0].removeprefix("s3://public/"), fault)
    quarantine = tmp_path / "broken.jsonl"
    hit = take(manifest, proxy.url, quarantine=quarantine)
    ids = {record.id for record in broken}
    assert [a.id in ids for a in clean] == [a.id != b.id for a, b in zip(clean, hit, strict=True)]
    assert not ids & {sample.id for sample in hit}
    assert {line.split('"')[3] for line in quarantine.read_text().splitlines()} == ids


def test_a_second_epoch_comes_from_the_disk_cache_if_all_fit(manifest, proxy, tmp_path):
    epoch = N * 4 // 8
    with stream_of(manifest, proxy.url, cache_folder=tmp_path, cache_bytes=10**7) as stream:
        first = [s for samples in itertools.islice(stream, 2 * epoch) for s in samples]
        requests = stream.counters["requests"]
        hits = stream.counters["cache_hits"]
        for _ in range(2 * epoch):
            next(stream)
        assert requests == stream.counters["requests"] >= 2 * N
        assert stream.counters["cache_hits"] > hits
    # A new run, with the same cache, needs no server at all.
    proxy.close()
    again = take(manifest, proxy.url, 2 * epoch, cache_folder=tmp_path, cache_bytes=10**7)
    assert_same(again, first)


@pytest.mark.shared
def test_real_fields_of_many_sources_stream_from_a_bucket_as_from_the_disk(s3_server, proxy):
    root = os.environ.get("DINOCELL_DATA")
    if root is None:
        pytest.skip("needs the data folder named by DINOCELL_DATA")
    with (Path(root) / "multichannel" / "index.csv").open() as stream:
        found = {row["source"]: row for row in csv.DictReader(stream)}
    rows = list(found.values())  # one field of each
    assert len(rows) == 16
    local, remote = [], []
    client = s3_server.client()
    for row in rows:
        path, names = Path(root) / row["path"], tuple(row["channels"].split("|"))
        size = float(row["pixel_size_um"]) if row["pixel_size_um"] else None
        client.put_object(Bucket="public", Key=row["path"], Body=path.read_bytes())
        place = ("multichannel", row["source"], row["group"], "", row["field"], names)
        local.append(FieldRecord(*place, (str(path),), size))
        remote.append(FieldRecord(*place, (f"s3://public/{row['path']}",), size))
    settings = TileSettings(side=160)
    seen: list[list[Sample]] = []
    for records_, url in ((local, None), (remote, proxy.url)):
        fields = Manifest(records_)
        order = Order(fields.shard_sizes(), seed=1, batch=2, tiles_per_field=2)
        opened = SourceSettings(s3=S3Settings(endpoint_url=url), n_threads=4).open(fields, 1)
        with FieldStream(order, opened, tiles=settings) as stream:
            seen.append([s for samples in itertools.islice(stream, len(rows)) for s in samples])
            assert stream.counters["replaced"] == 0
            assert not stream.counters.errors
    assert_same(*seen)
    assert {s.record.batch for s in seen[0]} == {row["source"] for row in rows}
    assert {len(s.tile) for s in seen[0]} == {2, 3, 5, 6}
    for sample in seen[0]:
        stack = tifffile.imread(
            dict(zip([r.id for r in local], local, strict=True))[sample.id].addresses[0]
        )
        assert len(stack) == len(sample.channels)
    kinds = {c: k for s in seen[0] for c, k in zip(s.channels, s.kinds, strict=True)}
    assert {c for c, k in kinds.items() if k == "brightfield"} == {"Brightfield", "DigitalPhase"}
