# /// script
# requires-python = ">=3.11"
# dependencies = ["stardist==0.9.2", "tensorflow-cpu==2.21.0", "numpy", "tifffile", "pillow"]
# [tool.peer]
# title = "StarDist, trained on our images"
# trained-on = "the training images that our models are trained on"
# code-license = "BSD-3-Clause"
# weights-license = "made by benchmarks/peers/train_stardist.py"
# weights = "the folder that benchmarks/peers/train_stardist.py made"
# ///
"""StarDist 2D (Schmidt et al. 2018), a model that `train_stardist.py` made of our training images.

Its thresholds are those that the training script tuned on validation images.
"""

from importlib.metadata import version

import numpy as np
from protocol import Labels, Peer, Pixels, Settings, serve
from stardist.models import StarDist2D
from train_stardist import network_input


def load(settings: Settings) -> Peer:
    """Best weights of the training run and its thresholds."""
    folder = settings.existing_weights("config.json", "weights_best.h5", "thresholds.json")
    model = StarDist2D(None, name=folder.name, basedir=str(folder.parent))

    def segment(image: Pixels) -> Labels:
        labels, _ = model.predict_instances(network_input(image), show_tile_progress=False)
        return np.asarray(labels, np.int32)

    return Peer(segment, version("stardist"), folder.name)


if __name__ == "__main__":
    raise SystemExit(serve(load))
