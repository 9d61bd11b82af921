import gzip
import hashlib
import json
import os
import struct
from pathlib import Path

import nibabel
import numpy as np
import pytest
import SimpleITK as sitk
from typer.testing import CliRunner

from scans.catalog.catalog import load_catalog
from scans.errors import CatalogError, ScanError, StoreError
from scans.image.cases import find_cases
from synth.cli.application import app
from synth.sources.healthy_tissue import lend
from synth.sources.prepare import prepare_case, prepare_datasets
from synth.sources.reader import SourceStore
from tests.made.catalogs import make
from tests.made.corpora import files_of
from tests.made.running import Dask
from tests.made.scan_files import brain, mask, save, save_dicom

LAYOUT = 'image: "{case}_flair.nii.gz"\n      roi: "{case}_brain.nii.gz"\n      lesion: "{case}_lesions.nii.gz"'


@pytest.fixture
def catalog_path(tmp_path) -> Path:
    """Three scans: one plain, one with a lesion of value 4000, one with an ROI file."""
    for seed, name in enumerate("abc"):
        scan = brain(seed=seed)
        if name == "b":
            scan.array[mask().array > 0] = 4000
            save(mask(), tmp_path / "data" / "b_lesions.nii.gz")
        save(scan, tmp_path / "data" / f"{name}_flair.nii.gz")
    save(mask(radius=0.7, centre=0.0), tmp_path / "data" / "c_brain.nii.gz")
    return make(tmp_path, LAYOUT)


def make_window(catalog_path: Path) -> None:
    """Give the region statistics that its scans share."""
    text = catalog_path.read_text(encoding="utf-8")
    window = "brain: {modality: CT, normalisation: {kind: window, raw_zero: -1024}}"
    catalog_path.write_text(text.replace("brain: {modality: FLAIR}", window), encoding="utf-8")


def run(catalog_path: Path, out: str = "sources.zarr", size: int = 32, workers: int = 0, **keywords):
    path = catalog_path.parent / out
    return prepare_datasets(load_catalog(catalog_path), ["mine"], path, size, workers=workers, **keywords), path


def test_scans_become_sources_with_provenance(catalog_path):
    steps = []
    report, path = run(catalog_path, progress=lambda step, total: steps.append((step, total)))
    assert report.done == ["mine--a", "mine--b", "mine--c"]
    assert not report.kept
    assert not report.failed
    assert steps == [(0, 3), (1, 3), (1, 3), (1, 3)]
    provenance = SourceStore(path).provenance("mine--c")
    digest = hashlib.sha256((catalog_path.parent / "data/c_brain.nii.gz").read_bytes()).hexdigest()
    assert {"role": "roi", "name": "c_brain.nii.gz", "sha256": digest} in provenance["files"]
    assert provenance["terms"] == "none"
    assert str(catalog_path.parent) not in str(provenance), "no path of this machine is passed on"


def test_lesions_are_neither_pasted_over_nor_lent(catalog_path):
    _, path = run(catalog_path)
    source = SourceStore(path).load("mine--b")
    lesion = source.foreground & ~source.roi
    assert lesion.sum() > 50
    assert source.intensity[lesion].max() > 3000, "the network still sees it"
    assert source.intensity[source.roi].max() < 600
    assert source.lent.max() < 200
    assert source.mean == pytest.approx(100, abs=3)


def test_second_run_keeps_what_the_first_finished(catalog_path):
    run(catalog_path)
    before = {p: p.stat().st_mtime_ns for p in catalog_path.parent.glob("sources.zarr/*/intensity/**/*") if p.is_file()}
    report, path = run(catalog_path)
    assert report.kept == ["mine--a", "mine--b", "mine--c"]
    assert before == {p: p.stat().st_mtime_ns for p in path.glob("*/intensity/**/*") if p.is_file()}


def test_changed_file_and_damaged_source_are_prepared_again(catalog_path):
    _, path = run(catalog_path)
    content = SourceStore(path).content_hash
    save(brain(seed=9), catalog_path.parent / "data" / "a_flair.nii.gz")
    (path / "mine--c" / "roi" / "c.0.0.0").write_bytes(b"")
    report, path = run(catalog_path)
    assert (report.done, report.kept) == (["mine--a", "mine--c"], ["mine--b"])
    assert SourceStore(path).content_hash != content
    SourceStore(path).load("mine--c")


def test_interrupted_run_is_finished_by_the_next(catalog_path, monkeypatch):
    def stop_at_c(case, *rest):
        if case.name == "c":
            raise KeyboardInterrupt
        return prepare_case(case, *rest)

    with monkeypatch.context() as patch:
        patch.setattr("synth.sources.prepare.prepare_case", stop_at_c)
        with pytest.raises(KeyboardInterrupt):
            run(catalog_path)
    report, path = run(catalog_path)
    assert (report.done, report.kept) == (["mine--c"], ["mine--a", "mine--b"])
    whole, other = run(catalog_path, "whole.zarr")
    assert SourceStore(path).content_hash == SourceStore(other).content_hash
    assert len(whole.done) == 3


def test_bad_scan_is_named_and_the_rest_goes_on(catalog_path):
    run(catalog_path)
    broken = catalog_path.parent / "data" / "b_flair.nii.gz"
    broken.write_bytes(broken.read_bytes()[:500])
    report, path = run(catalog_path)
    assert report.kept == ["mine--a", "mine--c"]
    ((case, sentence),) = report.failed
    assert case == "mine/b"
    assert str(broken) in sentence
    assert SourceStore(path).names == ["mine--a", "mine--c"], "what no longer fits its file does not stay"


def test_any_number_of_workers_makes_the_same_store(catalog_path):
    make_window(catalog_path)
    _, path = run(catalog_path)
    before = files_of(path)
    report, two = run(catalog_path, "two.zarr", workers=2)
    assert report.done == ["mine--a", "mine--b", "mine--c"]
    assert files_of(two) == before
    (two / "mine--b" / "zarr.json").unlink()
    report, _ = run(catalog_path, "two.zarr")
    assert (report.done, report.kept) == (["mine--b"], ["mine--a", "mine--c"])
    assert files_of(two) == before


def test_a_bad_scan_does_not_stop_a_cluster(catalog_path):
    broken = catalog_path.parent / "data" / "b_flair.nii.gz"
    broken.write_bytes(broken.read_bytes()[:500])
    report, path = run(catalog_path, workers=2)
    assert report.done == ["mine--a", "mine--c"]
    ((case, sentence),) = report.failed
    assert case == "mine/b"
    assert str(broken) in sentence
    assert SourceStore(path).names == ["mine--a", "mine--c"]


def test_a_scan_that_kills_its_worker_is_left_out_and_the_rest_goes_on(catalog_path):
    """A scan of 3.4 GB, which a worker that may have 0.9 does not survive reading."""
    header = nibabel.Nifti1Header()
    header.set_data_shape((950, 950, 950))
    header.set_data_dtype(np.float32)
    header["vox_offset"] = 352
    ten_slices = gzip.compress(bytes(4 * 950 * 950 * 10))  # packed once: what gzip packs may be joined
    content = gzip.compress(header.binaryblock + bytes(4)) + 95 * ten_slices
    (catalog_path.parent / "data" / "b_flair.nii.gz").write_bytes(content)
    (catalog_path.parent / "data" / "b_lesions.nii.gz").unlink()
    with Dask(memory="900MB") as dask:
        path = catalog_path.parent / "sources.zarr"
        report = prepare_datasets(load_catalog(catalog_path), ["mine"], path, 32, cluster=dask.address)
    assert report.done == ["mine--a", "mine--c"]
    assert report.failed == [
        ("mine/b", "its worker died each time (killed, or out of memory); give workers more memory, or start fewer")
    ]
    assert SourceStore(path).names == ["mine--a", "mine--c"]


def test_other_terms_reach_the_sources(catalog_path):
    run(catalog_path)
    catalog_path.write_text(catalog_path.read_text(encoding="utf-8").replace("terms: none", "terms: ask first"))
    _, path = run(catalog_path)
    assert SourceStore(path).provenance("mine--a")["terms"] == "ask first"


def test_case_is_prepared_the_same_every_time(catalog_path):
    catalog = load_catalog(catalog_path)
    dataset, region = catalog.dataset("mine"), catalog.region("brain")
    case = find_cases(dataset, "mine")[1]
    (a, of_a), (b, of_b) = (prepare_case(case, dataset, region, 32) for _ in range(2))
    assert of_a == of_b
    for key in a:
        np.testing.assert_array_equal(a[key], b[key])


def test_what_cannot_be_prepared_is_said_before_anything_is_written(catalog_path):
    catalog = load_catalog(catalog_path)
    out = catalog_path.parent / "sources.zarr"
    with pytest.raises(ScanError, match="multiple of 8"):
        prepare_datasets(catalog, ["mine"], out, 30)
    with pytest.raises(CatalogError, match="no dataset yours"):
        prepare_datasets(catalog, ["mine", "yours"], out)
    with pytest.raises(CatalogError, match="at least one"):
        prepare_datasets(catalog, [], out)
    text = catalog_path.read_text(encoding="utf-8")
    catalog_path.write_text(text.replace("role: normal", "role: tumour"))
    with pytest.raises(CatalogError, match="holds tumours"):
        prepare_datasets(load_catalog(catalog_path), ["mine"], out)
    catalog_path.write_text(text.replace("{case}_flair", "{case}_t2"))
    with pytest.raises(CatalogError, match=r"no file .* how to get it: Ask me"):
        prepare_datasets(load_catalog(catalog_path), ["mine"], out)
    assert not out.exists()


def test_store_of_another_size_is_refused(catalog_path):
    run(catalog_path)
    with pytest.raises(StoreError, match="another size"):
        run(catalog_path, size=16)


def test_window_region_gets_common_statistics(catalog_path):
    make_window(catalog_path)
    _, path = run(catalog_path)
    store = SourceStore(path)
    assert store.statistics["mean"] == pytest.approx(1124, abs=5)
    assert store.load("mine--a").statistics == store.load("mine--b").statistics


def test_lent_tissue_equals_the_scan_inside_and_is_mirrored_outside():
    healthy = np.zeros((24, 24, 24), bool)
    healthy[:, :, 4:20] = True
    ramp = np.broadcast_to(np.arange(24, dtype=np.float32) + 100, (24, 24, 24)) * healthy
    lent = lend(ramp, healthy, (1.0, 1.0, 1.0))
    np.testing.assert_array_equal(lent[:, :, 5:19], ramp[:, :, 5:19])
    # The outermost healthy plane (x = 4, 19) is not trusted: the mirror lies at 5 and 18.
    np.testing.assert_array_equal(lent[0, 0, :5], [110, 109, 108, 107, 106])
    np.testing.assert_array_equal(lent[0, 0, 19:], [117, 116, 115, 114, 113])


def test_lesion_beside_a_ventricle_is_not_filled_with_it():
    rng = np.random.default_rng(0)
    tissue = rng.normal(100, 3, (32, 32, 32)).astype(np.float32)
    tissue[10:16] = 5
    healthy = np.ones(tissue.shape, bool)
    healthy[16:20, 8:24, 8:24] = False
    tissue[~healthy] = 900
    filled = lend(tissue, healthy, (1.0, 1.0, 1.0))[~healthy]
    assert filled.min() > 85
    assert filled.max() < 115


def test_real_scans_become_sources(dev_data, tmp_path):
    catalog = load_catalog("catalogs/dev.yaml")
    report = prepare_datasets(catalog, ["dev-flair-normal"], tmp_path / "s.zarr", 64)
    assert len(report.done) >= 6
    assert not report.failed
    store = SourceStore(tmp_path / "s.zarr")
    for name in store.names:
        source = store.load(name)
        millilitres = source.foreground.sum() * np.prod(source.spacing_mm) / 1000
        assert 1000 < millilitres < 2100  # some of the masks that come with scans are generous
        assert np.abs(source.normal.voxels.astype(float)).max() < 20  # eyes and fat within a generous mask
    assert store.provenance("dev-flair-normal--ms19")["lesion_voxels"] > 0


# Files as they come.


@pytest.mark.parametrize("kind", ["nhdr", "mhd"])
def test_a_source_is_made_anew_when_the_voxels_beside_a_header_change(tmp_path, kind):
    path = make(tmp_path, f'image: "{{case}}.{kind}"')
    (tmp_path / "data").mkdir()

    def write(seed):
        sitk.WriteImage(brain(seed=seed).to_itk(), tmp_path / "data" / f"a.{kind}")
        header = (tmp_path / "data" / f"a.{kind}").read_text()
        (tmp_path / "data" / f"a.{kind}").write_text(header.replace("a.raw", "voxels.bin"))
        (tmp_path / "data" / "a.raw").replace(tmp_path / "data" / "voxels.bin")
        return header

    header = write(0)
    assert run(path)[0].done == ["mine--a"]
    assert run(path)[0].kept == ["mine--a"]
    digest = SourceStore(run(path)[1]).provenance("mine--a")["files"][0]["sha256"]
    assert write(1) == header, "which says nothing of it"
    report, out = run(path)
    assert report.done == ["mine--a"]
    assert SourceStore(out).provenance("mine--a")["files"][0]["sha256"] != digest


def test_a_source_of_a_dicom_series_is_made_anew_when_a_slice_changes(tmp_path):
    path = make(tmp_path, 'image: "{case}"\n      kind: dicom')
    save_dicom(brain(), tmp_path / "data" / "a")
    assert run(path)[0].done == ["mine--a"]
    assert run(path)[0].kept == ["mine--a"]
    save_dicom(brain(seed=1), tmp_path / "data" / "a")
    assert run(path)[0].done == ["mine--a"]


@pytest.mark.parametrize("workers", [0, 2])
def test_a_name_that_is_not_utf8_becomes_a_source_whose_provenance_any_reader_takes(catalog_path, workers):
    data = catalog_path.parent / "data"
    os.rename(data / "a_flair.nii.gz", os.fsencode(data) + b"/caf\xe9_flair.nii.gz")
    report, path = run(catalog_path, workers=workers)
    assert report.done == ["mine--b", "mine--c", "mine--caf%25E9"]
    provenance = SourceStore(path).provenance("mine--caf%25E9")
    assert provenance["case"] == "caf%E9"
    assert provenance["files"][0]["name"] == "caf%E9_flair.nii.gz"
    json.dumps(provenance, ensure_ascii=False).encode()
    assert run(catalog_path)[0].kept == report.done


def test_no_header_however_damaged_ends_the_run(catalog_path):
    data = catalog_path.parent / "data"
    raw = gzip.decompress((data / "a_flair.nii.gz").read_bytes())
    for name, at, value in [("inf", 108, np.inf), ("minus", 108, -352), ("quaternion", 256, 1.5), ("gone", 0, 0)]:
        (data / f"{name}_flair.nii.gz").write_bytes(gzip.compress(raw[:at] + struct.pack("<f", value) + raw[at + 4 :]))
    (data / "gone_flair.nii.gz").unlink()
    (data / "gone_flair.nii.gz").symlink_to("nothing")
    report, _ = run(catalog_path)
    assert [case for case, _ in report.failed if case != "mine/quaternion"] == ["mine/gone", "mine/inf", "mine/minus"]
    assert {"mine--a", "mine--b", "mine--c"} <= set(report.done)
    assert all("\n" not in sentence and str(data) in sentence for _, sentence in report.failed)


def test_a_file_is_told_what_is_done_before_the_first_scan(catalog_path):
    command = ["prepare", "--catalog", str(catalog_path), "--dataset", "mine", "--size", "32", "--workers", "2"]
    result = CliRunner().invoke(app, [*command, "--out", str(catalog_path.parent / "s.zarr")])
    assert result.exit_code == 0
    told = [line for line in result.stderr.splitlines() if "dashboard" not in line]
    assert told == [f"looking for the scans of {catalog_path}", "0 of 3 scans", "starting 2 workers", "3 of 3 scans"]
