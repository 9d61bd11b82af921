"""Progress: bars that move in a terminal."""

from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, TextColumn, TimeElapsedColumn

from scans.terminal import err


class Bars(Progress):
    """Bars that move in a terminal while something is done.

    Parameters
    ----------
    *more : ProgressColumn
        Beside description, bar, count and time.
    moves : bool
        False: none are drawn.
    **options
        As of `rich.progress.Progress`.
    """

    def __init__(self, *more: ProgressColumn, moves: bool, **options: bool) -> None:
        super().__init__(
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=20),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            *more,
            console=err,
            disable=not moves,
            **options,  # type: ignore[arg-type]
        )
