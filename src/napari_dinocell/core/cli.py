"""The console script: `napari-dinocell NAME ...` is `python -m napari_dinocell.core.NAME ...`.

    napari-dinocell segment images/ --output results/ --csv
    napari-dinocell doctor

A command's module is imported when the command is called, so that the help text and typing errors
answer at once.
"""

import sys
from collections.abc import Sequence
from difflib import get_close_matches
from importlib import import_module

from napari_dinocell import __version__

COMMANDS = {
    "segment": "find the cells in images and write labels, tables and pictures",
    "adapt": "adapt a model to a few annotated cells",
    "evaluate": "compare labels with the truth: SEG, DET, OP_CSB, AP, F1, PQ",
    "train": "train a model from a YAML file",
    "train-ssl": "pre-train a backbone on multi-channel fields without labels",
    "models": "list, import, rename, delete and export models",
    "info": "parameters, cost and card of a model",
    "doctor": "versions, devices, folders and memory of this installation",
}


def usage() -> str:
    """The text of `napari-dinocell --help`."""
    width = max(map(len, COMMANDS))
    lines = [f"  {name:<{width}}  {what}" for name, what in COMMANDS.items()]
    return (
        "Usage: napari-dinocell COMMAND [OPTIONS] ...\n\nCommands:\n"
        + "\n".join(lines)
        + "\n\n`napari-dinocell COMMAND --help` shows the options of one command.\n"
        "Options: --help, --version"
    )


def main(argv: Sequence[str] | None = None) -> int:
    """Call one command and return its exit code (2 if there is no such command)."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    if not arguments or arguments[0] in ("-h", "--help"):
        sys.stdout.write(usage() + "\n")
        return 0 if arguments else 2
    if arguments[0] == "--version":
        sys.stdout.write(f"napari-dinocell {__version__}\n")
        return 0
    command, *rest = arguments
    if command not in COMMANDS:
        near = get_close_matches(command, COMMANDS, n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"choose one of {', '.join(COMMANDS)}."
        sys.stderr.write(f"There is no command {command!r}; {hint}\n")
        return 2
    code: int = import_module(f"napari_dinocell.core.{command.replace('-', '_')}").main(rest)
    return code


if __name__ == "__main__":
    sys.exit(main())
