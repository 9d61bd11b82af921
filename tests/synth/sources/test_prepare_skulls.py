"""What `synth prepare` makes of scans that wear their skull, and of BIDS datasets."""

import shutil

import pytest
from typer.testing import CliRunner

from scans.catalog.catalog import load_catalog
from scans.image.brain_mask import kept_mask
from synth.cli.application import app
from synth.sources.prepare import prepare_datasets
from synth.sources.reader import SourceStore
from tests.made.bids import write_dataset, write_scan
from tests.made.catalogs import make
from tests.made.scan_files import mask, save
from tests.made.skulls import GRID, Tool, head


@pytest.fixture
def tool(tmp_path):
    return Tool(tmp_path)


@pytest.fixture
def catalog_path(tmp_path):
    """Three heads, of which one brings a mask."""
    for seed, name in enumerate("abc"):
        save(head(seed=seed), tmp_path / "data" / f"{name}_flair.nii.gz")
    save(mask(GRID, radius=0.7, centre=0.0), tmp_path / "data" / "c_brain.nii.gz")
    return make(tmp_path, 'image: "{case}_flair.nii.gz"\n      roi: "{case}_brain.nii.gz"')


def run(catalog, tmp_path, out="sources.zarr", workers=0, **keywords):
    return prepare_datasets(catalog, ["mine"], tmp_path / out, 32, workers=workers, **keywords)


def contents(path):
    store = SourceStore(path)
    return {name: store.provenance(name)["content_sha256"] for name in store.names}


def test_masks_are_made_by_the_workers_and_kept_and_give_what_masks_beside_the_scans_give(catalog_path, tool, tmp_path):
    kept, told = tmp_path / "kept", []
    catalog = load_catalog(catalog_path).with_brain_masks(tool.command(), kept)
    report = run(catalog, tmp_path, workers=2, say=told.append)
    assert (report.done, report.failed, tool.runs) == (["mine--a", "mine--b", "mine--c"], [], 2)
    assert any("mine: 2 of its scans bring no mask" in line and str(kept) in line for line in told)
    made = SourceStore(tmp_path / "sources.zarr").provenance("mine--a")
    assert made["roi_made_with"].endswith("strip tool.py well {scan} {mask}")
    assert str(tmp_path) not in str(made["roi_made_with"])
    assert [(file["role"], file["name"]) for file in made["files"]] == [
        ("image", "a_flair.nii.gz"),
        ("roi", "brain_mask.nii.gz"),
    ]
    assert "roi_made_with" not in SourceStore(tmp_path / "sources.zarr").provenance("mine--c")

    again = run(catalog, tmp_path)
    assert (again.kept, tool.runs) == (["mine--a", "mine--b", "mine--c"], 2)
    sources = contents(tmp_path / "sources.zarr")
    for name in "ab":
        scan = tmp_path / "data" / f"{name}_flair.nii.gz"
        shutil.copy(kept_mask(scan, tool.command(), kept), tmp_path / "data" / f"{name}_brain.nii.gz")
    run(load_catalog(catalog_path), tmp_path, out="beside.zarr")
    assert contents(tmp_path / "beside.zarr") == sources


def test_a_catalog_may_say_how_masks_are_made_for_a_region_or_a_dataset(catalog_path, tool, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    text = catalog_path.read_text(encoding="utf-8")
    command = f'brain_mask_with: "{tool.command()}"'
    catalog_path.write_text(text.replace("brain: {modality: FLAIR}", f"brain: {{modality: FLAIR, {command}}}"))
    assert not run(load_catalog(catalog_path), tmp_path).failed
    assert (tool.runs, len(list((tmp_path / "brain_masks").glob("*.nii.gz")))) == (2, 2)
    text = catalog_path.read_text(encoding="utf-8")
    catalog_path.write_text(text.replace("    region: brain\n", '    region: brain\n    brain_mask_with: ""\n'))
    refused = run(load_catalog(catalog_path), tmp_path, out="none.zarr").failed
    assert [case for case, _ in refused] == ["mine/a", "mine/b"]
    assert all("not skull-stripped" in why and "--brain-mask-with" in why for _, why in refused)


def test_scans_whose_mask_fails_are_named_and_the_rest_is_prepared(catalog_path, tool, tmp_path):
    command = ["prepare", "--catalog", str(catalog_path), "--dataset", "mine", "--out", str(tmp_path / "s.zarr")]
    masks = ["--brain-masks", str(tmp_path / "kept"), "--size", "32", "--workers", "0", "--brain-mask-with"]
    result = CliRunner().invoke(app, [*command, *masks, tool.command("empty")])
    assert result.exit_code == 1
    assert "left out mine/a:" in result.stderr
    assert result.stderr.count("is empty; give a mask of your own") == 2
    assert "1 prepared, 0 kept, 2 left out" in result.stdout
    assert not list((tmp_path / "kept").iterdir())
    result = CliRunner().invoke(app, [*command, *masks, "no_such_tool {scan} {mask}"])
    assert "no such program on this machine" in str(result.exception)


def test_a_dataset_of_bids_is_prepared_with_the_masks_of_its_derivatives(tmp_path):
    root = write_dataset(tmp_path / "study", License="CC0")
    catalog = make(tmp_path)
    for seed, name in enumerate(("sub-01_ses-a", "sub-01_ses-b", "sub-02")):
        write_scan(root, f"{name}_FLAIR", head(seed=seed))
        write_scan(root, f"derivatives/strip/{name}_desc-brain_mask", mask(GRID, radius=0.7, centre=0.0))
    write_scan(root, "derivatives/marked/sub-02_label-lesion_mask", mask(GRID, radius=0.3, centre=0.0))
    out = tmp_path / "sources.zarr"
    command = ["prepare", "--catalog", str(catalog), "--out", str(out), "--size", "32", "--workers", "0"]
    result = CliRunner().invoke(app, [*command, "--bids", str(root)])
    assert (result.exit_code, result.exception) == (0, None)
    store = SourceStore(out)
    assert store.names == ["A_study--sub-01_ses-a", "A_study--sub-01_ses-b", "A_study--sub-02"]
    known = store.provenance("A_study--sub-02")
    assert (known["licence"], known["redistribute_derived"]) == ("CC0", True)
    assert {file["role"] for file in known["files"]} == {"image", "lesion", "roi"}
    assert known["lesion_voxels"] > 0
    result = CliRunner().invoke(app, [*command, "--dataset", "mine", "--suffix", "T1w"])
    assert "--suffix and --derivatives belong to --bids" in str(result.exception)
