"""The backbone of a run that segmented best so far, in a file: the last one need not be the best."""

from pathlib import Path

from napari_dinocell.core.model.files import save_backbone
from napari_dinocell.core.model.store import read_header
from napari_dinocell.core.model.vit import VisionTransformer


def best_path(out: str | Path, name: str) -> Path:
    """Where the best backbone of the run `name` in the folder `out` lies."""
    return Path(out) / f"{name}-best.safetensors"


def keep_best(path: Path, backbone: VisionTransformer, score: float, step: int) -> bool:
    """Write a backbone if it scores higher than the one in the file; whether it does.

    Parameters
    ----------
    score : float
        OP_CSB of the probe. It stands in the file, so that a run that goes on knows it.
    step : int
        Steps done, for the file's header.
    """
    if path.is_file() and float(read_header(path)["OP_CSB"]) >= score:
        return False
    save_backbone(path, backbone, {"OP_CSB": repr(score), "step": str(step)})
    return True
