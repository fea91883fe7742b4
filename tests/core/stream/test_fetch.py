import io
import statistics
import threading
import time

import numpy as np
import pytest
import tifffile

from napari_dinocell.core.errors import StreamError
from napari_dinocell.core.stream.cache import DiskCache
from napari_dinocell.core.stream.fetch import (
    BrokenObjectError,
    Fetcher,
    RetryPolicy,
    fetch_bytes,
)
from napari_dinocell.core.stream.stores import FetchError, S3Settings, S3Store

from .plates import plane

FAST = RetryPolicy(base_s=0.001, cap_s=0.01, patience_s=60)
HASTY = RetryPolicy(base_s=0.001, cap_s=0.01, patience_s=0.2)
GOOD, KEY = "s3://public/good.tif", "folder/field.tif"
ADDRESS = f"s3://public/{KEY}"


def tiff(image: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    tifffile.imwrite(buffer, image)
    return buffer.getvalue()


@pytest.fixture
def store(s3_server, proxy) -> S3Store:
    client = s3_server.client()
    client.put_object(Bucket="public", Key="good.tif", Body=tiff(plane(0)))
    client.put_object(Bucket="public", Key=KEY, Body=tiff(plane(1)))
    return S3Store(S3Settings(endpoint_url=proxy.url, read_timeout_s=2.0, connect_timeout_s=2.0))


@pytest.fixture
def fetcher(store) -> Fetcher:
    fetcher = Fetcher(store, policy=FAST)
    fetcher.planes(GOOD)
    return fetcher


@pytest.mark.parametrize(
    ("fault", "kind"),
    [
        ("slow down", "slow down"),
        ("page", "server"),
        ("reset", "connection"),
        ("reset in body", "cut short"),
        ("truncate", "cut short"),
        ("stall", "timeout"),
        ("flip", "checksum"),
    ],
)
def test_a_fault_that_passes_is_tried_again_and_counted(fetcher, proxy, fault, kind):
    n = 1 if fault == "stall" else 2
    proxy.break_next(KEY, [fault] * n)
    np.testing.assert_array_equal(fetcher.planes(ADDRESS)[0], plane(1))
    assert fetcher.counters.errors == {kind: n}
    assert proxy.requests[KEY] == n + 1
    assert fetcher.counters["bytes"] == 2 * len(tiff(plane(0)))


@pytest.mark.parametrize("fault", ["page", "reset", "truncate", "flip"])
def test_an_object_that_stays_unreadable_is_broken_after_five_more_tries(fetcher, proxy, fault):
    proxy.break_always(KEY, fault)
    with pytest.raises(BrokenObjectError):
        fetcher.planes(ADDRESS)
    # The first shows only that something is wrong; then the store is asked for another object.
    assert proxy.requests[KEY] == FAST.n_tries + 1
    assert fetcher.planes(GOOD).shape == (1, 64, 64)


def test_an_object_that_does_not_exist_is_asked_for_once(fetcher, proxy):
    with pytest.raises(BrokenObjectError) as caught:
        fetcher.planes("s3://public/none.tif")
    assert caught.value.kind == "not found"
    assert proxy.requests["none.tif"] == 1


@pytest.mark.parametrize("kind", ["zeros", "constant", "decode"])
def test_damaged_bytes_are_fetched_twice_before_they_count_as_broken(
    fetcher, proxy, s3_server, kind
):
    image = plane(2)
    image[:40] = 0
    body = {"zeros": tiff(image), "constant": tiff(np.zeros_like(image)), "decode": b"II*\0"}[kind]
    s3_server.client().put_object(Bucket="public", Key="damaged.tif", Body=body)
    with pytest.raises(BrokenObjectError) as caught:
        fetcher.planes("s3://public/damaged.tif")
    assert caught.value.kind == kind
    assert proxy.requests["damaged.tif"] == FAST.n_damaged
    assert fetcher.counters.errors == {kind: 2}


def test_a_flip_that_nothing_else_can_find_is_at_least_counted(store, proxy):
    proxy.hidden = {"etag", "x-amz-checksum-crc32"}
    fetcher = Fetcher(store, policy=FAST)
    proxy.break_next(KEY, ["flip"])
    assert not np.array_equal(fetcher.planes(ADDRESS)[0], plane(1))
    assert fetcher.counters["unverified"] == 1


def test_a_store_that_asks_to_slow_down_does_not_condemn_an_object(fetcher, proxy):
    proxy.break_next(KEY, ["slow down"] * 9)
    np.testing.assert_array_equal(fetcher.planes(ADDRESS)[0], plane(1))
    assert proxy.requests[KEY] == 10


def test_a_store_that_stays_silent_ends_the_run_with_one_sentence(store, proxy):
    fetcher = Fetcher(store, policy=HASTY)
    fetcher.planes(GOOD)
    proxy.close()
    with pytest.raises(StreamError, match=r"has not answered for .* last checkpoint"):
        fetcher.planes(ADDRESS)


def test_a_store_that_is_always_busy_ends_the_run_too(store, proxy):
    fetcher = Fetcher(store, policy=HASTY)
    fetcher.planes(GOOD)
    proxy.break_always(".tif", "slow down")
    with pytest.raises(StreamError, match="slow down"):
        fetcher.planes(ADDRESS)


def test_an_object_that_is_busy_for_ever_is_broken_while_its_store_answers_others(store, proxy):
    fetcher = Fetcher(store, policy=HASTY)
    fetcher.planes(GOOD)
    proxy.break_always(KEY, "slow down")
    begin = time.monotonic()
    with pytest.raises(BrokenObjectError) as caught:
        fetcher.planes(ADDRESS)
    assert time.monotonic() - begin > HASTY.patience_s
    assert caught.value.kind == "slow down"
    assert fetcher.planes(GOOD).shape == (1, 64, 64)


def test_a_store_that_never_answered_is_told_at_once(store, proxy):
    proxy.close()
    patient = RetryPolicy(base_s=0.001, cap_s=0.01, patience_s=1000)
    with pytest.raises(StreamError, match="Nothing could be read so far"):
        Fetcher(store, policy=patient).planes(ADDRESS)


def test_a_server_that_is_killed_and_comes_back_costs_time_but_no_object(store, proxy, s3_server):
    fetcher = Fetcher(store, policy=RetryPolicy(base_s=0.05, cap_s=0.1, patience_s=60))
    fetcher.planes(GOOD)
    s3_server.kill()
    found: list[np.ndarray] = []
    threads = [
        threading.Thread(target=lambda: found.append(fetcher.planes(ADDRESS))) for _ in range(4)
    ]
    try:
        for thread in threads:
            thread.start()
        while fetcher.counters["requests"] < 40:  # far beyond the tries of one object
            threads[0].join(0.01)
            assert not found
    finally:
        s3_server.start()
    for thread in threads:
        thread.join()
    assert len(found) == 4
    np.testing.assert_array_equal(found[0][0], plane(1))
    assert sum(fetcher.counters.errors.values()) >= 35


def test_a_store_that_comes_back_just_after_the_last_failure_is_believed(store, proxy):
    """Failures of the time when everything failed are not held against an object."""
    fetcher = Fetcher(store, policy=FAST)
    fetcher.planes(GOOD)
    proxy.break_always(".tif", "reset")
    for _ in range(3):
        proxy.break_next(KEY, ["reset"] * FAST.n_tries)
    thread = threading.Thread(target=fetcher.planes, args=(ADDRESS,))
    thread.start()
    while proxy.requests[KEY] < FAST.n_tries:
        thread.join(0.001)
    proxy.break_always(".tif", None)
    # From now on the store answers all but this object, for four more requests at most.
    with proxy.lock:
        faults = proxy._next[KEY]
        while len(faults) >= FAST.n_tries:
            faults.pop()
    thread.join()
    assert fetcher.planes(ADDRESS).shape == (1, 64, 64)


def test_access_that_is_lost_for_all_objects_stops_instead_of_condemning_them(s3_server, store):
    client = s3_server.client()
    if "private" not in [b["Name"] for b in client.list_buckets()["Buckets"]]:
        client.create_bucket(Bucket="private")
    client.put_object(Bucket="private", Key="x.tif", Body=tiff(plane(0)))
    with pytest.raises(StreamError, match="refuses access"):
        Fetcher(store, policy=FAST).planes("s3://private/x.tif")
    fetcher = Fetcher(store, policy=FAST)
    fetcher.planes(GOOD)
    with pytest.raises(BrokenObjectError) as caught:  # others can be read: it is this object
        fetcher.planes("s3://private/x.tif")
    assert caught.value.kind == "access denied"


def test_pauses_are_drawn_evenly_below_a_bound_that_doubles():
    policy = RetryPolicy(base_s=0.5, cap_s=20.0)
    for n_failed, bound in enumerate((0.5, 1, 2, 4, 8, 16, 20, 20), 1):
        pauses = [policy.pause_s(n_failed) for _ in range(4000)]
        assert 0 <= min(pauses) < 0.05 * bound
        assert 0.95 * bound < max(pauses) <= bound
        assert statistics.mean(pauses) == pytest.approx(bound / 2, rel=0.1)


def test_stopping_ends_a_wait_at_once(store, proxy):
    fetcher = Fetcher(store, policy=RetryPolicy(base_s=1000, cap_s=1000))
    fetcher.planes(GOOD)
    proxy.break_always(KEY, "slow down")
    ended = threading.Event()

    def fetch() -> None:
        with pytest.raises(StreamError, match="stopped"):
            fetcher.planes(ADDRESS)
        ended.set()

    thread = threading.Thread(target=fetch)
    thread.start()
    while not fetcher.counters.errors:
        thread.join(0.01)
    begin = time.monotonic()
    fetcher.stop()
    thread.join()
    assert ended.is_set()
    assert time.monotonic() - begin < 5


def test_invariant_27_a_second_read_comes_from_the_disk_cache_without_a_request(
    store, proxy, tmp_path
):
    cache = DiskCache(tmp_path, 10**6)
    fetcher = Fetcher(store, cache=cache, policy=FAST)
    for _ in range(3):
        np.testing.assert_array_equal(fetcher.planes(ADDRESS)[0], plane(1))
    assert proxy.requests[KEY] == 1
    assert (fetcher.counters["cache_hits"], fetcher.counters["cache_misses"]) == (2, 1)
    assert fetcher.counters.log_values()["system/cache_hit_rate"] == pytest.approx(2 / 3)
    cache._path(ADDRESS).write_bytes(b"damaged")
    np.testing.assert_array_equal(fetcher.planes(ADDRESS)[0], plane(1))
    assert proxy.requests[KEY] == 2


def test_nothing_that_failed_a_check_gets_into_the_cache(store, proxy, tmp_path):
    cache = DiskCache(tmp_path, 10**6)
    fetcher = Fetcher(store, cache=cache, policy=FAST)
    proxy.break_next(KEY, ["flip", "truncate"])
    fetcher.planes(ADDRESS)
    assert cache.get(ADDRESS) == tiff(plane(1))
    cache.put(ADDRESS, tiff(np.zeros((64, 64), np.uint16)))  # as if older checks had let it pass
    np.testing.assert_array_equal(fetcher.planes(ADDRESS)[0], plane(1))
    assert fetcher.counters["errors/cached constant"] == 1
    assert cache.get(ADDRESS) == tiff(plane(1))


def test_tables_are_fetched_with_retries_too(store, proxy, s3_server):
    s3_server.client().put_object(Bucket="public", Key="load_data.csv", Body=b"a,b\n1,2\n")
    proxy.break_next("load_data.csv", ["slow down", "reset in body", "flip"])
    assert fetch_bytes(store, "s3://public/load_data.csv", FAST) == b"a,b\n1,2\n"
    with pytest.raises(FetchError, match="none"):
        fetch_bytes(store, "s3://public/none", FAST)
    assert proxy.requests["none"] == 1
    proxy.break_always("load_data.csv", "reset")
    with pytest.raises(FetchError):
        fetch_bytes(store, "s3://public/load_data.csv", FAST)
    assert proxy.requests["load_data.csv"] == 4 + FAST.n_tries
