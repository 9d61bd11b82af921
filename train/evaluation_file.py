"""What ``train evaluate`` left in a folder, read back for a model card: means alone, no case by name."""

from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from scans.errors import CheckpointError
from scans.region import one_line
from train.checkpoint import Checkpoint
from train.metrics import METRICS

_MOST_BYTES = 100_000_000


class Mean(BaseModel):
    """Mean and deviation of one score over the cases where it is defined."""

    mean: float | None
    std: float | None
    cases: int


class Scored(BaseModel):
    """What was evaluated; scores from before hashes were kept have none."""

    sha256: str | None = None
    stage: str
    step: int
    network: dict[str, object]
    corpus: str | None = None


class Evaluation(BaseModel):
    """The part of ``scores.json`` that a card shows."""

    model_config = ConfigDict(extra="ignore")

    dataset: str
    cases_scored: str
    verdict: str
    checkpoint: Scored
    mean: dict[str, dict[str, Mean | int]]

    def rows(self) -> list[tuple[str, list[Mean], int]]:
        """Return each row's name, its means in the order of ``METRICS``, and in how many cases one mask was empty.

        Rows of the network are the first; of several classes it has one each.
        """
        rows = []
        for name, scores in self.mean.items():
            means = [each if isinstance(each := scores.get(metric), Mean) else _NONE for metric in METRICS]
            empty = scores.get("one_empty", 0)
            rows.append((name, means, empty if isinstance(empty, int) else 0))
        return rows


_NONE = Mean(mean=None, std=None, cases=0)


def read_evaluation(folder: Path, exported: Checkpoint) -> Evaluation:
    """Read the scores in a folder that ``train evaluate`` wrote.

    Raises
    ------
    CheckpointError
        If there are none, they are damaged, or they are of another checkpoint than the one to be exported.
    """
    path = folder / "scores.json"
    try:
        if path.stat().st_size > _MOST_BYTES:
            raise CheckpointError(f"{path}: too large for scores; give a folder made by train evaluate")
        evaluation = Evaluation.model_validate_json(path.read_bytes())
    except ValidationError as error:
        raise CheckpointError(f"{path}: no scores of train evaluate ({one_line(error)})") from error
    except OSError as error:
        raise CheckpointError(f"{path}: no scores here; make them with train evaluate --out {folder}") from error
    scored, record = evaluation.checkpoint, exported.record
    if scored.sha256 is not None:
        same = scored.sha256 == exported.sha256()
    else:
        same = (scored.stage, scored.step, scored.corpus) == (record.stage, record.step, record.data.get("corpus"))
        same = same and scored.network == record.network
    if not same:
        raise CheckpointError(
            f"{path}: scores of another checkpoint ({scored.stage!a}, step {scored.step}); "
            f"evaluate the one that is exported ({record.stage!a}, step {record.step})"
        )
    return evaluation
