# /// script
# requires-python = ">=3.11"
# dependencies = ["cellpose==4.2.1.1", "torch>=2.13,<2.14", "numpy", "tifffile"]
# [tool.peer]
# title = "Cellpose-SAM"
# trained-on = "the Cellpose, Omnipose, LIVECell and further sets (see its paper)"
# code-license = "BSD-3-Clause"
# weights-license = "trained on CC BY-NC data (its README)"
# weights = "the file cpsam_v2 that cellpose keeps in ~/.cellpose/models"
# ///
"""Cellpose 4 (Pachitariu et al. 2025) with its defaults: no diameter, whole-image percentiles."""

from importlib.metadata import version

import numpy as np
import torch
from cellpose.models import CellposeModel
from protocol import Labels, Peer, Pixels, Settings, serve


def load(settings: Settings) -> Peer:
    """A file of weights; a name would be downloaded."""
    weights = settings.existing_weights()
    # Half precision is emulated on most CPUs.
    on_gpu = settings.device != "cpu"
    model = CellposeModel(
        pretrained_model=str(weights),
        device=torch.device(settings.device),
        use_bfloat16=on_gpu,
    )

    def segment(image: Pixels) -> Labels:
        masks, *_ = model.eval(image, channel_axis=2 if image.ndim == 3 else None)
        return np.asarray(masks, np.int32)

    return Peer(segment, version("cellpose"), weights.name)


if __name__ == "__main__":
    raise SystemExit(serve(load))
