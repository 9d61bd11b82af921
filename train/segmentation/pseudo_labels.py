"""Pseudo-labels: a network's masks of a dataset's scans, and which of them count as confident.

No label of the dataset is opened. Numbers and masks depend on scan and network alone, so another rule over the same
masks takes no time.
"""

from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from pathlib import Path

from scans.catalog.catalog import Catalog, load_catalog
from scans.catalog.dataset import Dataset
from scans.durable import only_writer
from scans.errors import CatalogError, CheckpointError, UserError
from scans.formats.files import content_sha256
from scans.formats.pseudo_labels import (
    NAME,
    PseudoLabel,
    add_pseudo_label,
    read_pseudo_labels,
    write_pseudo_labels,
)
from scans.image.brain_mask import check_program, is_needed
from scans.image.cases import Case, read_case
from scans.image.preparation import Prepared
from scans.image.volume import write_volume
from scans.writing import make_folder
from train.cases.prepared import dataset_cases
from train.inference.confidence import Confidence, Rule
from train.inference.model import Decomposed, Model, decompose, load_model, mask_in_scan, prepare_for
from train.inference.overlap import Done, ThreeSteps, overlapped
from train.inference.reading import Readings, recorded_readings
from train.network.weights import check_one_mask
from train.settings import SettingsError


def pseudo_label(
    checkpoint: Path,
    catalog: Path,
    dataset_name: str,
    out: Path,
    *,
    rule: Rule | None = None,
    leave_out: Sequence[str] = (),
    device: str = "auto",
    precision: str = "auto",
    say: Callable[[str], None] = lambda sentence: None,
    progress: Callable[[int], None] = lambda count: None,
    told: Callable[[PseudoLabel, bool], None] = lambda row, kept: None,
) -> list[PseudoLabel]:
    """Write ``OUT/CASE_mask.nii.gz`` for each scan of a dataset and ``OUT/pseudo_labels.csv``; a bad scan stops none.

    Masks that the same network made of the same scans are kept, and judged anew.

    Parameters
    ----------
    checkpoint : Path
        A network of layers with recorded readings.
    catalog : Path
    dataset_name : str
        With role ``tumour``; whether it has labels does not matter.
    out : Path
    rule : Rule, optional
    leave_out : sequence of str
        Cases that are not looked at, e.g. those to score on.
    device, precision : str
    say : callable
        Told in sentences what was decided.
    progress : callable
        Told how many scans there are.
    told : callable
        Told of each scan, and whether its mask was there.

    Returns
    -------
    list of PseudoLabel
        One a scan, by name.

    Raises
    ------
    UserError
        If the network or the dataset is not of that kind, or `out` holds something else or cannot be written.
    """
    rule = rule or Rule()
    model = load_model(checkpoint, device, precision)
    check_one_mask(model.record.network, checkpoint)
    readings = recorded_readings(model.record.reading, str(checkpoint))
    if readings is None:
        raise CheckpointError(
            f"{checkpoint}: records no readings, whose agreement tells which masks are confident; a network of layers "
            "gets them when train pretrain or train adapt ends"
        )
    dataset, cases = _unlabelled(load_catalog(catalog), dataset_name, model, leave_out)
    if is_needed(dataset.brain_mask_with, (case.roi for case in cases)):
        check_program(dataset.brain_mask_with)
    make_folder(out, SettingsError)
    with only_writer(out):
        network = model.sha256()
        before = _rows_of(out, network)
        progress(len(cases))
        say(f"a mask is: {model.reading.words()}")
        say(f"it is confident if: {rule.said()}")
        rows: dict[str, PseudoLabel] = {}
        steps = _CaseSteps(model, network, readings, dataset, out, before)
        each = ThreeSteps(
            steps.before,
            steps.network,
            steps.after,
            steps.failed,
            name=lambda case: str(case.image),
            voxels=lambda ready: sum(one.inside.size for one in ready.prepared),
        )
        a_tool_runs = is_needed(dataset.brain_mask_with, (case.roi for case in cases))
        with closing(overlapped(cases, each, here=a_tool_runs)) as made:
            for row, kept in made:
                row = _judged(row, rule)
                rows[row.case] = row
                if row != before.get(row.case):
                    add_pseudo_label(out, row)
                told(row, kept)
        write_pseudo_labels(out, rows.values())  # without those that an earlier run did not leave out
    return list(rows.values())


def _unlabelled(catalog: Catalog, name: str, model: Model, leave_out: Sequence[str]) -> tuple[Dataset, list[Case]]:
    """Return a dataset as if nobody had annotated it, and those of its cases that are wanted."""
    dataset, cases = dataset_cases(catalog, name, model.regions)
    if dataset.role != "tumour":
        raise CatalogError(f"dataset {name} has role {dataset.role}: tumours are looked for where role is tumour")
    if unknown := sorted(set(leave_out) - {case.name for case in cases}):
        raise SettingsError(f"--leave-out {unknown[0]}: dataset {name} has no such case")
    required = tuple(role for role in dataset.layout.required if role == "roi")
    layout = dataset.layout.model_copy(update={"label": None, "lesion": None, "required": required})
    wanted = [replace(case, label=None, lesion=None) for case in cases if case.name not in leave_out]
    if not wanted:
        raise SettingsError(f"--leave-out: leaves no case of dataset {name}")
    return dataset.model_copy(update={"layout": layout}), wanted


def _rows_of(out: Path, network: str) -> dict[str, PseudoLabel]:
    """Return what an earlier run of this network wrote; refuse a folder of anything else."""
    if (out / NAME).exists():
        rows = read_pseudo_labels(out, under_way=True)
        if all(row.network == network for row in rows.values()):
            write_pseudo_labels(out, rows.values())  # without the half of a line that a killed run may have left
            return rows
        raise SettingsError(f"{out} holds pseudo-labels of another network; choose another --out")
    if any(not entry.name.startswith(".") for entry in out.iterdir()):
        raise SettingsError(f"{out} holds other files, and no {NAME}; choose another --out")
    write_pseudo_labels(out, [])  # from here on the folder is ours, and a run that is killed goes on
    return {}


@dataclass(frozen=True)
class _Ready:
    """A scan that is read and prepared, with what is known of its mask so far."""

    start: PseudoLabel
    prepared: list[Prepared]


@dataclass(frozen=True)
class _CaseSteps:
    """What is done with each scan, step by step, see `train.inference.overlap`: its row, and whether that was there."""

    model: Model
    network_sha256: str
    readings: Readings
    dataset: Dataset
    out: Path
    rows: dict[str, PseudoLabel]
    starts: dict[str, PseudoLabel] = field(default_factory=dict)

    def before(self, case: Case) -> _Ready | Done[tuple[PseudoLabel, bool]]:
        """Read and prepare a scan, unless its mask is there."""
        start = self._start(case)
        if not case.problem:
            start = replace(
                start,
                scan_sha256=" ".join(content_sha256([image]) for image in case.images),
                roi_sha256=content_sha256([case.roi]) if case.roi else "",
            )
        self.starts[case.name] = start
        before = self.rows.get(case.name)
        if before is not None and _is_kept(before, start, self.out):
            return Done((before, True))
        scan = read_case(case, self.dataset, self.model.region)
        return _Ready(start, prepare_for(self.model, scan.volumes, scan.roi, str(case.image)))

    def network(self, case: Case, ready: _Ready) -> Decomposed:
        """Run the network."""
        return decompose(self.model, ready.prepared)

    def after(self, case: Case, ready: _Ready, found: Decomposed) -> tuple[PseudoLabel, bool]:
        """Write the scan's mask, and measure how sure the network is of it."""
        model, first = self.model, ready.prepared[0]
        mask = mask_in_scan(model, found.share(model.reading, first), first)
        path = self.out / f"{case.name}_mask.nii.gz"
        write_volume(mask, path, like=case.image)
        row = replace(
            ready.start,
            mask=path.name,
            volume_ml=float((mask.array != 0).sum()) * mask.grid.voxel_mm3 / 1000.0,
            mask_sha256=content_sha256([path]),
            **vars(Confidence.of(found, first, model.reading, self.readings).rounded()),
        )
        return row, False

    def failed(self, case: Case, error: UserError) -> tuple[PseudoLabel, bool]:
        """Return the row of a scan that has no mask."""
        return replace(self.starts.get(case.name, self._start(case)), why_not=str(error)), False

    def _start(self, case: Case) -> PseudoLabel:
        return PseudoLabel(case.name, network=self.network_sha256, reading=self.model.reading.said() or "plain")


def _is_kept(before: PseudoLabel, start: PseudoLabel, out: Path) -> bool:
    same = ("network", "reading", "scan_sha256", "roi_sha256")
    if not before.mask or any(getattr(before, key) != getattr(start, key) for key in same):
        return False
    mask = out / before.mask
    return mask.is_file() and content_sha256([mask]) == before.mask_sha256


def _judged(row: PseudoLabel, rule: Rule) -> PseudoLabel:
    """Return a row with what the rule says of it, by the numbers as the table keeps them."""
    if not row.mask:
        return replace(row, confident=False, rule=rule.said())
    numbers = Confidence(row.probability, row.agreement, row.largest, row.of_organ)
    doubts = rule.doubts(numbers)
    return replace(row, confident=not doubts, why_not="; ".join(doubts), rule=rule.said())
