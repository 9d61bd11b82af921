"""The end of a training on artificial tumours: choosing how its networks are read, and recording it."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from scans.errors import UserError
from train.inference.reading import Readings
from train.inference.reading_choice import choose_readings
from train.network.checkpoint import load_record, network_sha256, record_again
from train.network.hardware import Hardware
from train.network.ranks import Ranks
from train.proxies.recorded import load_network
from train.run.folder import LAST, RunFolder
from train.run.spent import Outcome
from train.stages.validation import SyntheticValidation

SAMPLES = 16  # of each corpus; what is found in all of them is in memory at once, 40 MB each at 128³


def record_readings(
    folder: Path,
    outcome: Outcome,
    validations: Sequence[SyntheticValidation | None],
    hardware: Hardware,
    ranks: Ranks,
    say: Callable[[str], None],
) -> None:
    """Choose how the best and the last network of a finished training are read, and record it in their checkpoints.

    A checkpoint that records a reading keeps it. A training that is stopped early, or killed meanwhile, has none: its
    networks are read plainly, and ``--resume`` chooses once it has taken its last step.

    Parameters
    ----------
    folder : Path
        Of the run.
    outcome : Outcome
    validations : sequence of SyntheticValidation or None
        Of the training's corpus and of another generator's, if there is one.
    hardware : Hardware
    ranks : Ranks
        The first process chooses.
    say : callable
        Told what was chosen, or why nothing could be.
    """
    if not (outcome.finished and ranks.first):
        return
    chosen: dict[str, Readings] = {}
    with RunFolder(folder, resume=True, say=lambda line: None) as run:  # what a report lacks was told by the loop
        try:
            for path in (run.path / LAST, run.best):
                if path.exists() and load_record(path).reading is None:
                    _record(path, validations, hardware, chosen)
        except UserError as error:
            say(f"{error}; no reading is recorded, masks are read plainly; --resume tries again")
            return
        if chosen:
            say(f"masks are read from {[*chosen.values()][-1].words()}")
            run.report(now=True)


def _record(
    path: Path,
    validations: Sequence[SyntheticValidation | None],
    hardware: Hardware,
    chosen: dict[str, Readings],
) -> None:
    """Record the reading of one checkpoint; `chosen` has those of networks seen before."""
    record, network = load_network(path)
    name = network_sha256(record, network)
    if name not in chosen:
        network = hardware.place(network).eval()
        chosen[name] = choose_readings([each.found(network, hardware, SAMPLES) for each in validations if each])
    record_again(path, replace(record, reading=chosen[name].model_dump(mode="json")))
