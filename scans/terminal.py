"""What the two command lines share: where they print, how a mistake is told, options that mean the same in both."""

import functools
import io
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, Any, TypeVar, get_type_hints

import typer
from rich.console import Console
from rich.table import Table

from scans.errors import UserError
from scans.release import VERSION, installed_with, page
from scans.writing import WriteError, concerns, why_not_written

# A file or a pipe has no edge to wrap at. Brackets are text: names of files and scans hold them.
out = Console(highlight=False, markup=False, soft_wrap=True, width=None if sys.stdout.isatty() else 160)
err = Console(stderr=True, highlight=False, markup=False, soft_wrap=True)

CatalogOption = Annotated[
    Path,
    typer.Option("--catalog", help="The catalog of datasets and regions: a file, or one of the software's by name."),
]
BrainMaskWithOption = Annotated[
    str | None,
    typer.Option(
        "--brain-mask-with",
        help="A command that makes the brain mask of each scan that brings none, e.g. "
        "`mri_synthstrip -i {scan} -m {mask}` (docs/skulls.md); wins over a catalog's.",
    ),
]
BrainMasksOption = Annotated[
    Path | None, typer.Option("--brain-masks", help="Folder that keeps what it makes; `brain_masks` if not given.")
]
SuffixOption = Annotated[
    list[str] | None,
    typer.Option(
        "--suffix",
        help="For --bids: how the scans are called, e.g. FLAIR or acq-3D_T1w; repeat it, one a modality of a network.",
    ),
]
DerivativesOption = Annotated[
    list[str] | None,
    typer.Option(
        "--derivatives", help="For --bids: a folder below derivatives to take masks of; repeat it. All, if not given."
    ),
]
RevisionOption = Annotated[
    str | None,
    typer.Option("--revision", help="Of an hf:// address: a branch, a tag, or a commit; the same as @revision in it."),
]
BranchOption = Annotated[
    str | None, typer.Option("--revision", help="A branch of the repository, made if there is none; main if not given.")
]
PrivateOption = Annotated[
    bool, typer.Option("--private", help="Make the repository for its owners alone; refused where everybody sees it.")
]
PushMessageOption = Annotated[str, typer.Option("--message", help="Of the commit; says what it is if not given.")]

Command = TypeVar("Command", bound=Callable[..., Any])
_INTERRUPTED = 130  # typer's exit code after Ctrl-C
_PAGES = f"All pages, by question: {page('docs/README.md')}"


class CommandLine(typer.Typer):
    """A command line whose commands tell in one sentence that what they were to write to ``--out`` cannot be."""

    def command(self, name: str | None = None, **options: Any) -> Callable[[Command], Command]:
        """Take a function for a command; see `typer.Typer.command`."""
        as_usual = super().command(name, **{"epilog": _PAGES, **options})

        def add(function: Command) -> Command:
            target = _written_to(function)
            as_usual(function if target is None else _telling_of(function, target))
            return function

        return add


def command_line(teaches: str) -> CommandLine:
    """Return an empty command line that introduces itself with `teaches`."""
    app = CommandLine(
        no_args_is_help=True,
        add_completion=False,
        rich_markup_mode="markdown",
        pretty_exceptions_enable=False,
        help=teaches,
        epilog=_PAGES,
    )
    app.callback()(_before_commands)
    return app


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
    except ModuleNotFoundError as error:
        if (what := installed_with(error.name or "")) is None:
            raise
        _refuse(f"{error.name} is not installed; pip install '{what}' brings it")
    except MemoryError:
        _refuse("there is not enough memory for that; choose smaller cubes or fewer at a time, or a larger machine")
    except OSError as error:
        where = f": {error.filename}" if error.filename else ""
        _refuse(f"{error.strerror or error}{where}")
    except SystemExit as end:
        if end.code == _INTERRUPTED:
            err.print(stopped)
        raise


def facts(values: Mapping[str, str]) -> Table:
    """Return names and values as a table without lines."""
    table = Table(show_header=False, box=None)
    for name, value in values.items():
        table.add_row(name, value)
    return table


def _tell_version(asked: bool) -> None:
    if asked:
        out.print(f"Layered Tumors {VERSION}")
        raise typer.Exit


def _before_commands(
    version: Annotated[
        bool, typer.Option("--version", is_eager=True, callback=_tell_version, help="Say which release this is.")
    ] = False,
) -> None:
    """Take what stands before a command."""


def _written_to(function: Callable[..., Any]) -> str | None:
    """Return the name of the parameter that is ``--out``, None if there is none."""
    for name, hint in get_type_hints(function, include_extras=True).items():
        for said in getattr(hint, "__metadata__", ()):
            # typer takes the first name for a default until the command is built
            if "--out" in (getattr(said, "default", None), *(getattr(said, "param_decls", None) or ())):
                return name
    return None


def _telling_of(function: Callable[..., Any], name: str) -> Callable[..., Any]:
    @functools.wraps(function)
    def command(**given: Any) -> Any:
        try:
            return function(**given)
        except OSError as error:
            target = given.get(name)
            if target is None or "://" in str(target) or not concerns(Path(target), error):
                raise
            raise WriteError(f"--out {why_not_written(Path(target), error)}") from error

    return command


def _refuse(sentence: str) -> None:
    err.print(f"error: {sentence}", style="red")
    sys.exit(2)
