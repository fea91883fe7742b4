# /// script
# requires-python = ">=3.11"
# dependencies = [
#   "cellpose==4.0.9", "torch>=2.13,<2.14", "torchvision", "transformers", "huggingface_hub",
#   "opencv-python-headless", "scikit-image", "numpy", "pillow", "tifffile",
# ]
# [tool.peer]
# title = "dinocell"
# trained-on = "LIVECell and further sets (see its paper)"
# code-license = "MIT"
# weights-license = "see the page that its weights are from"
# weights = "the file DINOCell_demo_model.pt"
# without-requirements = ["dinocell==0.74"]
# ///
"""dinocell 0.74 (Stillwagon et al. 2026), a DINOv2 with flows; no relation of this project.

The package pins 75 versions, one of them for macOS alone, so its own requirements are not installed.
Model and pipeline are built as its `main.segment` does. Images with a side below 512 px come back
at another size and are brought back to theirs.
"""

from importlib.metadata import version

import numpy as np
import torch
from dinocell.model import DINOCell
from dinocell.pipeline import get_pipeline
from protocol import Labels, Peer, Pixels, Settings, gray_uint8, resize_labels, serve

CROP = 512


def load(settings: Settings) -> Peer:
    """Its demonstration model."""
    weights = settings.existing_weights()
    model = DINOCell(
        dino_model=None,
        decoder_type="upsample",
        objective_type="flows",
        use_dino_weights=False,
        patch_size=8,
        feat_size=64,
        crop_size=CROP,
        drop_rate=0.05,
        dropout_in_encoder=True,
    )
    model.load_state_dict(torch.load(weights, map_location="cpu", weights_only=True))
    model.eval().to(settings.device)
    pipeline = get_pipeline("flows", model, settings.device, crop_size=CROP, overlap_size=CROP // 4)

    def segment(image: Pixels) -> Labels:
        labels, _ = pipeline.run(gray_uint8(image))
        return resize_labels(np.asarray(labels, np.int32), image.shape[:2])

    return Peer(segment, version("dinocell"), weights.name)


if __name__ == "__main__":
    raise SystemExit(serve(load))
