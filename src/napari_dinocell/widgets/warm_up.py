"""What takes long once per process, done on a worker's thread, where nobody waits for it."""

from __future__ import annotations

import ctypes
import gc
import logging
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

import numpy as np

__all__ = ["load_libraries", "prepare_labels", "without_garbage_collection"]

log = logging.getLogger(__name__)


def load_libraries() -> None:
    """Load the large libraries of torch and numba while other threads go on.

    Importing them holds Python's lock while the system loads some hundred megabytes, and the window
    would stand still. A foreign function does not, and the import finds them loaded. Where this does
    not work, the import does it all.
    """
    if sys.platform == "win32":
        return
    dlopen = ctypes.CDLL(None).dlopen
    dlopen.argtypes, dlopen.restype = (ctypes.c_char_p, ctypes.c_int), ctypes.c_void_p
    # The order and the modes of the imports.
    for package, file, mode in (
        ("torch", "lib/libtorch_global_deps", os.RTLD_GLOBAL),
        ("torch", "lib/libtorch_cpu", os.RTLD_LOCAL),
        ("llvmlite", "binding/libllvmlite", os.RTLD_LOCAL),
    ):
        spec = find_spec(package)
        if package in sys.modules or spec is None or spec.origin is None:
            continue
        for ending in (".so", ".dylib"):
            path = Path(spec.origin).parent / f"{file}{ending}"
            if path.exists() and not dlopen(os.fsencode(path), os.RTLD_NOW | mode):
                log.debug("%s is left to the import.", path)


@contextmanager
def without_garbage_collection() -> Iterator[None]:
    """Import or load here what lives as long as the program.

    Python's collector would soon look through all of it: a million objects, for which every thread
    stands still a third of a second. What is there at the end is taken for old, which it is, and
    looked through when much more has come.
    """
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if not gc.get_freeze_count():
            # Both together move all objects to the oldest generation without looking at them.
            gc.freeze()
            gc.unfreeze()
        if was_enabled:
            gc.enable()


def prepare_labels() -> None:
    """Do what napari would do with the first Labels layer."""
    import_module("napari.layers").Labels(np.zeros((2, 2), np.uint16))
    if find_spec("vispy"):
        # Computes the dash patterns of lines, once for all; the tool that draws polygons has one.
        import_module("vispy.visuals").LineVisual(method="agg")
