"""What is loaded in advance lets the window go on."""

import subprocess
import sys

import pytest

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
import numba, torch
assert torch.ones(3).sum() == 3
print(longest)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="Looks into Linux' list of loaded libraries.")
def test_large_libraries_are_loaded_beside_the_thread_of_the_window():
    done = subprocess.run(
        [sys.executable, "-c", CODE], capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stderr
    # The import of torch alone would stop it for 160 ms.
    assert float(done.stdout) < 0.05
