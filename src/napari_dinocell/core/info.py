"""Measured size and cost of a model, and its card: `python -m napari_dinocell.core.info [MODEL]`."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Annotated

import torch
import typer
from rich.console import Console
from rich.table import Table
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from napari_dinocell.core import console
from napari_dinocell.core.model.files import ModelCard, bundled_models, load_model
from napari_dinocell.core.model.network import DINOCell


@dataclass(frozen=True)
class NetworkCost:
    """Size and arithmetic of a network for one window.

    Operations are multiplications and additions counted apart (2 per multiply-add), of
    convolutions, matrix products and attention.
    """

    window: int
    encoder_parameters: int
    decoder_parameters: int
    encoder_gflop: float
    decoder_gflop: float


def measure_cost(network: DINOCell, window: int = 256) -> NetworkCost:
    """Count the parameters of a network, and the operations of one `window` x `window` plane."""
    parameter = next(network.parameters())
    plane = torch.zeros(1, 1, window, window, device=parameter.device)
    was_training = network.training
    network.eval()
    # The fused CPU attention is invisible to the counter; the plain one is the same arithmetic.
    with torch.inference_mode(), sdpa_kernel(SDPBackend.MATH):
        with FlopCounterMode(display=False) as encoder:
            features = network.features(plane)
        with FlopCounterMode(display=False) as decoder:
            network.decode(features, plane)
    network.train(was_training)
    return NetworkCost(
        window=window,
        encoder_parameters=_n_parameters(network.encoder),
        decoder_parameters=_n_parameters(network.decoder),
        encoder_gflop=encoder.get_total_flops() / 1e9,
        decoder_gflop=decoder.get_total_flops() / 1e9,
    )


def render(card: ModelCard, cost: NetworkCost) -> Table:
    """Table of a model for the terminal."""
    table = Table(title=f"{card.name} {card.version}", show_header=False, title_justify="left")
    rows = {
        "encoder": f"{cost.encoder_parameters / 1e6:.2f} M parameters, "
        f"{cost.encoder_gflop:.1f} GFLOP per {cost.window} px window",
        "decoder": f"{cost.decoder_parameters / 1e6:.2f} M parameters, "
        f"{cost.decoder_gflop:.1f} GFLOP",
    }
    rows |= {
        key: value if isinstance(value, str) else json.dumps(value)
        for key, value in card.model_dump(mode="json", exclude={"name", "version"}).items()
        if value not in (None, "", [], {})
    }
    for key, value in rows.items():
        table.add_row(key, value)
    return table


def info(
    model: Annotated[
        str | None, typer.Argument(help="Bundled name or model file; without it, all bundled.")
    ] = None,
    window: Annotated[int, typer.Option(help="Side of the window in px, a multiple of 8.")] = 256,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")] = False,
    debug: Annotated[bool, typer.Option(help="Show tracebacks.")] = False,
) -> int:
    """Print measured size and cost of models, and their cards."""
    names = [model] if model else list(bundled_models())
    if not names:
        raise ValueError(
            "No model is bundled with this installation; give the path of a model file."
        )
    found = {}
    for name in names:
        network, card = load_model(name)
        cost = measure_cost(network, window)
        found[name] = {"cost": asdict(cost), "card": card.model_dump(mode="json")}
        if not as_json:
            Console().print(render(card, cost))
    if as_json:
        typer.echo(json.dumps(found, indent=2))
    return console.DONE


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code."""
    return console.run(info, argv, "napari-dinocell info")


def _n_parameters(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


if __name__ == "__main__":
    sys.exit(main())
