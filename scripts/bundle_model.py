"""Put a trained model among those that come with the package.

python scripts/bundle_model.py runs/vits8/vits8.safetensors --backbone vits8-backbone
python scripts/bundle_model.py runs/small/small.safetensors

Scores of single images and folders of this machine are left out of the card. With --backbone, a model
whose transformer was trained along is divided into a backbone file and a decoder that names it.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated

import typer

import napari_dinocell
from napari_dinocell.core.model.card import ModelCard
from napari_dinocell.core.model.files import load_backbone, load_model, save_backbone, save_model
from napari_dinocell.core.model.store import read_header
from napari_dinocell.core.model.vit import VisionTransformer

FOLDER = Path(napari_dinocell.__file__).parent / "resources" / "models"


def main(
    model: Annotated[Path, typer.Argument(help="model file of a training run")],
    backbone: Annotated[str | None, typer.Option(help="name of the backbone file")] = None,
    about: Annotated[list[str] | None, typer.Option(help="KEY=TEXT for its header")] = None,
) -> None:
    """Write the model's file, and its backbone's, into the package."""
    network, card = load_model(model)
    out = FOLDER / f"{card.name}.safetensors"
    if backbone is not None:
        if not isinstance(network.encoder, VisionTransformer):
            raise typer.BadParameter(f"The encoder of {model.name} is no transformer.")
        path = FOLDER / f"{backbone}.safetensors"
        known = read_header(path) if path.is_file() else {}
        header = {key: text for key, text in known.items() if key != "architecture"}
        header |= dict(pair.split("=", 1) for pair in about or ())
        reference = save_backbone(path, network.encoder, header)
        # Half precision rounds: the decoder is saved beside what will be read.
        network.encoder = load_backbone(path)[0]
        card = card.model_copy(update={"backbone": reference})
        print(f"{path.name}: {path.stat().st_size / 1e6:.1f} MB, {reference.sha256}")
    save_model(out, network, cleaned(card))
    print(f"{out.name}: {out.stat().st_size / 1e6:.1f} MB")


def cleaned(card: ModelCard) -> ModelCard:
    """The card without the scores of single images and with DATA for the data folder."""
    scores = dict(card.scores)
    if "validation" in scores:
        scores["validation"] = {k: v for k, v in scores["validation"].items() if k != "images"}
    # A manifest stays: the documentation shows what is in it.
    command = re.sub(r"(data\.(?:source|validation))=(?!\S+\.ya?ml)\S+", r"\1=DATA", card.command)
    return card.model_copy(update={"scores": scores, "command": command})


if __name__ == "__main__":
    typer.run(main)
