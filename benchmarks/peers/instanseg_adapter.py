# /// script
# requires-python = ">=3.11"
# dependencies = ["instanseg-torch==0.1.2", "torch>=2.13,<2.14", "numpy", "tifffile"]
# [tool.peer]
# title = "InstanSeg"
# trained-on = "TissueNet, CPDMI and further sets, or TNBC and further sets (by model)"
# code-license = "Apache-2.0"
# weights-license = "Apache-2.0 (its model index)"
# weights = "a folder with fluorescence_nuclei_and_cells.pt and brightfield_nuclei.pt, each the instanseg.pt of that model"
# ///
"""InstanSeg (Goldsborough et al. 2024): color goes to its brightfield model, gray to fluorescence.

Pixel sizes are not told, as to no other method, so images are not rescaled to what it was trained at.
"""

from importlib.metadata import version

import numpy as np
import torch
from instanseg import InstanSeg
from protocol import Labels, Peer, Pixels, Settings, serve

FILES = ("fluorescence_nuclei_and_cells.pt", "brightfield_nuclei.pt")


def load(settings: Settings) -> Peer:
    """Both models, from files: a name would be downloaded."""
    folder = settings.existing_weights(*FILES)
    gray_model, color_model = (
        InstanSeg(torch.jit.load(folder / name), device=settings.device, verbosity=0)
        for name in FILES
    )

    def segment(image: Pixels) -> Labels:
        model = color_model if image.ndim == 3 else gray_model
        found = model.eval_small_image(
            image, pixel_size=None, return_image_tensor=False, target="nuclei"
        )
        return found.squeeze().cpu().numpy().astype(np.int32)

    return Peer(segment, version("instanseg-torch"), " / ".join(FILES))


if __name__ == "__main__":
    raise SystemExit(serve(load))
