"""Tables I to VI as data: rows, columns, tasks and scales. Nothing here runs; a new row is a new entry.

Numbers of a scale are the paper's where it prints them (Sec. IV-C), else the defaults of ``train.settings``.
"""

from dataclasses import dataclass
from itertools import combinations
from typing import Literal

from train.settings import PresetName
from train.tables import paper

Metric = Literal["dice", "hd95_mm", "sensitivity", "specificity"]
ScaleName = Literal["tiny", "small", "full"]
TRANSFORMATIONS = {"intensity": "linear", "blur": "blur", "elastic": "elastic"}  # the paper's word, our setting
FRACTIONS = (0.0, 0.1, 0.2, 0.4, 0.6, 0.8, 1.0)


@dataclass(frozen=True)
class TableTask:
    """What is segmented: its region of normals, the paper's dataset of tumours, and what runs are averaged over.

    With ``tumour_only`` cases without a tumour are not counted, as in the paper. ``classes`` are those of the catalog's
    task of this name, where there are several; no other dataset can then stand for the paper's.
    """

    name: str
    title: str
    region: str
    dataset: str
    tumour_only: bool = False
    repeated: Literal["folds", "seeds"] = "folds"  # fine-tuned networks; zero-shot ones always over seeds
    classes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Column:
    """One number of each row.

    ``fraction`` of the training annotations is for rows that are fine-tuned; of them 0 is zero-shot, as all others are.
    """

    task: str
    metric: Metric = "dice"
    fraction: float | None = None  # None: all, in a table without fractions
    part: str = ""  # of several classes, which

    @property
    def share(self) -> float:
        """Share of the training annotations that is used."""
        return 1.0 if self.fraction is None else self.fraction

    @property
    def percent(self) -> bool:
        """Whether it is told in percent, as in the paper."""
        return self.metric != "hd95_mm"


@dataclass(frozen=True)
class Row:
    """How a network is made, and what the paper found with it.

    Attributes
    ----------
    name : str
    paper : str
        As in ``train.tables.paper``.
    synthesis : tuple of str
        Given to ``synth generate`` as ``--set``.
    proxy : str or None
        Of ``train pretrain``; None: not pretrained.
    preset : str
        Of ``train pretrain`` and ``train adapt``; the scale's width, steps and start of the mask win over it.
    losses : tuple of str
        Terms of Eq. 10 that are on.
    mask_from : str
        ``mask``: the mask channel. Without a term that trains it: ``normal``, where input and predicted normal differ
        by more than a level; or ``tumour``, where the predicted tumour layer is further than a level from its 0.
    real : bool
        Real tumours in place of artificial ones: of the training cases of a fold, scored on its test cases.
    adapted : bool
        Continued on real scans without their annotations.
    finetuned : bool
    augment : str or None
        Of ``train finetune``; None: its default.
    missing : str
        Why there is no such network, in a sentence.
    """

    name: str
    paper: str = ""
    synthesis: tuple[str, ...] = ()
    proxy: str | None = "layers"
    preset: PresetName = "paper"
    losses: tuple[str, ...] = ("l0", "l1", "l2", "l3")
    mask_from: Literal["mask", "normal", "tumour"] = "mask"
    real: bool = False
    adapted: bool = False
    finetuned: bool = False
    augment: str | None = None
    missing: str = ""


@dataclass(frozen=True)
class Table:
    """A table of the paper."""

    number: str
    title: str
    columns: tuple[Column, ...]
    rows: tuple[Row, ...]
    reference: str  # the row that others are compared with; its corpus chose the threshold row shown at the end
    curves: bool = False  # drawn over fractions, as Fig. 1
    notes: tuple[str, ...] = ()

    @property
    def preset(self) -> PresetName:
        """Of its rows, which all have the same."""
        return self.rows[0].preset

    @property
    def stem(self) -> str:
        """What its files begin with: one name a preset, so that neither takes the other's place."""
        return self.number if self.preset == "paper" else f"{self.number}-{self.preset}"


@dataclass(frozen=True)
class Scale:
    """How large everything is."""

    name: ScaleName
    size: int
    samples: int  # of a corpus
    width: int
    pretrain_steps: int
    adapt_steps: int
    finetune_steps: int
    finetune_rate: float
    checkpoint_every: int
    validation_samples: int
    folds: tuple[int, ...]
    seeds: int
    cross_entropy: float  # weight beside L2, wherever L2 is on
    mask_bias: float
    workers: int | None  # of synth; 0: no process besides
    said: str


SCALES: dict[str, Scale] = {
    "tiny": Scale(
        "tiny", 32, 96, 4, 200, 40, 40, 1e-3, 100, 8, (0, 1), 1, 1.0, -2.0, 0,
        "Scale tiny shows that every step runs; its numbers say nothing about a method.",
    ),
    "small": Scale(
        "small", 48, 512, 8, 1000, 200, 300, 1e-3, 100, 32, (0, 1, 2), 1, 1.0, -2.0, 0,
        "Scale small compares rows of a network of 1.2 million parameters; it is not the paper's network.",
    ),
    "full": Scale(
        "full", 128, 10_000, 32, 100_000, 2_000, 5_000, 1e-4, 500, 32, (0, 1, 2), 3, 0.0, 0.0, None,
        "Scale full has the paper's network, batch, rates and losses (no cross-entropy, no initial mask bias); "
        "numbers of samples and steps, which it does not print, are ours.",
    ),
}  # fmt: skip

PARTS = {"WT": "whole tumour", "TC": "tumour core", "ET": "enhancing tumour"}  # the paper's word, the catalog's
TASKS = {
    task.name: task
    for task in (
        TableTask("WTS", "whole tumour, FLAIR", "brain-flair", "BraTS2018"),
        TableTask("LTS", "liver tumour, CT", "liver-ct", "LiTS2017", tumour_only=True),
        TableTask(
            "BTS", "three classes, four modalities", "brain-flair", "BraTS2018-4", repeated="seeds",
            classes=tuple(PARTS.values()),
        ),
    )
}  # fmt: skip
METRICS: dict[Metric, str] = {
    "dice": "Dice, %", "hd95_mm": "HD95, mm", "sensitivity": "sensitivity, %", "specificity": "specificity, %",
}  # fmt: skip
_BOTH = ("WTS", "LTS")
_DICE = tuple(Column(task) for task in _BOTH)

_METHODS: dict[str, dict] = {
    "Scratch (w.o. aug)": {"proxy": None, "augment": "none"},
    "Scratch (w. aug)": {"proxy": None},
    "3D RPL": {"proxy": "patch_location"},
    "3D Jigsaw": {"proxy": "jigsaw"},
    "3D Rotation": {"proxy": "rotation"},
    "Genesis": {"proxy": "genesis"},
    "Ours": {},
}


def _finetuned(numbers: dict[str, str]) -> tuple[Row, ...]:
    return tuple(Row(name, text, finetuned=True, **_METHODS[name]) for name, text in numbers.items())


def _simulated() -> tuple[Row, ...]:
    """Return a row for each subset of the transformations, every choice but theirs the same."""
    rows = []
    for count in range(len(TRANSFORMATIONS) + 1):
        for on in combinations(TRANSFORMATIONS, count):
            off = tuple(f"{setting}.enabled=false" for word, setting in TRANSFORMATIONS.items() if word not in on)
            rows.append(Row(" + ".join(on) or "no transformation", paper.TABLE_V[on], off))
    return tuple(rows)


_LOSSES: dict[str, dict] = {
    "L0": {"losses": ("l0",), "mask_from": "normal"},
    "L2": {"losses": ("l2",)},
    "L0 + L1": {"losses": ("l0", "l1"), "mask_from": "tumour"},
    "L0 + L1 + L2": {"losses": ("l0", "l1", "l2")},
    "L0 + L1 + L2 + L3": {},
    "Ours (w real tumor data)": {"adapted": True},
}

TABLES: dict[str, Table] = {
    table.number: table
    for table in (
        Table(
            "I", "Fine-tuned on all annotations",
            tuple(Column(task, metric) for metric in METRICS for task in _BOTH),
            _finetuned(paper.TABLE_I), "Ours",
        ),
        Table(
            "II", "Fine-tuned on all annotations, three classes",
            tuple(Column("BTS", metric, part=part) for metric in METRICS for part in PARTS),
            _finetuned(paper.TABLE_II), "Ours",
            notes=(
                "The paper scores the challenge's 66 validation cases, whose annotations are not public.",
                "The threshold row finds a tumour as a whole; it has no number of TC and ET.",
            ),
        ),
        Table(
            "III", "Fine-tuned on fractions of the annotations",
            tuple(Column(task, fraction=fraction) for task in _BOTH for fraction in FRACTIONS),
            _finetuned(paper.TABLE_III), "Ours", curves=True,
            notes=(
                "Fraction 0 is zero-shot; the paper's numbers there for networks that were shown no mask are those of "
                "a decoder that was never trained, and are not reproduced. Its numbers at fraction 1 are of Table I.",
                "Fraction 0 is scored on all cases, the others on the test cases of each fold.",
            ),
        ),
        Table(
            "IV", "Anomaly detection",
            _DICE,
            (
                Row("Scratch (w. aug)", paper.TABLE_IV["Scratch (w. aug)"], proxy=None, finetuned=True),
                Row("3D IF", paper.TABLE_IV["3D IF"], proxy="implicit_field"),
                Row("ASC-Net", paper.TABLE_IV["ASC-Net"], proxy="asc_net"),
                Row("Ours", paper.TABLE_IV["Ours"]),
            ),
            "Ours",
            notes=(
                "Scratch is trained on all annotations of its folds; the others see none.",
                "The level above which 3D IF and ASC-Net call a residual a tumour has the best Dice on artificial "
                "tumours in held-out normals.",
                "The paper copies its numbers of 3D IF and ASC-Net from their own papers, on other data.",
            ),
        ),
        Table(
            "V", "Zero-shot by simulation",
            _DICE,
            (
                *_simulated(),
                Row(
                    "real tumour (upper bound)", paper.TABLE_V["real tumour"], real=True,
                ),
            ),
            "intensity + blur + elastic",
            notes=(
                "The paper has no row for blur + elastic without intensity.",
                "Real tumours are cut by their masks from the training part of each fold, two thirds of the annotated "
                "scans (of three scans, two tumours), laid over normals as they are, with the alpha that all rows "
                "draw, and scored on the fold's test cases alone. The other rows are scored on all cases. This row's "
                "checkpoint and threshold row were chosen on such composites.",
            ),
        ),
        Table(
            "VI", "Zero-shot by loss",
            _DICE,
            tuple(Row(name, text, **_LOSSES[name]) for name, text in paper.TABLE_VI.items()),
            "L0 + L1 + L2 + L3",
            notes=(
                "L0 trains no mask: its mask is where the scan differs from the predicted normal by more than a level. "
                "L0 + L1 trains none either: its mask is where the predicted tumour layer is further from 0 than a "
                "level. The paper thresholds the error of L0, and does not say what it did for L0 + L1.",
                "The last row saw the scans of the cases it is scored on, without their annotations.",
            ),
        ),
    )
}  # fmt: skip


def printed(row: Row, position: int) -> tuple[float | None, float | None]:
    """Return mean and std that the paper prints for a row in its column of that position; None where it has none."""
    words = row.paper.split()
    if position >= len(words) or words[position] == "-":
        return None, None
    mean, _, deviation = words[position].partition("±")
    return float(mean), float(deviation) if deviation else None


def label(column: Column) -> str:
    """Return the heading of a column within its task."""
    fraction = "" if column.fraction is None else f" at {column.fraction:g}"
    return f"{METRICS[column.metric]}{fraction}"
