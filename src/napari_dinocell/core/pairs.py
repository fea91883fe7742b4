"""Label files of two folders, matched by name, and the label images inside them."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_dinocell.core.errors import ImageFileError
from napari_dinocell.core.evaluation import Evaluation, ScoredImage, summarize
from napari_dinocell.core.images import read_image
from napari_dinocell.core.metrics import score_image
from napari_dinocell.core.worklist import Source, collect, stem

# What programs add to an image's name when they write its labels: ours, Cellpose, by hand.
_ENDING = re.compile(r"[ _-](cp_masks|labels?|masks?|seg|segmentation|gt)$", re.IGNORECASE)
# Cell Tracking Challenge: man_seg007.tif is the reference of mask007.tif.
_CHALLENGE = re.compile(r"^(man_seg_?|mask|man_track)(?=\d+)")


@dataclass(frozen=True)
class Pair:
    """Reference and prediction of one image; `name` is what their paths have in common."""

    name: str
    true: Path
    pred: Path


def pair_folders(true: str | Path, pred: str | Path) -> list[Pair]:
    """Match every reference file with the prediction of the same name.

    Names are compared without extension and without a closing `_labels`, `_masks` and the like;
    folders inside the folders count. Predictions without a reference are left out.

    Parameters
    ----------
    true, pred : path
        Folders or files. Two files form a pair whatever their names.

    Returns
    -------
    list of Pair
        Sorted by name, not empty.

    Raises
    ------
    FileNotFoundError
        If a folder is not there, holds no label file, or a reference has no prediction.
    ValueError
        If both are the same, or two files of a folder have one name.
    """
    true, pred = Path(true), Path(pred)
    for kind, path in (("reference", true), ("predicted", pred)):
        if not path.exists():
            raise FileNotFoundError(f"There is no {path}; give the folder of the {kind} labels.")
    if true.resolve() == pred.resolve():
        raise ValueError(f"Reference and predicted labels are both {true}; give two folders.")
    trues, preds = (_by_name(path) for path in (true, pred))
    if len(trues) == len(preds) == 1 and _is_one_file(true) and _is_one_file(pred):
        (name,) = trues
        return [Pair(name, trues[name], *preds.values())]
    absent = sorted(set(trues) - set(preds))
    if absent:
        raise FileNotFoundError(
            f"{len(absent)} of {len(trues)} reference images have no prediction in {pred}: "
            f"{_listed(absent)}; add them, or take their references out."
        )
    return [Pair(name, trues[name], preds[name]) for name in sorted(trues)]


def read_label_images(path: Path, axes: str | None = None) -> list[NDArray[np.integer[Any]]]:
    """Label images of one file: one per time point, (Y, X) or (Z, Y, X).

    Parameters
    ----------
    path : Path
    axes : str, optional
        Names of the axes where the file doesn't say them, for example "TYX".

    Raises
    ------
    FileNotFoundError, ImageFileError
        No such file, it can't be read, or its pixels are not one integer each.
    """
    image = read_image(path, axes=axes)
    array, letters = np.asarray(image.array[...]), image.axes
    for letter in "SC":
        if letter in letters and array.shape[letters.index(letter)] == 1:
            array = array.squeeze(letters.index(letter))
            letters = letters.replace(letter, "")
    if "S" in letters or "C" in letters or array.dtype.kind not in "iub":
        raise ImageFileError(
            f"{path} has shape {array.shape}, axes {image.axes} and type {array.dtype}; labels "
            "are one integer per pixel, 0 for background."
        )
    order = [letters.index(letter) for letter in "TZYX" if letter in letters]
    array = array.transpose(order)
    return list(array) if "T" in letters else [array]


def score_folders(
    true: str | Path, pred: str | Path, *, axes: str | None = None, seed: int = 0
) -> Evaluation:
    """Score every pair of label files; folders inside the folders are reported as sets.

    Parameters
    ----------
    true, pred : path
        See `pair_folders`.
    axes : str, optional
        See `read_label_images`. Time points count as images.
    seed : int
        Of the bootstrap intervals.

    Raises
    ------
    FileNotFoundError, ValueError
        As `pair_folders` and `read_label_images`, and where the two label images of a pair differ
        in shape or number; the sentence names the pair.
    """
    images = []
    for pair in pair_folders(true, pred):
        trues, preds = (read_label_images(path, axes) for path in (pair.true, pair.pred))
        if len(trues) != len(preds):
            raise ValueError(
                f"{pair.name}: the reference has {len(trues)} time points, the prediction "
                f"{len(preds)}; give labels of the same image."
            )
        folder = Path(pair.name).parent.as_posix()
        set_name = Path(true).stem if folder == "." else folder
        for time, (reference, prediction) in enumerate(zip(trues, preds, strict=True)):
            try:
                score = score_image(reference, prediction)
            except (TypeError, ValueError) as error:
                raise ValueError(f"{pair.name}: {error}") from error
            name = pair.name if len(trues) == 1 else f"{pair.name}[{time}]"
            images.append(ScoredImage(name, set_name, score))
    return summarize(images, seed=seed)


def _by_name(path: Path) -> dict[str, Path]:
    named: dict[str, list[Path]] = {}
    for source in collect([path], recursive=True):
        named.setdefault(_name(source), []).append(source.path)
    return {name: _the_labels(name, files) for name, files in named.items()}


def _the_labels(name: str, files: Sequence[Path]) -> Path:
    """The only file of a name; of image and labels side by side, the labels."""
    marked = [file for file in files if _bare(file) != stem(file)]
    chosen = files if len(files) == 1 else marked
    if len(chosen) != 1:
        raise ValueError(
            f"{_listed([file.name for file in files])} in {files[0].parent} are all named {name}; "
            "keep one of them."
        )
    return chosen[0]


def _name(source: Source) -> str:
    return (source.folder / _bare(source.path)).as_posix()


def _bare(path: Path) -> str:
    return _CHALLENGE.sub("", _ENDING.sub("", stem(path)))


def _is_one_file(path: Path) -> bool:
    return path.is_file() or path.suffix.lower() == ".zarr"


def _listed(names: Sequence[str], most: int = 3) -> str:
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more
