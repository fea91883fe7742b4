# /// script
# requires-python = ">=3.11"
# dependencies = ["cellvit==1.0.9", "torch>=2.13,<2.14", "torchvision", "tifffile"]
# [tool.peer]
# title = "CellViT"
# trained-on = "PanNuke: nuclei in H&E at 0.25 um per px"
# code-license = "Apache-2.0 with Commons Clause"
# weights-license = "as the code, trained on CC BY-NC-SA data"
# weights = "the file CellViT-256-x40-AMP.pth or CellViT-SAM-H-x40-AMP.pth"
# constraints = false
# ///
"""CellViT (Hörst et al. 2024), made for H&E; gray images go in as gray of three channels.

Its command wants whole slides; here its network and its `calculate_instance_map` see one padded
plane, at the magnification of its training. It needs numpy 1, which our constraints exclude.
"""

from importlib.metadata import version

import numpy as np
import torch
from cellvit.models.cell_segmentation.cellvit_256 import CellViT256
from cellvit.models.cell_segmentation.cellvit_sam import CellViTSAM
from cellvit.utils.tools import unflatten_dict
from protocol import Labels, Peer, Pixels, Settings, rgb_uint8, serve

MULTIPLE = 32


def load(settings: Settings) -> Peer:
    """A checkpoint of either backbone."""
    weights = settings.existing_weights()
    checkpoint = torch.load(weights, map_location="cpu", weights_only=True)
    config = unflatten_dict(checkpoint["config"], ".")
    classes = {
        "num_nuclei_classes": config["data"]["num_nuclei_classes"],
        "num_tissue_classes": config["data"]["num_tissue_classes"],
        "regression_loss": config["model"].get("regression_loss", False),
    }
    if checkpoint["arch"] == "CellViTSAM":
        structure = config["model"]["backbone"]
        network = CellViTSAM(model_path=None, vit_structure=structure, **classes)
    else:
        network = CellViT256(model256_path=None, **classes)
    network.load_state_dict(checkpoint["model_state_dict"])
    network.eval().to(settings.device)

    def segment(image: Pixels) -> Labels:
        height, width = image.shape[:2]
        border = ((0, -height % MULTIPLE), (0, -width % MULTIPLE), (0, 0))
        padded = np.pad(rgb_uint8(image), border, mode="symmetric")
        x = torch.from_numpy(padded).permute(2, 0, 1)[None] / 255
        with torch.inference_mode():
            maps = network(((x - 0.5) / 0.5).to(settings.device))
            for name in ("nuclei_binary_map", "nuclei_type_map"):
                maps[name] = maps[name].softmax(1)
            instances, _ = network.calculate_instance_map(maps, magnification=40)
        return np.asarray(instances[0].cpu()).astype(np.int32)[:height, :width]

    return Peer(segment, version("cellvit"), weights.name)


if __name__ == "__main__":
    raise SystemExit(serve(load))
