"""Train a network on labeled images.

Run it as::

    python -m napari_dinocell.core.train vits8 data.source=DATA out=runs/vits8
    torchrun --nproc-per-node 8 -m napari_dinocell.core.train config.yaml batch=64
"""

import logging
import sys
from pathlib import Path
from typing import Annotated

import typer

from napari_dinocell.core.errors import Cancelled
from napari_dinocell.core.training.config import Config, load_config, shipped_configs
from napari_dinocell.core.training.loop import train

app = typer.Typer(add_completion=False)


@app.command()
def main(
    config: Annotated[
        str, typer.Argument(help="YAML file, or the name of a shipped configuration.")
    ],
    overrides: Annotated[list[str] | None, typer.Argument(help="section.key=value")] = None,
) -> None:
    """Train a network on labeled images; goes on from the newest checkpoint of its folder."""
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    try:
        path = shipped_configs().get(config, Path(config))
        model = train(load_config(Config, path, overrides or []))
    except Cancelled as stop:
        typer.echo(str(stop), err=True)
        raise typer.Exit(130) from stop
    except (ValueError, FileNotFoundError, FloatingPointError, ImportError) as error:
        typer.echo(str(error), err=True)
        raise typer.Exit(2) from error
    typer.echo(str(model))


if __name__ == "__main__":
    app()
