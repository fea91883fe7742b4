# /// script
# requires-python = ">=3.11"
# dependencies = ["micro-sam==1.8.14", "torch>=2.13,<2.14", "numpy", "tifffile"]
# [tool.peer]
# title = "micro-sam (vit_b_lm, AIS)"
# trained-on = "LIVECell, TissueNet, DSB 2018 and further sets: our images may be among them"
# code-license = "MIT"
# weights-license = "see its entry in the BioImage model zoo"
# weights = "a folder with vit_b.pt and vit_b_decoder.pt of the zoo's model diplomatic-bug"
# ///
"""Segment Anything for Microscopy (Archit et al. 2025): automatic segmentation with its decoder."""

from importlib.metadata import version

import numpy as np
from micro_sam.automatic_segmentation import (
    automatic_instance_segmentation,
    get_predictor_and_segmenter,
)
from micro_sam.util import get_sam_model
from protocol import Labels, Peer, Pixels, Settings, serve

MODEL = "vit_b_lm"
FILES = ("vit_b.pt", "vit_b_decoder.pt")


def load(settings: Settings) -> Peer:
    """Encoder and decoder, from files: a name would be downloaded."""
    folder = settings.existing_weights(*FILES)
    predictor, state = get_sam_model(
        model_type=MODEL,
        device=settings.device,
        checkpoint_path=str(folder / FILES[0]),
        decoder_path=str(folder / FILES[1]),
        return_state=True,
    )
    predictor, segmenter = get_predictor_and_segmenter(
        MODEL, device=settings.device, segmentation_mode="ais", predictor=predictor, state=state
    )

    def segment(image: Pixels) -> Labels:
        found = automatic_instance_segmentation(
            predictor, segmenter, input_path=image, ndim=2, verbose=False
        )
        return np.asarray(found, np.int32)

    return Peer(segment, version("micro-sam"), MODEL)


if __name__ == "__main__":
    raise SystemExit(serve(load))
