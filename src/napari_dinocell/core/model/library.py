"""The user's own library: encoders that adapted models need, kept by the hash of their weights.

An adapted model holds only a decoder. Its encoder may come with the package, and then an upgrade of
the package may bring another one; the copy here lasts.
"""

from __future__ import annotations

import os
from pathlib import Path

import platformdirs

from napari_dinocell.core.model.network import DINOCell
from napari_dinocell.core.model.store import halve_matrices, tensors_sha256, write_safetensors

HOME_VARIABLE = "NAPARI_DINOCELL_HOME"
"""Environment variable with another folder for the library."""


def library_folder() -> Path:
    """Folder of the user's models; it need not exist."""
    given = os.environ.get(HOME_VARIABLE)
    home = Path(given) if given else platformdirs.user_data_path("napari-dinocell")
    return home / "models"


def encoder_path(sha256: str) -> Path:
    """Where the encoder with this hash is kept."""
    return library_folder() / "encoders" / f"{sha256}.safetensors"


def keep_encoder(network: DINOCell) -> Path:
    """Copy a network's encoder into the library unless it is there; return its path.

    Raises
    ------
    OSError
        If the folder cannot be written to.
    """
    state = network.encoder.state_dict()
    sha256 = tensors_sha256(state)
    path = encoder_path(sha256)
    if path.is_file():
        return path
    halved = halve_matrices(state)
    # Bundled encoders come from float16 and lose nothing; one that was trained here would.
    write_safetensors(
        path, halved if tensors_sha256(halved) == sha256 else state, {"sha256": sha256}
    )
    return path
