"""What the two command lines share: where they print, and how a mistake is told."""

import io
import sys

import typer
from rich.console import Console

from scans.errors import UserError

# A file or a pipe has no edge to wrap at.
out = Console(highlight=False, soft_wrap=True, width=None if sys.stdout.isatty() else 160)
err = Console(stderr=True, highlight=False, soft_wrap=True)

_INTERRUPTED = 130  # typer's exit code after Ctrl-C


def command_line(teaches: str) -> typer.Typer:
    """Return an empty command line that introduces itself with `teaches`."""
    return typer.Typer(
        no_args_is_help=True,
        add_completion=False,
        rich_markup_mode="markdown",
        pretty_exceptions_enable=False,
        help=teaches,
    )


def run(app: typer.Typer, stopped: str) -> None:
    """Run a command line; a user's mistake becomes one sentence and exit code 2, never a traceback.

    Parameters
    ----------
    app : Typer
    stopped : str
        What to say after Ctrl-C.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # names of files hold any byte, and not every terminal has UTF-8
            stream.reconfigure(errors="backslashreplace")
    try:
        app()
    except UserError as error:
        _refuse(str(error))
    except MemoryError:
        _refuse("there is not enough memory for that; choose smaller cubes or fewer at a time, or a larger machine")
    except OSError as error:
        where = f": {error.filename}" if error.filename else ""
        _refuse(f"{error.strerror or error}{where}")
    except SystemExit as end:
        if end.code == _INTERRUPTED:
            err.print(stopped)
        raise


def _refuse(sentence: str) -> None:
    err.print(f"error: {sentence}", style="red", markup=False)
    sys.exit(2)
