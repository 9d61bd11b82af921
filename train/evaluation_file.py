"""What ``train evaluate`` left in a folder, read back for a model card: means alone, no case by name."""

from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError, model_validator

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


class Free(BaseModel):
    """What was found in cases without a tumour; see `train.metrics.TumourFree`."""

    cases: int
    nothing_found: int
    false_ml: float | None


class Row(BaseModel):
    """Means of a row, and what they leave out."""

    dice: Mean
    sensitivity: Mean
    specificity: Mean
    hd95_mm: Mean
    nothing_found: int
    tumour_free: Free

    @model_validator(mode="before")
    @classmethod
    def _of_today(cls, content: Any) -> Any:
        if isinstance(content, dict) and "one_empty" in content:
            raise ValueError("these means count cases without a tumour, as they once did; run train evaluate again")
        return content

    def means(self) -> list[Mean]:
        """Return the means in the order of ``METRICS``."""
        return [getattr(self, metric) for metric in METRICS]


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
    mean: dict[str, Row]  # the network's first; of several classes it has one each


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
