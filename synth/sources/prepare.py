"""Prepare: bring the scans of datasets into the network's space, one source each, resumable."""

import contextlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from scans.catalog.catalog import Catalog
from scans.catalog.dataset import Dataset
from scans.catalog.mask_command import told_command
from scans.catalog.region import Region
from scans.errors import ScanError, StoreError, UserError
from scans.file_names import in_utf8
from scans.formats.files import content_sha256
from scans.image.cases import Case, read_case, source_name, with_brain_mask, with_kept_mask
from scans.image.frame import to_frame
from scans.image.preparation import Prepared, check_size, prepare
from scans.image.volume import Volume
from scans.one_scan import one_scan
from synth.cluster import check_workers, open_cluster
from synth.sources import format as source_store
from synth.sources.collect import collect, say_who_is_masked
from synth.sources.healthy_tissue import lend
from synth.sources.pseudo_donors import PseudoDonors, donor_cases, donor_datasets, read_pseudo_donors
from synth.tasks import Failure, run_tasks


@dataclass
class Report:
    """What a run of `prepare_datasets` did.

    Attributes
    ----------
    done, kept : list of str
        Sources prepared now, and by an earlier run.
    failed : list of (str, str)
        Cases left out, as ``DATASET/CASE``, and why, in one sentence.
    """

    done: list[str] = field(default_factory=list)
    kept: list[str] = field(default_factory=list)
    failed: list[tuple[str, str]] = field(default_factory=list)


def prepare_datasets(
    catalog: Catalog,
    names: list[str],
    out: Path,
    size: int | None = None,
    cluster: str = "local",
    workers: int | None = None,
    progress: Callable[[int, int], None] = lambda steps, total: None,
    say: Callable[[str], None] = lambda sentence: None,
    modality: str | None = None,
    region_name: str | None = None,
    tumours: Sequence[str] = (),
    pseudo_labels: Path | None = None,
) -> Report:
    """Prepare every scan of some datasets, one task each; one that cannot be is named and left out.

    Sources that an earlier run finished from the same files and settings are kept.

    Parameters
    ----------
    catalog : Catalog
    names : list of str
        Datasets of one region, with role ``normal``.
    out : Path
        The sources store to make or to add to.
    size : int, optional
        Voxels along each side of the cube; as the region says if not given.
    cluster : str
        Where to work; see :func:`synth.cluster.open_cluster`.
    workers : int, optional
        Worker processes of ``local``; all cores if not given, none (this process works) if 0.
    progress : callable
        Called with (scans just finished, scans in all).
    say : callable
        Called with a sentence about the cluster.
    modality, region_name : str, optional
        Which modality of datasets that have several; see :meth:`scans.catalog.catalog.Catalog.in_one_modality`.
    tumours : sequence of str
        Datasets of the same region with role ``tumour``: their annotated tumours can be lent (``donor.tumours``).
    pseudo_labels : Path, optional
        Folder of `train pseudo-label`: the one dataset in `tumours` lends what its confident masks mark. What earlier
        masks marked in other scans of it is removed from the store.

    Raises
    ------
    CatalogError
        If a dataset is unknown, not there, or does not fit the others; if there is no such cluster.
    ScanError
        If `size` is not one a network can use.
    StoreError
        If `out` holds something else, or another run is writing it.
    """
    check_workers(cluster, workers)
    region, datasets, cases = collect(catalog, names, tumours, modality, region_name)
    size = region.cube if size is None else size
    check_size(size)
    donors = PseudoDonors()
    if pseudo_labels is not None:
        donors = read_pseudo_donors(pseudo_labels, tumours, say)
        cases = donor_cases(donors, pseudo_labels, cases)
        datasets = donor_datasets(donors, datasets)
    order = _Order(out.resolve(), datasets, region, size, donors)
    say_who_is_masked(datasets, cases, cluster, say)
    kept: set[str] = set()
    failed: dict[str, str] = {}
    progress(0, len(cases))
    with source_store.open_to_write(out, region, size), open_cluster(cluster, workers, len(cases), say) as client:
        finished = source_store.finished_sources(out)
        for name in donors.stale(finished):
            source_store.remove_source(out, name)
            say(f"{name}: its mask is not confident, so it was removed from {out}")
        there = [(case, finished[_name(case)]) for case in cases if _name(case) in finished]
        with contextlib.closing(run_tasks(client, order.keeps, there, "check", say)) as checks:
            for (case, _), sound in checks:
                if sound is True:
                    kept.add(_name(case))
                    progress(1, len(cases))
        todo = [case for case in cases if _name(case) not in kept]
        for case in todo:  # before any worker writes: the store's own attributes have one writer
            source_store.remove_source(out, _name(case))
        with contextlib.closing(run_tasks(client, order.make, todo, "scan", say)) as results:
            for case, result in results:
                if isinstance(result, Failure) and isinstance(result.error, StoreError):
                    raise result.error
                if result is not None:
                    source_store.remove_source(out, _name(case))
                    failed[_name(case)] = result.reason if isinstance(result, Failure) else result
                progress(1, len(cases))
        source_store.finalise(out)
    return Report(
        done=[_name(case) for case in todo if _name(case) not in failed],
        kept=[_name(case) for case in cases if _name(case) in kept],
        failed=[(f"{case.dataset}/{case.name}", failed[_name(case)]) for case in todo if _name(case) in failed],
    )


def prepare_case(
    case: Case, dataset: Dataset, region: Region, size: int, donors: PseudoDonors | None = None
) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """Prepare one scan; depends on nothing but its arguments and the files they name.

    Parameters
    ----------
    case : Case
    dataset : Dataset
    region : Region
    size : int
    donors : PseudoDonors, optional
        Those whose label a network drew.

    Returns
    -------
    arrays : dict of str to ndarray, shape (size, size, size)
        Those of a source, see `synth.sources.format`.
    provenance : dict
        Its attributes, but for the content hash.

    Raises
    ------
    ScanError
        If the scan cannot be used.
    """
    donors = donors or PseudoDonors()
    donors.check(case)
    case = with_brain_mask(case, dataset)
    scan = read_case(case, dataset, region)
    lends_tumour = dataset.role == "tumour"
    diseased = scan.label if lends_tumour else scan.lesion
    prepared = prepare(scan.volume, scan.roi, diseased, region, size, where=str(case.image))
    roi = prepared.roi if prepared.lesion is None else prepared.roi & ~prepared.lesion
    mean = float(f"{prepared.intensity[roi].mean(dtype=np.float64):.9g}")
    if mean <= 0:
        raise ScanError(f"{case.image}: the mean over its ROI is {mean:g}; check raw_zero of region {region.name}")
    arrays = {
        "intensity": prepared.intensity,
        "lent": lend(prepared.intensity, roi, prepared.frame.spacing_mm),
        "roi": roi.astype(np.uint8),
        "foreground": prepared.roi.astype(np.uint8),
    }
    lent: dict[str, Any] = {}
    if lends_tumour:
        tumour = _tumour(scan.label, prepared, str(case.image))
        arrays["roi"] = (prepared.roi & ~tumour).astype(np.uint8)
        lent = {"tumour_voxels": int(tumour.sum())}
    return arrays, {
        **_origin(case, dataset, region, size, donors),
        "frame": prepared.frame.to_json(),
        "spacing_mm": list(prepared.frame.spacing_mm),
        "statistics": prepared.statistics.to_json() if prepared.statistics else None,
        "mean": mean,
        "roi_voxels": int(roi.sum()),
        "lesion_voxels": int(prepared.roi.sum()) - int(roi.sum()),
        "coverage": round(prepared.coverage, 6),
        **lent,
    }


def _tumour(label: Volume | None, prepared: Prepared, where: str) -> np.ndarray:
    """Return the voxels of the cube that are tumour for the greater part, bool."""
    if label is None:
        raise ScanError(f"{where}: has no label file to cut its tumour by; see the layout in the catalog")
    tumour = prepared.roi & (to_frame(label.with_array(label.array.astype(np.float32)), prepared.frame) >= 0.5)
    if not tumour.any():
        raise ScanError(f"{where}: its label holds no tumour that fills a voxel of the cube")
    return tumour


def _origin(case: Case, dataset: Dataset, region: Region, size: int, donors: PseudoDonors) -> dict[str, Any]:
    """Return what decides whether a source prepared earlier is still the one asked for."""
    drawn = donors.of(case)
    # A mask that was made is kept under a digest, and sources record what means the same on any machine.
    names = {role: in_utf8(path.name) for role, path in case.files().items()}
    made = {"roi_made_with": told_command(case.made_with)} if case.made_with else {}
    if made:
        names["roi"] = "brain_mask.nii.gz"
    return {
        "dataset": case.dataset,
        "case": case.name,
        "modality": dataset.modality,
        "licence": dataset.licence,
        "terms": dataset.terms,
        "redistribute_derived": dataset.redistribute_derived,
        "citation": dataset.citation,
        "files": [
            {"role": role, "name": names[role], "sha256": content_sha256([path])}
            for role, path in sorted(case.files().items())
        ],
        "settings_sha256": source_store.settings_sha256(region, size),
        **({} if drawn is None else {"pseudo_label": drawn.provenance()}),
        **made,
    }


def _name(case: Case) -> str:
    return source_name(case.dataset, case.name)


@dataclass(frozen=True)
class _Order:
    """What workers are told of a run: the store, and what its sources are made of and how."""

    out: Path
    datasets: dict[str, Dataset]
    region: Region
    size: int
    donors: PseudoDonors

    def make(self, case: Case) -> str | None:
        """Prepare a scan and write it; return why it cannot be used, if so."""
        try:
            with one_scan(case.image):
                made = prepare_case(case, self.datasets[case.dataset], self.region, self.size, self.donors)
        except UserError as error:
            return str(error)
        try:
            source_store.write_source(self.out, _name(case), *made)
        except OSError as error:
            raise StoreError(
                f"{self.out} cannot be written ({error.strerror or error}); mend that and run the same command again, "
                "finished scans are kept"
            ) from error
        return None

    def keeps(self, found: tuple[Case, dict[str, Any]]) -> bool:
        """Say whether a finished source is sound, and of the files and settings that it would be made from now."""
        case, provenance = found
        dataset = self.datasets[case.dataset]
        if case.problem:
            return False
        try:
            with one_scan(case.image):
                found_case = with_kept_mask(case, dataset)
                if found_case is None:
                    return False
                origin = _origin(found_case, dataset, self.region, self.size, self.donors)
                if any(provenance.get(key) != origin.get(key) for key in {*origin, "pseudo_label"}):
                    return False
                arrays = source_store.read_arrays(self.out, _name(case))
                return source_store.content_sha256(arrays, provenance) == provenance["content_sha256"]
        except UserError:
            return False
