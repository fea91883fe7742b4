"""Train a network on labeled images.

python -m napari_dinocell.core.train vits8 data.source=data model.encoder_weights=BACKBONE
torchrun --nproc-per-node 8 -m napari_dinocell.core.train run.yaml batch=64
"""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from napari_dinocell.core.console import run
from napari_dinocell.core.training.config import Config, load_config, shipped_configs
from napari_dinocell.core.training.loop import train


def train_command(
    config: Annotated[
        str, typer.Argument(help="YAML file, or the name of a shipped configuration.")
    ],
    overrides: Annotated[
        list[str] | None, typer.Argument(help="Settings to change: key=value or section.key=value.")
    ] = None,
    debug: Annotated[bool, typer.Option(help="Show the traceback of an error.")] = False,
) -> None:
    """Train a network; goes on from the newest good checkpoint of its folder.

    SIGTERM and Ctrl-C write a checkpoint first.
    """
    shipped = shipped_configs()
    path = shipped.get(config, Path(config))
    if not path.is_file():
        raise FileNotFoundError(
            f"There is no configuration {config}; give a YAML file or one of {', '.join(shipped)}."
        )
    train(load_config(Config, path, overrides or []))


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code."""
    return run(train_command, argv, "napari-dinocell train")


if __name__ == "__main__":
    sys.exit(main())
