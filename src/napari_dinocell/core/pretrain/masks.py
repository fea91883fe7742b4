"""Which patches the student does not see: blocks on half of the global crops.

iBOT (arXiv:2111.07832, section 3.3) with block-wise masks after BEiT (arXiv:2106.08254, algorithm
1) and the stratified ratios of DINOv2.
"""

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

BoolArray = NDArray[np.bool_]

_COUNTS, _BLOCKS, _VISIBLE = 1, 2, 3  # separate random streams of one step


def mask_sizes(
    rng: np.random.Generator,
    n_crops: int,
    n_patches: int,
    *,
    share: float = 0.5,
    ratio: tuple[float, float] = (0.1, 0.5),
) -> NDArray[np.int64]:
    """Number of masked patches of each crop: 0 for those that stay whole.

    Exactly ``int(n_crops * share)`` crops get a mask. Their ratios are spread evenly over `ratio`
    (the right ends of equal intervals), so that every batch has easy and hard masks.

    Returns
    -------
    (n_crops,) int array
        In random order; each is ``int(n_patches * its ratio)``.
    """
    low, high = ratio
    if not (0.0 <= share <= 1.0 and 0.0 <= low <= high <= 1.0):
        raise ValueError(
            f"Masked share {share} and ratio {low} to {high} must lie in [0, 1], "
            "the ratio in ascending order."
        )
    n_masked = int(n_crops * share)
    sizes = np.zeros(n_crops, np.int64)
    sizes[:n_masked] = (n_patches * np.linspace(low, high, n_masked + 1)[1:]).astype(np.int64)
    return rng.permutation(sizes)


def block_mask(
    rng: np.random.Generator,
    grid: tuple[int, int],
    n_masked: int,
    *,
    min_block: int = 16,
    aspect: tuple[float, float] = (0.3, 1 / 0.3),
    n_tries: int = 10,
) -> BoolArray:
    """Mask of rectangular blocks with exactly `n_masked` patches.

    Parameters
    ----------
    grid : (rows, columns)
        Patches of the crop, 28 x 28 for 224 px.
    min_block : int
        Least patches of a block; 16 of 8 px cover what 4 of 16 px do. A hole of 2 x 2 small patches
        could be guessed from the blur of the microscope alone. The last block may be smaller, to
        end exactly.
    aspect : (low, high)
        Height by width of a block, drawn evenly on the logarithm.
    n_tries : int
        After so many blocks in a row that do not fit, single patches fill the rest.

    Returns
    -------
    (rows, columns) bool array
        True where masked.
    """
    rows, columns = grid
    if not 0 <= n_masked <= rows * columns:
        raise ValueError(
            f"{n_masked} masked patches in a grid of {rows} x {columns}; expected 0 to all."
        )
    mask = np.zeros(grid, np.bool_)
    n_done = n_failed = 0
    while n_done < n_masked and n_failed < n_tries:
        n_left = n_masked - n_done
        area = rng.uniform(min(min_block, n_left), n_left)
        ratio = math.exp(rng.uniform(math.log(aspect[0]), math.log(aspect[1])))
        height, width = (
            max(1, round(math.sqrt(area * ratio))),
            max(1, round(math.sqrt(area / ratio))),
        )
        n_failed += 1
        if height > rows or width > columns:
            continue
        top = int(rng.integers(rows - height + 1))
        left = int(rng.integers(columns - width + 1))
        block = mask[top : top + height, left : left + width]
        n_new = int(block.size - np.count_nonzero(block))
        if 0 < n_new <= n_left:
            block[...] = True
            n_done, n_failed = n_done + n_new, 0
    if n_done < n_masked:
        free = np.flatnonzero(~mask)
        mask.flat[rng.choice(free, n_masked - n_done, replace=False)] = True
    return mask


def block_masks(
    seed: int,
    step: int,
    n_crops: int,
    grid: tuple[int, int],
    *,
    crops: Sequence[int] | None = None,
    share: float = 0.5,
    ratio: tuple[float, float] = (0.1, 0.5),
    min_block: int = 16,
) -> BoolArray:
    """Masks of one step, the same whichever process asks for them.

    Parameters
    ----------
    seed, step : int
        With the crop's index, they decide the mask.
    n_crops : int
        Global crops of the step over *all* processes, ordered crop index first, then field.
    grid : (rows, columns)
        Patches of a crop.
    crops : sequence of int, optional
        Indices of the crops wanted here; by default all.
    share, ratio, min_block
        See `mask_sizes` and `block_mask`.

    Returns
    -------
    (len(crops), rows * columns) bool array
        Row-major patches, as the network orders its tokens.
    """
    n_patches = grid[0] * grid[1]
    order = np.random.default_rng([seed, step, _COUNTS])
    sizes = mask_sizes(order, n_crops, n_patches, share=share, ratio=ratio)
    wanted = range(n_crops) if crops is None else crops
    masks = [
        block_mask(
            np.random.default_rng([seed, step, _BLOCKS, crop]),
            grid,
            int(sizes[crop]),
            min_block=min_block,
        )
        for crop in wanted
    ]
    return (
        np.stack(masks).reshape(len(masks), n_patches)
        if masks
        else np.zeros((0, n_patches), np.bool_)
    )


def with_visible(
    masks: BoolArray,
    seed: int,
    step: int,
    *,
    crops: Sequence[int] | None = None,
    n_if_whole: int = 0,
) -> BoolArray:
    """Patches with a cross-channel target: the masked ones and equally many that the student sees.

    A visible patch can only be predicted from the other channel's features by making the features
    independent of the channel; a masked one could also be filled in from its surroundings.

    Parameters
    ----------
    masks : (V, N) bool array
        From `block_masks`, with the same `seed`, `step` and `crops`.
    n_if_whole : int
        Visible patches to take from a crop without a mask.

    Returns
    -------
    (V, N) bool array
    """
    chosen = masks.copy()
    for row, crop in zip(chosen, range(len(masks)) if crops is None else crops, strict=True):
        free = np.flatnonzero(~row)
        n_masked = row.size - free.size
        n_visible = min(n_masked or n_if_whole, free.size)
        rng = np.random.default_rng([seed, step, _VISIBLE, crop])
        row[rng.choice(free, n_visible, replace=False)] = True
    return chosen
