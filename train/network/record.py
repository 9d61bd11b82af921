"""What a checkpoint records, and the checks of a stranger's."""

import json
import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from pydantic import ConfigDict, Field, FiniteFloat, TypeAdapter, ValidationError

from scans.catalog.settings import Strict, one_line
from scans.errors import CheckpointError
from train.architectures.zhang import POOLINGS

_LARGEST = 512  # voxels along a side, as scans.image.preparation takes them


class _Exact(Strict):
    model_config = ConfigDict(strict=True)  # a number in quotes is no number


class _Statistics(_Exact):
    mean: FiniteFloat
    std: float = Field(gt=0, allow_inf_nan=False)
    low: FiniteFloat | None = None
    high: FiniteFloat | None = None


class _Channel(_Exact):
    region: dict[str, Any]
    statistics: _Statistics | None


class Threshold(_Exact):
    """The threshold row: a rule that needs no learning, as `train.evaluation.threshold_row` chooses and applies it.

    Attributes
    ----------
    sigma_mm : float
        Gaussian smoothing; 0: none.
    level : float
        What a tumour's voxels lie beyond: in the network's units or, from the median, in `unit`.
    side : str
        Whether a tumour lies ``above`` or ``below`` the level.
    dice : float
        Mean Dice on the composites it was chosen on.
    origin : str
        What the level counts from: the ``zero`` of the network's units, or the ``median`` of the scan within its ROI.
    unit : str
        Of a level from the median.
    unit_size : float
        What one of the network's units is in `unit`.
    parts : int
        How many of the largest parts are kept; 0: all of at least `least_ml`.
    least_ml : float
    """

    sigma_mm: float = Field(ge=0, allow_inf_nan=False)
    level: FiniteFloat
    side: Literal["above", "below"]
    dice: FiniteFloat
    # Rules of before these could be chosen count from zero, and keep the largest part.
    origin: Literal["zero", "median"] = "zero"
    unit: Literal["standard deviations", "HU", "raw units"] = "standard deviations"
    unit_size: float = Field(1.0, gt=0, allow_inf_nan=False)
    parts: int = Field(1, ge=0)
    least_ml: float = Field(0.0, ge=0, allow_inf_nan=False)

    def words(self) -> str:
        """Say what the rule does, as ``smooth 2 mm, above 1.43, largest part``."""
        level = _short(self.level)
        if self.origin == "median":
            level = f"the organ's median {'-' if self.level < 0 else '+'} {_short(abs(self.level))} {self.unit}"
        smoothed = f"smooth {self.sigma_mm:g} mm" if self.sigma_mm else "no smoothing"
        return f"{smoothed}, {self.side} {level}, {self._kept()}"

    def _kept(self) -> str:
        if self.parts:
            return {1: "largest part", 2: "two largest parts"}.get(self.parts, f"{self.parts} largest parts")
        return f"parts of {self.least_ml:g} ml and more" if self.least_ml else "all parts"


def _short(number: float) -> str:
    return f"{number:.2f}".rstrip("0").rstrip(".")


class _Details(_Exact):
    """What of a record is plain lists and dictionaries; regions and settings are checked where they are used."""

    channels: list[_Channel] = Field(min_length=1)
    size: int = Field(ge=2**POOLINGS, le=_LARGEST, multiple_of=2**POOLINGS)
    threshold: Threshold | None
    patch: int | None = Field(ge=2**POOLINGS, le=_LARGEST, multiple_of=2**POOLINGS)


FORMAT = "layered-tumors-checkpoint"
VERSION = 2


@dataclass(frozen=True)
class Record:
    """What must be known to use or to continue a network; plain JSON values only.

    Attributes
    ----------
    stage : str
        ``pretrain``, ``adapt`` or ``finetune``.
    step : int
        Steps taken in this stage.
    settings : dict
        Of the stage, ``train.settings``.
    network : dict
        ``train.settings.Network``.
    channels : list of dict
        One for each modality of the network's input, in their order: ``region`` (``scans.catalog.region.Region``,
        prepares scans as the network expects them) and ``statistics`` (``scans.image.normalisation.Statistics`` shared
        by all scans, None where each has its own).
    size : int
        Side of the network's cube in voxels.
    data : dict
        What it was trained on: hashes, source names, terms, held-out sources or cases.
    threshold : dict or None
        `Threshold`.
    validation : dict
        Scores of the last validation.
    progress : dict
        State of the plateau rule and the best score, for ``--resume``.
    reading : dict or None
        How masks are read out, ``train.inference.reading.Readings``; None: plainly, the mask at 0.5.
    patch : int or None
        Side in voxels of the patches of the cube that the network is shown; None: the whole cube.
    """

    stage: str
    step: int
    settings: dict[str, Any]
    network: dict[str, Any]
    channels: list[dict[str, Any]]
    size: int
    data: dict[str, Any]
    threshold: dict[str, Any] | None = None
    validation: dict[str, Any] = field(default_factory=dict)
    progress: dict[str, Any] = field(default_factory=dict)
    reading: dict[str, Any] | None = None
    patch: int | None = None
    format: str = FORMAT
    version: int = VERSION

    __pydantic_config__ = ConfigDict(extra="forbid")

    @property
    def rule(self) -> Threshold | None:
        """The threshold row, if there is one."""
        return Threshold.model_validate(self.threshold) if self.threshold else None

    @property
    def side(self) -> int:
        """Voxels along each side of what the network is shown: a patch, or the whole cube."""
        return self.size if self.patch is None else self.patch

    @property
    def region(self) -> dict[str, Any]:
        """Region of the first modality, which has the frame and the ROI of all of them."""
        return self.channels[0]["region"]


_RECORD = TypeAdapter(Record)


def parse_record(path: Path, text: str | None) -> Record:
    """Read the record in the header of a checkpoint, which may come from a stranger.

    Raises
    ------
    CheckpointError
    """
    if text is None:
        raise CheckpointError(f"{path}: safetensors, but not a checkpoint made by train")
    try:
        values = json.loads(text, parse_constant=_refuse_constant)
        version = values["version"]
        if values["format"] != FORMAT:
            raise CheckpointError(f"{path}: a {str(values['format'])[:80]!a}, not a checkpoint made by train")
        if version == 1:  # one modality, without a list
            values |= {"version": VERSION, "channels": [{key: values.pop(key) for key in ("region", "statistics")}]}
        elif version != VERSION:
            raise CheckpointError(
                f"{path}: checkpoint version {version}, this program reads {VERSION}; "
                "use the release of layered-tumors that wrote it"
            )
        record = _RECORD.validate_python(values)
        _Details.model_validate({name: getattr(record, name) for name in _Details.model_fields})
        return record
    except ValidationError as error:
        raise CheckpointError(f"{path}: its record is damaged ({one_line(error)})") from error
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise CheckpointError(f"{path}: its record is damaged ({error})") from error


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is no number")


def plain(number: float) -> float | None:
    """Return a JSON number; infinities and NaN become None."""
    return float(number) if math.isfinite(number) else None
