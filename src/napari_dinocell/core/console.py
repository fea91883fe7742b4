"""What all commands share: logs on stderr, one sentence per error, the meaning of exit codes.

Every entry point has a `main(argv=None) -> int` that hands its function to `run`; the console
script and `python -m` then behave alike.
"""

import inspect
import logging
import sys
from collections.abc import Callable, Sequence
from functools import wraps
from typing import Any, TextIO

import typer

from napari_dinocell.core.errors import Cancelled

DONE = 0
SOME_FAILED = 1
BAD_USAGE = 2
INTERRUPTED = 130

_log = logging.getLogger("napari_dinocell")


def run(command: Callable[..., int | None], argv: Sequence[str] | None, prog: str) -> int:
    """Parse `argv` for one command, call it, and return the exit code.

    Parameters
    ----------
    command
        A function whose parameters are typer options; its docstring is the help text. It returns
        an exit code or None for 0. Parameters called `debug` and `quiet`, where it has them, set
        whether errors show their traceback and whether only warnings are logged.
    argv
        Arguments without the program's name; None takes those of the process.
    prog
        The program's name in the usage line.

    Returns
    -------
    int
        0 done, 1 some inputs failed, 2 wrong usage or bad input, 130 interrupted.
    """
    app = typer.Typer(
        add_completion=False, pretty_exceptions_enable=False, rich_markup_mode="markdown"
    )
    app.command(context_settings={"help_option_names": ["-h", "--help"]})(_guarded(command))
    try:
        app(args=None if argv is None else list(argv), prog_name=prog)
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else int(end.code is not None)
    return DONE


def _guarded(command: Callable[..., int | None]) -> Callable[..., None]:
    """The same command, with its errors turned into a sentence and an exit code."""

    @wraps(command)
    def guarded(*args: Any, **kwargs: Any) -> None:
        configure_logging(quiet=bool(kwargs.get("quiet")))
        try:
            code = command(*args, **kwargs) or DONE
        except typer.Exit:
            raise
        except (KeyboardInterrupt, Cancelled):
            _log.error("Interrupted.")
            code = INTERRUPTED
        # The one place where everything is caught, so that users read a sentence.
        except Exception as error:
            if kwargs.get("debug"):
                _log.exception("The traceback:")
            _log.error("%s", sentence(error))
            code = BAD_USAGE
        raise typer.Exit(code)

    # typer reads the signature of the function that it is given.
    guarded.__signature__ = inspect.signature(command, eval_str=True)  # type: ignore[attr-defined]
    return guarded


def sentence(error: BaseException) -> str:
    """What went wrong in one line; names the error's kind where the message alone says little."""
    text = " ".join(str(error).split())
    if isinstance(error, OSError) and error.strerror and error.filename is not None:
        return f"{error.strerror}: {error.filename}"
    if isinstance(error, (ValueError, TypeError, OSError, MemoryError, ImportError)) and text:
        return text
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def configure_logging(*, quiet: bool = False) -> None:
    """Send this package's log lines to stderr, so that stdout stays free for `--json`."""
    handler = _StderrHandler()
    handler.setFormatter(logging.Formatter("%(message)s"))
    _log.handlers = [handler]
    _log.propagate = False
    _log.setLevel(logging.WARNING if quiet else logging.INFO)


class _StderrHandler(logging.StreamHandler[TextIO]):
    """Writes to what stderr is at the moment: a progress bar replaces it while it is shown."""

    def emit(self, record: logging.LogRecord) -> None:
        self.stream = sys.stderr
        super().emit(record)
