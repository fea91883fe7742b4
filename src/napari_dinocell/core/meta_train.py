"""Meta-learn a decoder that adapts to new cells in few steps (Reptile; a research command).

python -m napari_dinocell.core.meta_train meta.yaml
python -m napari_dinocell.core.meta_train meta.yaml model=vits8 inner.steps=5 out=runs/meta-vits8
"""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from napari_dinocell.core.console import run
from napari_dinocell.core.training.config import load_config
from napari_dinocell.core.training.meta_config import MetaConfig
from napari_dinocell.core.training.meta_loop import meta_train


def meta_train_command(
    config: Annotated[
        Path, typer.Argument(help="YAML file; name, out and data.source are the least.")
    ],
    overrides: Annotated[
        list[str] | None, typer.Argument(help="Settings to change: key=value or section.key=value.")
    ] = None,
    debug: Annotated[bool, typer.Option(help="Show the traceback of an error.")] = False,
) -> None:
    """Meta-learn the decoder of a model; goes on from the newest good checkpoint of its folder.

    SIGTERM and Ctrl-C write a checkpoint first.
    """
    meta_train(load_config(MetaConfig, config, overrides or []))


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code."""
    return run(meta_train_command, argv, "python -m napari_dinocell.core.meta_train")


if __name__ == "__main__":
    sys.exit(main())
