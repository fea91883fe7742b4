"""What is loaded in advance lets the window go on."""

import gc
import subprocess
import sys
import weakref

import pytest

from napari_dinocell.widgets.warm_up import without_garbage_collection

CODE = """
import threading, time
from napari_dinocell.widgets.warm_up import load_libraries

loading = threading.Thread(target=load_libraries)
loading.start()
longest = last = 0
while loading.is_alive():
    # What the other thread computes while this one cannot.
    now = time.process_time() - time.thread_time()
    longest, last = max(longest, now - last), now
maps = open("/proc/self/maps").read()
assert "libtorch_cpu.so" in maps and "libllvmlite.so" in maps
assert "libtorch_python.so" not in maps
start = time.thread_time()
import numba, torch
imported = time.thread_time() - start
assert torch.ones(3).sum() == 3
print(longest / imported)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="Looks into Linux' list of loaded libraries.")
def test_large_libraries_are_loaded_beside_the_thread_of_the_window():
    done = subprocess.run(
        [sys.executable, "-c", CODE], capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stderr
    # To import them stops it for much longer, even now that their files are loaded.
    assert float(done.stdout) < 0.5


class Ring:
    """Garbage that only the collector finds."""

    def __init__(self):
        self.me = self


def test_what_is_loaded_counts_as_old_at_once_and_is_garbage_as_ever():
    gc.collect()
    n_old = len(gc.get_objects(generation=2))
    with without_garbage_collection():
        assert not gc.isenabled()
        loaded = [[i] for i in range(n_old)]
        ring = weakref.ref(Ring())
    assert gc.isenabled()
    assert gc.get_freeze_count() == 0
    assert ring() is not None
    assert len(gc.get_objects(generation=2)) >= n_old + len(loaded)
    passes = []

    def see(phase, info):
        passes.append(info["generation"])

    gc.callbacks.append(see)
    try:
        more = [[i] for i in range(5000)]
    finally:
        gc.callbacks.remove(see)
    assert more
    assert passes
    assert 2 not in passes
    gc.collect()
    assert ring() is None


def test_an_error_while_loading_leaves_the_collector_on():
    with pytest.raises(OSError, match="no file"), without_garbage_collection():
        raise OSError("no file")
    assert gc.isenabled()
