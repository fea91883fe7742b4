# /// script
# requires-python = ">=3.11"
# dependencies = ["sam2==1.1.0", "torch>=2.13,<2.14", "setuptools", "numpy", "tifffile"]
# [tool.peer]
# title = "SAM 2.1 (automatic masks)"
# trained-on = "SA-1B and SA-V: everyday images and videos, no microscopy"
# code-license = "Apache-2.0"
# weights-license = "Apache-2.0"
# weights = "the checkpoint sam2.1_hiera_base_plus.pt"
# ///
"""SAM 2.1 (Ravi et al. 2024) on a grid of points, with its defaults: no training on cells at all.

Masks overlap; larger ones are drawn first, so that a cell wins over the colony that it lies in.
Masks over more than half of the image are background.
"""

from importlib.metadata import version

import numpy as np
from protocol import Labels, Peer, Pixels, Settings, rgb_uint8, serve
from sam2.automatic_mask_generator import SAM2AutomaticMaskGenerator
from sam2.build_sam import build_sam2

CONFIG = "configs/sam2.1/sam2.1_hiera_b+.yaml"


def load(settings: Settings) -> Peer:
    """A checkpoint of the size base plus."""
    weights = settings.existing_weights()
    generator = SAM2AutomaticMaskGenerator(
        build_sam2(CONFIG, str(weights), device=settings.device, apply_postprocessing=False)
    )

    def segment(image: Pixels) -> Labels:
        labels = np.zeros(image.shape[:2], np.int32)
        masks = generator.generate(rgb_uint8(image))
        masks = [mask for mask in masks if mask["area"] <= labels.size / 2]
        for number, mask in enumerate(sorted(masks, key=lambda m: -m["area"]), start=1):
            labels[mask["segmentation"]] = number
        return labels

    return Peer(segment, version("sam2"), weights.name)


if __name__ == "__main__":
    raise SystemExit(serve(load))
