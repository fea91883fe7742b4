"""Pre-train a backbone on multi-channel fields without labels.

python -m napari_dinocell.core.train_ssl ssl_1gpu data.sources=[manifest.parquet] model.weights=BACKBONE
torchrun --standalone --nproc-per-node 8 -m napari_dinocell.core.train_ssl ssl_8gpu out=runs/ssl
"""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from napari_dinocell.core.console import run
from napari_dinocell.core.pretrain.config import SSLConfig
from napari_dinocell.core.pretrain.estimate import estimate
from napari_dinocell.core.pretrain.loop import pretrain
from napari_dinocell.core.training.config import load_config, shipped_configs


def train_ssl_command(
    config: Annotated[
        str, typer.Argument(help="YAML file, or the name of a shipped configuration (ssl_...).")
    ],
    overrides: Annotated[
        list[str] | None, typer.Argument(help="Settings to change: key=value or section.key=value.")
    ] = None,
    dry_run: Annotated[
        bool, typer.Option(help="Measure a few steps and print what the run would need.")
    ] = False,
    debug: Annotated[bool, typer.Option(help="Show the traceback of an error.")] = False,
) -> None:
    """Pre-train a backbone; goes on from the newest good checkpoint of its folder.

    SIGTERM and Ctrl-C write a checkpoint first.
    """
    shipped = shipped_configs(self_supervised=True)
    path = shipped.get(config, Path(config))
    if not path.is_file():
        raise FileNotFoundError(
            f"There is no configuration {config}; give a YAML file or one of {', '.join(shipped)}."
        )
    settings = load_config(SSLConfig, path, overrides or [])
    if dry_run:
        found = estimate(settings)
        if found is not None:  # in the main process
            typer.echo(found)
    else:
        pretrain(settings)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code."""
    return run(train_ssl_command, argv, "napari-dinocell train-ssl")


if __name__ == "__main__":
    sys.exit(main())
