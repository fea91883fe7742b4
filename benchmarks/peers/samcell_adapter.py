# /// script
# requires-python = ">=3.11"
# dependencies = ["samcell==1.2.0", "torch>=2.13,<2.14", "numpy", "tifffile"]
# [tool.peer]
# title = "SAMCell"
# trained-on = "LIVECell and the Cellpose images (generalist)"
# code-license = "MIT"
# weights-license = "see the page that its weights are from"
# weights = "a SAMCell checkpoint (.pt or .safetensors); facebook/sam-vit-base must lie in the local Hugging Face cache"
# ///
"""SAMCell (VandeLoo, Malta et al. 2025) at its thresholds 0.47 and 0.09.

Its `run` returns an empty image when something fails, and wraps 16-bit values; so its two steps are
called here, on gray values of 8 bits.
"""

import os
from importlib.metadata import version

# Before transformers is imported: nothing is downloaded.
os.environ["HF_HUB_OFFLINE"] = "1"

import numpy as np
from protocol import CannotRunError, Labels, Peer, Pixels, Settings, gray_uint8, serve
from samcell import FinetunedSAM, SlidingWindowPipeline


def load(settings: Settings) -> Peer:
    """The checkpoint, on the SAM of the local cache."""
    weights = settings.existing_weights()
    try:
        model = FinetunedSAM("facebook/sam-vit-base")
        model.load_weights(str(weights), map_location=settings.device)
        pipeline = SlidingWindowPipeline(model, settings.device, crop_size=256)
    except OSError as error:
        raise CannotRunError(
            "facebook/sam-vit-base is not in the local Hugging Face cache; put it there."
        ) from error

    def segment(image: Pixels) -> Labels:
        distances = pipeline.predict_on_full_img(gray_uint8(image))
        return np.asarray(pipeline.cells_from_dist_map(distances), np.int32)

    return Peer(segment, version("samcell"), weights.name)


if __name__ == "__main__":
    raise SystemExit(serve(load))
