"""Open a backbone to look at it: a backbone file of this project, a checkpoint, any known file."""

from pathlib import Path

from napari_dinocell.core.model.files import load_backbone
from napari_dinocell.core.model.store import SkipInitialization, read_header
from napari_dinocell.core.model.vit import VisionTransformer
from napari_dinocell.core.model.weights import load_weights
from napari_dinocell.core.pretrain.network import ENCODERS


def open_backbone(path: str | Path, encoder: str = "vits8") -> VisionTransformer:
    """Backbone in evaluation mode.

    Parameters
    ----------
    path : path
        Backbone file of this project, checkpoint of a run (its teacher), DINOv2 or DINOv3 file.
    encoder : str
        Name in `network.ENCODERS`, for files that do not tell their architecture.

    Raises
    ------
    FileNotFoundError, ModelFileError
        If it is not there or does not fit completely.
    ValueError
        If there is no such encoder.
    """
    path = Path(path)
    # Others write this word, too, but not with the JSON of a configuration.
    if path.suffix == ".safetensors" and read_header(path).get("architecture", "")[:1] == "{":
        return load_backbone(path)[0]
    if encoder not in ENCODERS:
        raise ValueError(f"There is no encoder {encoder!r}; choose one of {', '.join(ENCODERS)}.")
    with SkipInitialization():
        backbone = VisionTransformer(ENCODERS[encoder])
    load_weights(backbone, path, optional=("mask_token",))
    return backbone.eval()
