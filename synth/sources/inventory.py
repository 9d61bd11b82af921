"""Scan: what a catalog's datasets hold on this machine, what is missing and how to get it, which files are bad."""

from collections.abc import Iterator
from dataclasses import dataclass

from rich.console import Console

from scans.catalog.catalog import Catalog
from scans.catalog.dataset import Dataset
from scans.catalog.region import Region
from scans.errors import UserError
from scans.image.cases import Case, check_files, find_cases, read_case
from scans.image.preparation import prepare
from scans.image.volume import check_same_grid, read_grid
from scans.one_scan import one_scan

_HEADINGS = ["dataset", "role", "region", "root", "scans", "masks", "state"]
_NO_NORMALS = (
    "\nnext: a corpus is made from healthy scans, and none are here. Set the variable of a dataset above to its folder "
    "(synth scan --all says how to obtain it), or name your own scans in a catalog with include: [data_catalog.yaml]; "
    "then synth scan --catalog mine.yaml"
)
_TRIAL_SIZE = 16  # voxels a side: enough for every check of a preparation, and fast


@dataclass(frozen=True)
class DatasetStatus:
    """What there is of one dataset.

    Attributes
    ----------
    name : str
    dataset : Dataset
    cases : int
        Scans found.
    masks : dict of str to int
        Scans with an ROI, lesion or label mask.
    missing : str or None
        Why nothing was found, in a sentence.
    bad : list of (str, str)
        Cases that cannot be used, and why.
    """

    name: str
    dataset: Dataset
    cases: int
    masks: dict[str, int]
    missing: str | None
    bad: list[tuple[str, str]]


def scan_catalog(catalog: Catalog, *, deep: bool = False) -> list[DatasetStatus]:
    """Look at every dataset of a catalog.

    Parameters
    ----------
    catalog : Catalog
    deep : bool
        Read every voxel and try the preparation, instead of headers only.

    Returns
    -------
    list of DatasetStatus
        In the catalog's order.
    """
    return [_row(name, *catalog.in_modalities(name), deep) for name in catalog.datasets]


def check_case(case: Case, dataset: Dataset, regions: list[Region], *, deep: bool = False) -> None:
    """Check one scan and its masks; the headers, or with `deep` everything that `synth prepare` would find.

    Parameters
    ----------
    case : Case
    dataset : Dataset
    regions : list of Region
        One a modality.
    deep : bool

    Raises
    ------
    ScanError
        If it cannot be used.
    """
    if deep:
        scan = read_case(case, dataset, regions[0])
        for volume, region, image in zip(scan.volumes, regions, case.images, strict=True):
            prepare(volume, scan.roi, scan.lesion, region, _TRIAL_SIZE, where=str(image))
        return
    check_files(case, dataset, regions[0])
    grid = read_grid(case.image)
    for image in case.images[1:]:
        check_same_grid(read_grid(image), grid, image, case.image)
    for role, path in case.files().items():
        if role != "image":
            check_same_grid(read_grid(path, kind=f"{role} mask"), grid, path, case.image)


def print_report(rows: list[DatasetStatus], console: Console, *, everything: bool = False, catalog: str = "") -> int:
    """Print what is here as a table, what is bad, and in a line what is not here; then what to do next.

    Parameters
    ----------
    rows : list of DatasetStatus
    console : Console
    everything : bool
        Tell of each dataset that is not here how to obtain it.
    catalog : str
        As the next command needs it, `` --catalog mine.yaml``; empty where it needs none.

    Returns
    -------
    int
        Exit code: 1 if a file is bad, else 0; a dataset that is not there is no mistake.
    """

    def tell(line: str, style: str | None = None) -> None:
        # soft_wrap: a name cut short to fit the terminal could not be typed
        console.print(line, style=style, markup=False, soft_wrap=True)

    here, missing = [row for row in rows if not row.missing], [row for row in rows if row.missing]
    if here:
        table = [_HEADINGS, *(_cells(row) for row in here)]
        widths = [max(map(len, column)) for column in zip(*table, strict=True)]
        for number, cells in enumerate(table):
            line = "  ".join(cell.ljust(width) for cell, width in zip(cells, widths, strict=True))
            tell(line.rstrip(), None if number else "bold")
    for row in here:
        for case, sentence in row.bad:
            tell(f"bad: {row.name}/{case}: {sentence}", "red")
    if everything:
        for row in missing:
            tell(
                f"\n{row.name} ({row.dataset.role}, {', '.join(_regions(row))}): {row.missing}.\n  {row.dataset.obtain}"
            )
    elif missing:
        tell(("\n" if here else "") + _not_here(missing))
    ready = [row for row in here if row.cases > len(row.bad) and row.dataset.role == "normal"]
    if ready:
        tell(f"\nnext: synth prepare{catalog} --dataset {ready[0].name} --out sources.zarr")
    elif not any(row.dataset.role == "normal" for row in here):
        tell(_NO_NORMALS)
    return int(any(row.bad for row in rows))


def _not_here(missing: list[DatasetStatus]) -> str:
    if len(missing) == 1:
        return f"1 dataset is not here: {missing[0].name} ({missing[0].missing}); --all tells how to obtain it"
    names = ", ".join(row.name for row in missing)
    return f"{len(missing)} datasets are not here: {names}; --all tells how to obtain them"


def _row(name: str, dataset: Dataset, regions: list[Region], deep: bool) -> DatasetStatus:
    cases = find_cases(dataset, name)
    missing = None if cases else dataset.status() or f"no file under {dataset.root} matches its image pattern"
    masks = {role: sum(role in case.files() for case in cases) for role in ("roi", "lesion", "label")}
    return DatasetStatus(name, dataset, len(cases), masks, missing, list(_bad(cases, dataset, regions, deep)))


def _bad(cases: list[Case], dataset: Dataset, regions: list[Region], deep: bool) -> Iterator[tuple[str, str]]:
    for case in cases:
        try:
            with one_scan(case.image):
                check_case(case, dataset, regions, deep=deep)
        except UserError as error:
            yield case.name, str(error)


def _cells(row: DatasetStatus) -> list[str]:
    masks = ", ".join(f"{count} {role}" for role, count in row.masks.items() if count)
    state = f"{len(row.bad)} bad" if row.bad else "ready"
    return [row.name, row.dataset.role, ", ".join(_regions(row)), str(row.dataset.root), str(row.cases), masks, state]


def _regions(row: DatasetStatus) -> list[str]:
    return list(dict.fromkeys(row.dataset.region_of(modality) for modality in row.dataset.modalities))
