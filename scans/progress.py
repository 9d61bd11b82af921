"""Progress: bars that move in a terminal, and durations and sizes as one says them."""

from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, TextColumn, TimeElapsedColumn

from scans.terminal import err


def duration(seconds: float) -> str:
    """Return a time as a person says it: ``45 s``, ``12 min``, ``3 h 05 min``, ``2 d 4 h``."""
    whole = round(seconds)
    if whole < 100:
        return f"{whole} s"
    minutes = round(seconds / 60)
    if minutes < 100:
        return f"{minutes} min"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02} min" if hours < 48 else f"{hours // 24} d {hours % 24} h"


def size_of(count: int) -> str:
    """Return a number of bytes as one says it."""
    for unit, size in (("TB", 1e12), ("GB", 1e9)):
        if count >= size:
            return f"{count / size:.1f} {unit}"
    return f"{count / 1e6:.1f} MB"


class Bars(Progress):
    """Bars that move in a terminal while something is done.

    Parameters
    ----------
    *more : ProgressColumn
        Beside description, bar, count and time.
    moves : bool
        False: none are drawn.
    """

    def __init__(self, *more: ProgressColumn, moves: bool) -> None:
        super().__init__(
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=20),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            *more,
            console=err,
            disable=not moves,
        )
