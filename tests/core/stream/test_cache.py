import itertools
import os
import signal
import subprocess
import sys
import textwrap
import threading

import numpy as np
import pytest

from napari_dinocell.core.stream.cache import DiskCache
from napari_dinocell.core.stream.memory import MemoryCache

TRAILER = 20

WRITER = textwrap.dedent("""
    import sys
    import numpy as np
    from napari_dinocell.core.stream.cache import DiskCache

    def value(key):
        rng = np.random.default_rng(key)
        return rng.bytes(int(rng.integers(100, 4000)))

    folder, bound, seed, n = sys.argv[1], *map(int, sys.argv[2:])
    cache, rng, hits = DiskCache(folder, bound), np.random.default_rng(seed), 0
    print("ready", flush=True)
    for _ in range(n):
        key = int(rng.integers(60))
        data = cache.get(str(key))
        if data is None:
            cache.put(str(key), value(key))
        else:
            assert data == value(key), "not what was put"
            hits += 1
    print(hits)
""")


def start_writer(folder, bound: int, seed: int, n: int) -> subprocess.Popen:
    command = [sys.executable, "-c", WRITER, str(folder), str(bound), str(seed), str(n)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def on_disk(folder) -> int:
    """Bytes of all files but the lock, counted without the cache's help."""
    total = 0
    for root, _, names in os.walk(folder):
        for name in names:
            if not name.endswith(".lock"):
                try:
                    total += os.stat(os.path.join(root, name)).st_size
                except FileNotFoundError:
                    continue
    return total


def test_invariant_27_four_processes_stay_within_the_bound_and_read_what_was_written(tmp_path):
    bound = 40_000
    writers = [start_writer(tmp_path, bound, seed, 500) for seed in range(4)]
    most = 0
    while any(writer.poll() is None for writer in writers):
        most = max(most, on_disk(tmp_path))
    outputs = [writer.communicate()[0] for writer in writers]
    assert [writer.returncode for writer in writers] == [0] * 4
    # A walk over changing folders may count an entry twice: at its old name and the new one.
    assert bound * 0.5 < most <= bound + 4 * 4020
    assert DiskCache(tmp_path, bound).n_bytes() == on_disk(tmp_path) <= bound
    assert sum(int(output.split()[1]) for output in outputs) > 100


def test_invariant_27_a_killed_process_leaves_no_partial_entry_and_its_space_is_found_again(
    tmp_path,
):
    bound = 30_000
    rng = np.random.default_rng(0)
    for seed in range(6):
        writer = start_writer(tmp_path, bound, seed, 10**6)
        assert writer.stdout.readline() == "ready\n"
        # Not after a time, but after a number of changes that the process makes.
        for _ in range(int(rng.integers(1, 200))):
            on_disk(tmp_path)
        os.kill(writer.pid, signal.SIGKILL)
        writer.communicate()
        assert on_disk(tmp_path) <= bound
    cache = DiskCache(tmp_path, bound)
    assert not list(tmp_path.rglob("*.tmp"))
    reader = start_writer(tmp_path, bound, 99, 300)  # checks every value that it reads
    reader.communicate()
    assert reader.returncode == 0
    assert cache.n_bytes() <= bound


def test_a_process_killed_between_reserving_and_writing_does_not_shrink_the_cache(tmp_path):
    cache = DiskCache(tmp_path, 10_000)
    dead = subprocess.run(
        [sys.executable, "-c", "import os; print(os.getpid())"], capture_output=True
    )
    folder = cache._path("x").parent
    folder.mkdir()
    left = folder / f"{cache._path('x').name}.{cache._host}.{int(dead.stdout)}.0a0b0c0d.tmp"
    left.write_bytes(b"\0" * 9000)
    assert cache.n_bytes() == 9000
    assert DiskCache(tmp_path, 10_000).n_bytes() == 0
    assert not left.exists()


def test_a_temporary_file_of_a_living_process_is_kept(tmp_path):
    cache = DiskCache(tmp_path, 10_000)
    path = cache._path("x")
    path.parent.mkdir()
    mine = path.with_name(f"{path.name}.{cache._host}.{os.getpid()}.0a0b0c0d.tmp")
    mine.write_bytes(b"\0" * 9000)
    assert not DiskCache(tmp_path, 10_000).put("y", b"1" * 5000)  # there is no room beside it
    assert mine.exists()
    os.utime(mine, (0, 0))  # older than an hour: nobody writes one object so long
    assert DiskCache(tmp_path, 10_000).put("y", b"1" * 5000)
    assert not mine.exists()


def test_what_was_put_is_got_and_survives_a_new_start(tmp_path):
    cache = DiskCache(tmp_path, 10_000)
    assert cache.get("key with space/π") is None
    assert cache.put("key with space/π", b"abc")
    assert cache.get("key with space/π") == b"abc"
    assert DiskCache(tmp_path, 10_000).get("key with space/π") == b"abc"
    assert cache.put("empty", b"")
    assert cache.get("empty") == b""
    cache.discard("empty")
    cache.discard("empty")
    assert cache.get("empty") is None


@pytest.mark.parametrize("damage", ["flip", "cut", "zero", "empty"])
def test_a_damaged_entry_counts_as_absent_and_goes(tmp_path, damage):
    cache = DiskCache(tmp_path, 10_000)
    cache.put("x", b"0123456789" * 10)
    path = cache._path("x")
    stored = bytearray(path.read_bytes())
    if damage == "flip":
        stored[17] ^= 1
    elif damage == "cut":
        del stored[50:]
    elif damage == "zero":  # after a loss of power: the size is right, the content was not written
        stored = bytearray(len(stored))
    else:
        stored.clear()
    path.write_bytes(stored)
    assert cache.get("x") is None
    assert not path.exists()


def test_the_least_recently_used_entries_go_first(tmp_path):
    entry = 1000 - TRAILER
    cache = DiskCache(tmp_path, 10_000)
    for n in range(10):
        cache.put(str(n), bytes([n]) * entry)
        os.utime(cache._path(str(n)), (n, n))
    assert cache.get("0") is not None  # used now
    cache.put("new", b"x" * entry)
    kept = [key for key in [*map(str, range(10)), "new"] if cache.get(key) is not None]
    assert kept == ["0", *map(str, range(3, 10)), "new"]  # down to 85 %, and the new one


def test_an_object_larger_than_the_cache_is_not_kept(tmp_path):
    cache = DiskCache(tmp_path, 1000)
    cache.put("small", b"x" * 500)
    assert not cache.put("large", b"x" * 1000)
    assert cache.get("small") is not None


def test_a_folder_of_other_files_is_refused_and_nothing_in_it_touched(tmp_path):
    (tmp_path / "plate 1").mkdir()
    (tmp_path / "plate 1" / "image.tif").write_bytes(b"x" * 5000)
    with pytest.raises(ValueError, match="folder of its own"):
        DiskCache(tmp_path, 100)
    assert (tmp_path / "plate 1" / "image.tif").exists()


def test_files_that_come_beside_the_entries_are_never_evicted(tmp_path):
    cache = DiskCache(tmp_path, 1000)
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "notes.txt").write_bytes(b"x" * 5000)
    assert cache.put("x", b"x" * 900)
    assert (tmp_path / "notes" / "notes.txt").exists()


def test_a_bound_without_bytes_is_refused(tmp_path):
    with pytest.raises(ValueError, match="at least one"):
        DiskCache(tmp_path / "cache", 0)


def test_a_lost_ledger_is_counted_anew(tmp_path):
    cache = DiskCache(tmp_path, 3000)
    cache.put("a", b"x" * 1500)
    (tmp_path / "dinocell-cache.lock").write_bytes(b"")
    cache.put("b", b"x" * 1600)
    assert cache.n_bytes() <= 3000
    assert cache.get("b") is not None


def test_a_cache_that_cannot_be_written_warns_once_and_lets_the_run_go_on(tmp_path, caplog):
    cache = DiskCache(tmp_path, 10_000)
    for prefix in range(256):  # a file where each folder would be
        (tmp_path / f"{prefix:02x}").write_bytes(b"")
    assert not cache.put("x", b"x")
    assert not cache.put("y", b"y")
    assert cache.get("x") is None
    assert len([r for r in caplog.records if "cannot be written" in r.message]) == 1


def hit_rate(share: float) -> float:
    """Of an LRU that holds this share of the data, if each epoch is a new permutation."""
    return share + (1 - share) * np.log(1 - share)


def test_of_shuffled_objects_a_cache_hits_about_half_the_square_of_its_share(tmp_path):
    n, entry, epochs = 80, 200, 25
    cache = DiskCache(tmp_path, n * entry // 2)
    rng, hits = np.random.default_rng(0), []
    clock = itertools.count(1)
    for _ in range(epochs):
        hits.append(0)
        for key in map(str, rng.permutation(n)):
            if cache.get(key) is None:
                cache.put(key, b"x" * (entry - TRAILER))
            else:
                hits[-1] += 1
            os.utime(cache._path(key), ns=(0, next(clock)))  # finer than the disk's clock
    assert hits[0] == 0
    rate = sum(hits[1:]) / (epochs - 1) / n
    # An eviction leaves 85 % of the bound, and the cache fills up again.
    assert hit_rate(0.85 * 0.5) - 0.02 < rate < hit_rate(0.5) + 0.02


def test_the_memory_cache_keeps_what_was_used_last_within_its_bytes():
    cache = MemoryCache(100, len, max_items=3)
    for key in "abc":
        cache.put(key, key * 30)
    assert cache.get("a") == "a" * 30
    cache.put("d", "d" * 30)
    assert [cache.get(key) is not None for key in "abcd"] == [True, False, True, True]
    cache.put("e", "e" * 70)
    assert cache.total_bytes == 100
    cache.put("f", "f" * 101)
    assert cache.get("f") is None
    assert cache.total_bytes == 100


def test_the_memory_cache_counts_right_with_many_threads():
    cache = MemoryCache(5000, len)

    def work(seed: int) -> None:
        rng = np.random.default_rng(seed)
        for _ in range(2000):
            key = str(rng.integers(100))
            if cache.get(key) is None:
                cache.put(key, key * int(rng.integers(1, 60)))

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert cache.total_bytes == sum(len(v) for v in cache._values.values()) <= 5000
