# /// script
# requires-python = ">=3.11"
# dependencies = []
# [tool.peer]
# title = "Otsu + watershed"
# trained-on = "nothing; three parameters tuned per set on its validation images"
# code-license = "BSD-3-Clause (this project)"
# weights-license = "none"
# environment = "project"
# ///
"""The classical baseline of `benchmarks/classical.py`, tuned per set; runs in our own environment.

A set without validation images takes the parameters of `FALLBACK`.
"""

import sys
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path

from protocol import Labels, Peer, Pixels, Settings, serve

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import classical

from napari_dinocell.core.training.readers import read_index

FALLBACK = "dsb2018_fluo"


def load(settings: Settings) -> Peer:
    """Tune on validation images, which takes some seconds for each."""
    try:
        images = read_index(settings.data, "val", sets=[settings.set_name], for_training=False)
    except ValueError:  # the set has no validation images
        images = read_index(settings.data, "val", sets=[FALLBACK], for_training=False)
    (parameters,) = classical.tune(images).values()

    def segment(image: Pixels) -> Labels:
        return classical.segment(image, parameters)

    name = ", ".join(f"{key} {value}" for key, value in asdict(parameters).items())
    return Peer(segment, f"scikit-image {version('scikit-image')}", name)


if __name__ == "__main__":
    raise SystemExit(serve(load))
