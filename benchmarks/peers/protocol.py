"""What every adapter of a peer shares: read images, call the peer, write labels and times.

    python benchmarks/peers/deepsea_adapter.py IMAGES SETTINGS OUTPUT

IMAGES is a folder of TIFF files, (Y, X) or (Y, X, 3); SETTINGS a JSON file with the fields of
`Settings`. OUTPUT gets one TIFF of int32 labels per image, of the same name, and at the end
`result.json`: version and model of the peer, seconds for loading and for each image.
Exit code 3 with one sentence on stderr: the peer cannot run here, most often for want of weights.

An adapter runs in the environment of its peer, so this file needs nothing but numpy and tifffile.
The comment block at the head of an adapter ("script metadata" of the Python packaging guide) lists
what to install and what else `compare_peers.py` says about the peer.
"""

import argparse
import json
import os
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import tifffile

CANNOT_RUN = 3
Pixels = npt.NDArray[np.generic]
Labels = npt.NDArray[np.integer]
Segment = Callable[[Pixels], Labels]


class CannotRunError(Exception):
    """The peer cannot run here; the message is one sentence that says why and what to do."""


@dataclass(frozen=True)
class Settings:
    """What an adapter is told.

    Attributes
    ----------
    device : str
        Of PyTorch, where the peer uses it.
    weights : str or None
        File or folder of the model, for peers that bring none.
    data, set_name : str
        Data folder with index.csv and the set that the images are of: for methods that are tuned on
        validation images. The images themselves are in IMAGES.
    """

    device: str = "cpu"
    weights: str | None = None
    data: str = ""
    set_name: str = ""

    def existing_weights(self, *files: str) -> Path:
        """Path of the weights, in which `files` are, or a sentence that says what is missing."""
        if self.weights is None:
            raise CannotRunError("No weights were given; name them with --weights PEER=PATH.")
        path = Path(self.weights)
        for wanted in (path, *(path / name for name in files)):
            if not wanted.exists():
                raise CannotRunError(f"There are no weights at {wanted}; correct --weights.")
        return path


@dataclass(frozen=True)
class Peer:
    """A loaded peer: how it segments a plane, its version and the name of its model."""

    segment: Segment
    version: str
    model: str


def serve(load: Callable[[Settings], Peer]) -> int:
    """Run an adapter on the arguments of the command line; returns the exit code."""
    parser = argparse.ArgumentParser(description="Adapter of a peer, see benchmarks/peers.")
    parser.add_argument("images", type=Path, help="folder of TIFF files")
    parser.add_argument("settings", type=Path, help="JSON file")
    parser.add_argument("output", type=Path, help="folder of the labels and result.json")
    options = parser.parse_args()
    settings = Settings(**json.loads(options.settings.read_text(encoding="utf-8")))
    options.output.mkdir(parents=True, exist_ok=True)
    start = time.perf_counter()
    try:
        peer = load(settings)
    except CannotRunError as error:
        print(error, file=sys.stderr)
        return CANNOT_RUN
    load_seconds, seconds = time.perf_counter() - start, {}
    for path in sorted(options.images.glob("*.tif")):
        image = tifffile.imread(path)
        start = time.perf_counter()
        labels = np.asarray(peer.segment(image))
        seconds[path.stem] = time.perf_counter() - start
        if labels.shape != image.shape[:2] or labels.dtype.kind not in "iu":
            raise ValueError(
                f"{path.name} has the shape {image.shape}, its labels {labels.shape} "
                f"{labels.dtype}; an adapter must return integers of the image's size."
            )
        tifffile.imwrite(options.output / path.name, labels.astype(np.int32), compression="zlib")
    result = {
        "version": peer.version,
        "model": peer.model,
        "load_seconds": load_seconds,
        "seconds": seconds,
    }
    temporary = options.output / ".result.json"
    temporary.write_text(json.dumps(result, indent=1), encoding="utf-8")
    os.replace(temporary, options.output / "result.json")
    return 0


def gray(image: Pixels) -> npt.NDArray[np.float32]:
    """Luminance of a plane (Y, X) or (Y, X, 3), in the image's own units."""
    if image.ndim == 2:
        return image.astype(np.float32)
    return (image[..., :3] @ np.array([0.2125, 0.7154, 0.0721])).astype(np.float32)


def gray_uint8(image: Pixels) -> npt.NDArray[np.uint8]:
    """Luminance stretched between its extremes to 0..255, for peers that take nothing else."""
    plane = gray(image)
    span = float(plane.max() - plane.min()) or 1.0
    return np.round((plane - plane.min()) * (255 / span)).astype(np.uint8)


def rgb_uint8(image: Pixels) -> npt.NDArray[np.uint8]:
    """(Y, X, 3): color of 8 bits as it is, anything else as gray of three equal channels."""
    if image.ndim == 3 and image.dtype == np.uint8:
        return np.ascontiguousarray(image[..., :3], np.uint8)
    return np.repeat(gray_uint8(image)[..., np.newaxis], 3, axis=2)


def resize_labels(labels: Labels, shape: tuple[int, int]) -> Labels:
    """Labels at another size, each pixel from the nearest one."""
    rows, columns = (
        ((np.arange(new) + 0.5) * old / new).astype(int)
        for new, old in zip(shape, labels.shape, strict=True)
    )
    return labels[rows[:, np.newaxis], columns]
