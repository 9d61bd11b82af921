"""What the commands of ``synth`` share: the application, the options they have in common, and their progress bar."""

import contextlib
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.progress import TimeRemainingColumn

from scans.progress import Bars
from scans.terminal import command_line, err

if TYPE_CHECKING:
    from synth.corpus.manifest import Manifest
    from synth.generate.repair import Filling
    from synth.generate.shards import Filled


app = command_line(
    "Make a corpus of artificial tumours from healthy 3D scans.\n\n"
    "The road: `synth scan` (what do I have?), `synth prepare` (scans to sources), `synth generate` "
    "(sources to corpus), `synth verify` and `synth show` (is it right?). Then `train pretrain`, or `synth pack`."
)

CorpusArgument = Annotated[
    str, typer.Argument(help="The corpus: a folder, or a URL such as s3://bucket/corpus.zarr.", metavar="CORPUS")
]
ClusterOption = Annotated[
    str, typer.Option(help="`local`, `tcp://host:8786`, or a YAML file for a job queue (see the page on clusters).")
]
CardOption = Annotated[
    bool, typer.Option("--card/--no-card", help="Write the data card and Croissant metadata into the finished corpus.")
]
WorkersOption = Annotated[
    int | None, typer.Option(help="Worker processes of `local`; all cores if not given, this process alone if 0.")
]
PseudoLabelsOption = Annotated[
    Path | None,
    typer.Option(
        help="Cut the tumours of the annotated dataset by masks of a network in place of its labels, those that are "
        "confident: the folder of `train pseudo-label`."
    ),
]


_LOG_EVERY_S = 30.0


@contextlib.contextmanager
def bar(unit: str) -> Iterator[Callable[[int, int], None]]:
    """Show progress on stderr, in a file a line now and then; yields ``progress(steps, total)``."""
    if not err.is_terminal:
        yield _Lines(unit)
        return
    with Bars(TimeRemainingColumn(), moves=True) as progress:
        task = progress.add_task(unit, total=None)
        yield lambda steps, total: progress.update(task, advance=steps, total=total)


class _Lines:
    """Progress in a file: a line at the start, every 30 seconds, and at the end."""

    def __init__(self, unit: str) -> None:
        self._unit, self._done, self._told = unit, 0, float("-inf")

    def __call__(self, steps: int, total: int) -> None:
        self._done += steps
        now = time.monotonic()
        if now - self._told >= _LOG_EVERY_S or self._done == total:
            self._told = now
            say(f"{self._done} of {total} {self._unit}")


def say(sentence: str) -> None:
    """Print a sentence about the work, on stderr."""
    err.print(sentence)


def with_progress(manifest: "Manifest", shards: Sequence[int], work: "Filling") -> "Filled":
    """Run what makes shards under a progress line; parameters as of `make_shards`."""
    from synth.generate.progress import ShardProgress

    with ShardProgress(err, len(shards), sum(len(manifest.indices(shard)) for shard in shards)) as progress:
        return work(progress.step, progress.say)


def make_shards(corpus: str, manifest: "Manifest", shards: Sequence[int], work: "Filling") -> "Filled":
    """Run what makes shards under a progress line; name those that failed, and exit with 1 if there are any.

    Parameters
    ----------
    corpus : str
    manifest : Manifest
        Of the corpus that is made.
    shards : sequence of int
        Those that are to be made, or are there.
    work : callable
        Called with what it is to call as each shard ends, and for a sentence about the cluster.
    """
    outcome = with_progress(manifest, shards, work)
    for reason in dict.fromkeys(outcome.failed.values()):
        numbers = [str(shard) for shard, why in sorted(outcome.failed.items()) if why == reason]
        named = ", ".join(numbers[:12]) + (f" and {len(numbers) - 12} more" if len(numbers) > 12 else "")
        err.print(f"failed: shard {named}: {reason}", style="red")
    if outcome.failed:
        err.print(f"{corpus}: {len(outcome.failed)} of {len(shards)} shards are missing; run the command again")
        raise typer.Exit(1)
    return outcome


def describe(corpus: str, wanted: bool = True) -> None:
    """Write the card of a finished corpus, if it is wanted."""
    if not wanted:
        return
    from synth.corpus import Corpus
    from synth.report.card import write_card

    write_card(Corpus(corpus))
