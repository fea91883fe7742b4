"""List, import, rename, delete and export models: `python -m napari_dinocell.core.models`."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from napari_dinocell.core import console
from napari_dinocell.core.model.manage import (
    delete_model,
    import_model,
    installed,
    rename_model,
    write_model,
)
from napari_dinocell.core.model.own import own_folder
from napari_dinocell.core.packages import write_bioimageio, write_onnx

FORMATS: dict[str, Callable[[str, Path], object]] = {
    "file": write_model,
    "onnx": write_onnx,
    "bioimageio": write_bioimageio,
}
_USES = {
    "list": "",
    "import": "FILE",
    "rename": "NAME NEW",
    "delete": "NAME",
    "export": "NAME",
}


def models(
    action: Annotated[str, typer.Argument(help="list, import, rename, delete or export")] = "list",
    words: Annotated[
        list[str] | None, typer.Argument(help="FILE; NAME and NEW; NAME; NAME", show_default=False)
    ] = None,
    name: Annotated[str | None, typer.Option(help="Name of the imported model.")] = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="File to export to.")
    ] = None,
    format_: Annotated[
        str, typer.Option("--format", help=f"Of the export: {', '.join(FORMATS)}.")
    ] = "file",
    as_json: Annotated[bool, typer.Option("--json", help="Print the list as JSON.")] = False,
    debug: Annotated[bool, typer.Option(help="Show tracebacks.")] = False,
) -> int:
    """List the installed models, or change which there are.

    Bundled models can be exported, but neither renamed nor deleted.
    """
    if action not in _USES:
        raise ValueError(f"There is no action {action!r}; choose one of {', '.join(_USES)}.")
    words = words or []
    if len(words) != len(_USES[action].split()):
        raise ValueError(f"Usage: napari-dinocell models {action} {_USES[action]}".rstrip())
    if action == "list":
        _list(as_json)
    elif action == "import":
        typer.echo(f"Imported {import_model(words[0], name).name}.")
    elif action == "rename":
        rename_model(*words)
        typer.echo(f"{words[0]} is called {words[1]} now.")
    elif action == "delete":
        delete_model(words[0])
        typer.echo(f"Deleted {words[0]}.")
    else:
        if format_ not in FORMATS:
            raise ValueError(f"There is no format {format_!r}; choose {', '.join(FORMATS)}.")
        if output is None:
            raise ValueError("The file is missing; give it with --output.")
        FORMATS[format_](words[0], output)
        typer.echo(f"Wrote {output}.")
    return console.DONE


def _list(as_json: bool) -> None:
    cards = installed()
    if as_json:
        rows = [
            {"name": name, "kind": kind, "card": card.model_dump(mode="json")}
            for name, kind, card in cards
        ]
        typer.echo(json.dumps(rows, indent=2))
        return
    table = Table("model", "kind", "base", "peak", "fill", "diameter", "trained on")
    for name, kind, card in cards:
        table.add_row(
            name,
            kind,
            str(card.adaptation.get("base", "")),
            f"{card.peak:g}",
            f"{card.fill:g}",
            f"{card.diameter:g} px",
            ", ".join(card.data),
        )
    Console().print(table)
    typer.echo(f"Own models lie in {own_folder()}.")


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code."""
    return console.run(models, argv, "napari-dinocell models")


if __name__ == "__main__":
    sys.exit(main())
