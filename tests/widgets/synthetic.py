"""Images whose cells are known."""

import numpy as np

CENTERS = [(20.0 + 40 * i, 20.0 + 40 * j) for i in range(4) for j in range(5)]
"""Of the cells of `discs()`."""


def discs(shape=(160, 200), pitch=40, radius=13, low=100, high=2000):
    """A plane of round cells on a grid: bright in the middle, dark at the rim."""
    y, x = np.mgrid[: shape[0], : shape[1]]
    distance = np.hypot(y % pitch - pitch // 2, x % pitch - pitch // 2)
    return (low + high * np.clip(1 - distance / radius, 0, 1)).astype(np.uint16)


def n_discs(shape=(160, 200), pitch=40):
    return (shape[0] // pitch) * (shape[1] // pitch)
