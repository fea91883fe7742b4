"""Labels to distance map: the target that the network is trained on.

Each instance on its own is an island: the value of a pixel is its Euclidean distance to the nearest
pixel outside of the instance, divided by the largest such distance in the instance.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from skimage.measure import label as connected_components

from napari_dinocell.core.jit import kernel

FloatArray = npt.NDArray[np.float32]
IntArray = npt.NDArray[np.int32]


def distance_map(labels: npt.ArrayLike, lift: float = 0.0) -> FloatArray:
    """Distance of each pixel to the edge of its own instance, scaled to its maximum.

    Neighboring instances count as outside, so that touching cells keep a valley between them.
    A label in two pieces (not connected over edges or corners) counts as two instances.

    Parameters
    ----------
    labels : (Y, X) int array
        0 is background. Ids need not be consecutive.
    lift : float, default 0
        In [0, 1): the value that the edge starts from. 0 gives EDT/max, whose edge pixels have
        the value 1/r in an instance of inradius r and thus fall below any fill threshold when the
        cell is large. With a lift a the instance has ``a + (1 - a) * EDT/max`` instead.

    Returns
    -------
    (Y, X) float32 array
        0 on background, in (lift, 1] on instances, exactly 1 at each instance's maximum.

    Raises
    ------
    TypeError
        If `labels` is not of an integer kind.
    ValueError
        If `labels` is not 2-D or has negative ids, or `lift` is not in [0, 1).

    Notes
    -----
    What lies beyond the array counts as outside. An instance that a crop cuts must therefore be
    transformed before it is cropped: compute the map of labels with a margin, then crop the map.
    The map of warped labels is computed after the warp; a warped map is no distance map.

    Exact: squared distances are integers until the root. One pass over columns and one over rows
    [1]_, restricted to the runs of one label, so that the cost is linear in pixels whatever the
    number of instances.

    References
    ----------
    .. [1] Meijster, Roerdink, Hesselink (2000), A general algorithm for computing distance
       transforms in linear time.

    Examples
    --------
    >>> import numpy as np
    >>> distance_map(np.array([[0, 1, 1, 1, 0, 2, 0]]))[0].tolist()
    [0.0, 1.0, 1.0, 1.0, 0.0, 1.0, 0.0]
    >>> distance_map(np.ones((3, 3), int))[1].tolist()
    [0.5, 1.0, 0.5]
    """
    array = _checked_labels(labels)
    _check_lift(lift)
    if not array.any():  # scikit-image refuses arrays without pixels
        return np.zeros(array.shape, np.float32)
    squared = np.zeros(array.shape, np.int64)
    _squared_distance(array, squared)
    pieces, n_pieces = connected_components(array, connectivity=2, return_num=True)
    distance = np.empty(array.shape, np.float32)
    _scale(squared, pieces.astype(np.int32, copy=False), int(n_pieces), float(lift), distance)
    return distance


def lift_threshold(threshold: float, lift: float) -> float:
    """Threshold on a lifted map that cuts where `threshold` cuts the map that isn't lifted.

    Parameters
    ----------
    threshold : float
        In [0, 1], on EDT/max.
    lift : float
        In [0, 1), as in `distance_map`.

    Returns
    -------
    float
        ``lift + (1 - lift) * threshold``.

    Raises
    ------
    ValueError
        If one of them is outside of its range.

    Examples
    --------
    >>> round(lift_threshold(0.47, 0.2), 3)
    0.576
    """
    _check_lift(lift)
    if not 0 <= threshold <= 1:
        raise ValueError(f"Threshold is {threshold}; it must be between 0 and 1.")
    return lift + (1 - lift) * threshold


def _checked_labels(labels: npt.ArrayLike) -> IntArray:
    """Labels as a contiguous int32 array, or a sentence."""
    array = np.asarray(labels)
    if array.dtype.kind not in "iub":
        raise TypeError(f"Labels are {array.dtype}; they must be integers, 0 for background.")
    if array.ndim != 2:
        raise ValueError(f"Labels have shape {array.shape}; give one plane (Y, X).")
    if array.size and array.min() < 0:
        raise ValueError(f"Labels hold the id {array.min()}; ids must not be negative.")
    if array.size and array.max() > np.iinfo(np.int32).max:
        raise ValueError(f"Labels hold the id {array.max()}; ids must fit into 32 bits.")
    # A writable copy is a matter of speed alone: numba compiles anew for read-only arrays.
    array = np.ascontiguousarray(array, np.int32)
    return array if array.flags.writeable else array.copy()


def _check_lift(lift: float) -> None:
    if not 0 <= lift < 1:
        raise ValueError(f"Lift is {lift}; it must be at least 0 and below 1.")


@kernel
def _squared_distance(labels: IntArray, squared: npt.NDArray[np.int64]) -> None:
    """Fill `squared` with the squared distance to the nearest pixel of another label."""
    height, width = labels.shape
    # Along columns: steps to the nearest other label above or below.
    steps = np.zeros((height, width), np.int32)
    for y in range(height):
        for x in range(width):
            if labels[y, x] != 0:
                same = y > 0 and labels[y - 1, x] == labels[y, x]
                steps[y, x] = steps[y - 1, x] + 1 if same else 1
    for y in range(height - 1, -1, -1):
        for x in range(width):
            if labels[y, x] != 0:
                same = y + 1 < height and labels[y + 1, x] == labels[y, x]
                steps[y, x] = min(steps[y, x], steps[y + 1, x] + 1 if same else 1)
    # Along rows: lower envelope of the parabolas (x - c)**2 + steps[c]**2 of one run, with the
    # pixels beside the run as parabolas of height 0. Nothing beyond them can be nearer.
    centers = np.empty(width + 2, np.int64)
    starts = np.empty(width + 2, np.int64)
    heights = np.empty(width + 2, np.int64)
    for y in range(height):
        left = 0
        while left < width:
            right = left + 1
            while right < width and labels[y, right] == labels[y, left]:
                right += 1
            if labels[y, left] != 0:
                centers[0], starts[0], heights[0] = left - 1, left - 1, 0
                top = 0
                for c in range(left, right + 1):
                    h = np.int64(steps[y, c]) ** 2 if c < right else np.int64(0)
                    begin = np.int64(0)
                    while top >= 0:
                        # First integer at which the new parabola is strictly lower.
                        span = c - centers[top]
                        over = h - heights[top] + span * (c + centers[top])
                        begin = over // (2 * span) + 1
                        if begin > starts[top]:
                            break
                        top -= 1
                    top += 1
                    centers[top], heights[top] = c, h
                    starts[top] = begin if top > 0 else left - 1
                for x in range(right - 1, left - 1, -1):
                    while starts[top] > x:
                        top -= 1
                    squared[y, x] = (x - centers[top]) ** 2 + heights[top]
            left = right


@kernel
def _scale(
    squared: npt.NDArray[np.int64],
    pieces: IntArray,
    n_pieces: int,
    lift: float,
    distance: FloatArray,
) -> None:
    """Fill `distance` with the root of `squared` over its root at the maximum of each piece."""
    highest = np.zeros(n_pieces + 1, np.int64)
    height, width = pieces.shape
    for y in range(height):
        for x in range(width):
            piece = pieces[y, x]
            if squared[y, x] > highest[piece]:
                highest[piece] = squared[y, x]
    for y in range(height):
        for x in range(width):
            piece = pieces[y, x]
            if piece == 0:
                distance[y, x] = 0
            else:
                # One division before the root keeps the maximum exactly 1.
                share = np.sqrt(squared[y, x] / highest[piece])
                distance[y, x] = lift + (1 - lift) * share
