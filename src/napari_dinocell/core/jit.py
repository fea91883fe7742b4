"""One typed door to numba, so that every compiled kernel has the same properties."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar, cast

import numba

Function = TypeVar("Function", bound=Callable[..., object])


def kernel(function: Function) -> Function:
    """Compile a function on arrays: without the GIL, and kept on disk between runs.

    Kernels are single-threaded on purpose. Numba's parallel loops bring an OpenMP runtime that
    kills a process which forks after its first use, and data loaders fork.

    Parameters
    ----------
    function : callable
        Module-level function in the subset of Python that numba compiles.

    Returns
    -------
    callable
        The same function, compiled on the first call with each kind of array.
    """
    return cast("Function", numba.njit(cache=True, nogil=True)(function))
