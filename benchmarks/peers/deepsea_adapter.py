# /// script
# requires-python = ">=3.11"
# dependencies = ["deepsea==0.0.3", "torch>=2.13,<2.14", "numpy", "scipy", "pillow", "tifffile"]
# [tool.peer]
# title = "DeepSea"
# trained-on = "its own phase-contrast images of stem cells and muscle cells"
# code-license = "MIT"
# weights-license = "MIT (in the wheel)"
# ///
"""DeepSea (Zargari et al. 2023): a small U-Net for phase contrast; its weights are in the package.

Sizes, scaling and clean-up are those of `deepsea.test_single_image_segmentation`, without its
imports of OpenCV and torchvision: 383 x 512 px, gray between its extremes, components of at least
20 px.
"""

from importlib.metadata import version
from importlib.resources import files

import numpy as np
import torch
from deepsea.model import DeepSeaSegmentation
from PIL import Image
from protocol import Labels, Peer, Pixels, Settings, gray_uint8, resize_labels, serve
from scipy import ndimage

HEIGHT, WIDTH = 383, 512
MIN_AREA = 20


def load(settings: Settings) -> Peer:
    """Weights of the wheel."""
    network = DeepSeaSegmentation(n_channels=1, n_classes=2, bilinear=True)
    with (files("deepsea.trained_models") / "segmentation.pth").open("rb") as file:
        tensors = torch.load(file, map_location="cpu", weights_only=True)
    network.load_state_dict(tensors)
    network.eval().to(settings.device)

    def segment(image: Pixels) -> Labels:
        small = Image.fromarray(gray_uint8(image)).resize(
            (WIDTH, HEIGHT), Image.Resampling.BILINEAR
        )
        x = torch.from_numpy(np.asarray(small, np.float32) / 255 - 0.5) / 0.5
        with torch.inference_mode():
            scores, _ = network(x[None, None].to(settings.device))
        labels, _ = ndimage.label(scores.argmax(1)[0].cpu().numpy() > 0)
        keep = np.bincount(labels.ravel()) >= MIN_AREA
        labels = np.where(keep[labels], labels, 0)
        return resize_labels(labels, image.shape[:2])

    return Peer(segment, version("deepsea"), "segmentation.pth")


if __name__ == "__main__":
    raise SystemExit(serve(load))
