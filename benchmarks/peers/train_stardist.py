"""Train StarDist on the training images that our models are trained on, for as long as one likes.

    python benchmarks/peers/train_stardist.py DATA MODEL --minutes 60
    python benchmarks/peers/train_stardist.py DATA MODEL --minutes 60     # goes on from there

Runs in the environment of StarDist (`compare_peers.py --prepare stardist` makes it). MODEL is the
folder of the model. Images are drawn by set as in our own training (weight: square root of the
number of images), flipped, turned by right angles, scaled and shifted in brightness. A second run
takes up the newest weights and the best validation loss; the moments of the optimizer start anew.
At the end the thresholds are tuned on validation images, never on test images.
"""

import argparse
import csv
import json
import sys
import time
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image
from protocol import Labels, Pixels
from stardist.models import Config2D, StarDist2D
from tensorflow.keras import callbacks

PERCENTILES = (1, 99.8)
Array = npt.NDArray[np.float32]


class StopAt(callbacks.Callback):
    """Ends training after some seconds, and notes the pace."""

    def __init__(self, seconds: float) -> None:
        super().__init__()
        self.seconds, self.steps = seconds, 0
        self.start = self.last = 0.0

    def on_train_batch_end(self, batch: int, logs: dict | None = None) -> None:
        """Count from the first step on, which compiles."""
        self.last = time.perf_counter()
        self.start = self.start or self.last
        self.steps += 1
        if self.last - self.start > self.seconds:
            self.model.stop_training = True

    @property
    def seconds_per_step(self) -> float:
        """Of all steps but the first, validation between them included."""
        return (self.last - self.start) / max(1, self.steps - 1)


def network_input(image: Pixels) -> Array:
    """(Y, X, 3) float32: gray repeated, percentiles of the whole image at 0 and 1."""
    plane = np.asarray(image, np.float32)
    if plane.ndim == 2:
        plane = np.repeat(plane[..., np.newaxis], 3, axis=2)
    low, high = np.percentile(plane, PERCENTILES)
    return (plane - low) / max(high - low, 1e-6)


def read_split(data: Path, split: str) -> list[tuple[str, Array, Labels]]:
    """(set, input, labels) of all images that may be trained on."""
    with open(data / "index.csv", newline="", encoding="utf-8") as file:
        rows = [row for row in csv.DictReader(file) if row["split"] == split]
    rows = [row for row in rows if row["train_allowed"] == "yes"]
    pairs = []
    for row in rows:
        with Image.open(data / row["image"]) as image, Image.open(data / row["label"]) as labels:
            pairs.append((row["set"], np.asarray(image), np.asarray(labels).astype(np.int32)))
    return [(name, network_input(image), labels) for name, image, labels in pairs]


def by_weight(images: list[tuple[str, Array, Labels]]) -> list[tuple[str, Array, Labels]]:
    """Images of small sets repeated, so that a set's share is the root of its number of images."""
    names = [name for name, _, _ in images]
    largest = max(names.count(name) for name in names)
    return [item for item in images for _ in range(round((largest / names.count(item[0])) ** 0.5))]


class Augment:
    """Flips, turns by right angles, scales and shifts brightness."""

    def __init__(self, seed: int) -> None:
        self.rng = np.random.default_rng(seed)

    def __call__(self, x: Array, y: Labels) -> tuple[Array, Labels]:
        """One patch (Y, X, 3) and its labels (Y, X)."""
        turns = self.rng.integers(4)
        x, y = np.rot90(x, turns), np.rot90(y, turns)
        if self.rng.random() < 0.5:
            x, y = x[:, ::-1], y[:, ::-1]
        return x * self.rng.uniform(0.6, 1.6) + self.rng.uniform(-0.2, 0.2), y


def open_model(folder: Path, patch: int) -> StarDist2D:
    """The model in `folder` with its newest weights, or a new one."""
    if (folder / "config.json").is_file():
        model = StarDist2D(None, name=folder.name, basedir=str(folder.parent))
        if (folder / "weights_last.h5").is_file():
            model.load_weights("weights_last.h5")
        return model
    config = Config2D(
        n_rays=32,
        grid=(2, 2),
        n_channel_in=3,
        train_patch_size=(patch, patch),
        train_batch_size=4,
        train_steps_per_epoch=50,
        train_learning_rate=3e-4,
        train_tensorboard=False,
    )
    return StarDist2D(config, name=folder.name, basedir=str(folder.parent))


def train(options: argparse.Namespace) -> dict[str, float]:
    """Train for the time given, tune the thresholds; figures of this run."""
    images, held_out = read_split(options.data, "train"), read_split(options.data, "val")
    patch = 256
    images = by_weight([item for item in images if min(item[2].shape) >= patch])
    validation = [item for item in held_out if min(item[2].shape) >= patch]
    model = open_model(options.model, patch)
    model.prepare_for_training()
    state = options.model / "state.json"
    before = json.loads(state.read_text()) if state.is_file() else {"steps": 0, "best": None}
    seed = options.seed + before["steps"]
    checkpoints = [c for c in model.callbacks if isinstance(c, callbacks.ModelCheckpoint)]
    best = next(c for c in checkpoints if c.save_best_only)
    if before["best"] is not None:
        best.best = before["best"]
    stop = StopAt(60 * options.minutes)
    model.callbacks.append(stop)
    model.train(
        [x for _, x, _ in images],
        [y for _, _, y in images],
        validation_data=([x for _, x, _ in validation], [y for _, _, y in validation]),
        augmenter=Augment(seed),
        seed=seed,
        epochs=options.epochs,
    )
    after = {"steps": before["steps"] + stop.steps, "best": float(best.best)}
    state.write_text(json.dumps(after))
    tuning = validation[:: max(1, len(validation) // options.tuning_images)]
    model.optimize_thresholds([x for _, x, _ in tuning], [y for _, _, y in tuning])
    return after | {"seconds_per_step": stop.seconds_per_step}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path, help="data folder with index.csv")
    parser.add_argument("model", type=Path, help="folder of the model; goes on if it is there")
    parser.add_argument("--minutes", type=float, default=60)
    parser.add_argument("--epochs", type=int, default=400, help="at most, of 50 steps each")
    parser.add_argument("--tuning-images", type=int, default=30, help="for the thresholds")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    options.model = options.model.resolve()
    figures = train(options)
    print(json.dumps(figures))
    return 0


if __name__ == "__main__":
    sys.exit(main())
