import gzip
import io
import os
import struct

import numpy as np
import pytest
from rich.console import Console
from typer.testing import CliRunner

from scans.catalog.catalog import load_catalog
from synth.cli.application import app
from synth.sources.inventory import print_report, scan_catalog
from tests.made.catalogs import ROOT, make, make_two, save_two
from tests.made.scan_files import brain, mask, save

LAYOUT = 'image: "{case}_flair.nii.gz"\n      roi: "{case}_brain.nii.gz"'


@pytest.fixture
def catalog_path(tmp_path):
    save(brain(), tmp_path / "data" / "good_flair.nii.gz")
    save(mask(radius=0.8, centre=0.0), tmp_path / "data" / "good_brain.nii.gz")
    return make(tmp_path, LAYOUT)


def report(catalog_path, deep: bool = False, everything: bool = False) -> tuple[int, str]:
    text = io.StringIO()
    rows = scan_catalog(load_catalog(catalog_path), deep=deep)
    code = print_report(rows, Console(file=text, width=60), everything=everything)
    return code, text.getvalue()


@pytest.mark.parametrize("deep", [False, True])
def test_what_is_there_is_listed(catalog_path, deep):
    code, text = report(catalog_path, deep)
    assert code == 0
    row = next(line for line in text.splitlines() if line.startswith("mine"))
    assert row.split()[-4:] == ["1", "1", "roi", "ready"]
    assert "synth prepare --dataset mine" in text


def test_what_is_not_here_is_one_line_and_no_mistake(tmp_path):
    code, text = report(make(tmp_path, LAYOUT))
    assert code == 0
    (line,) = [line for line in text.splitlines() if line.startswith("1 dataset is not here: mine")]
    assert "is not a folder" in line
    assert "Ask me." not in text
    assert "next: " in text, "a newcomer is told what to do"
    code, text = report(make(tmp_path, LAYOUT), everything=True)
    assert code == 0
    assert "Ask me." in text


def test_a_newcomers_datasets_come_first_and_the_shipped_ones_in_one_line(catalog_path, monkeypatch):
    for dataset in load_catalog(ROOT / "data_catalog.yaml").datasets.values():
        monkeypatch.delenv(dataset.root.env, raising=False)
    catalog_path.write_text(f"include: [{ROOT / 'data_catalog.yaml'}]\n{catalog_path.read_text()}")
    code, text = report(catalog_path)
    lines = [line for line in text.splitlines() if line]
    assert code == 0
    assert len(lines) == 4
    assert lines[1].startswith("mine")
    assert lines[2].startswith("10 datasets are not here: OASIS, BTCV, ")
    assert lines[2].endswith("; --all tells how to obtain them")
    assert lines[3] == "next: synth prepare --dataset mine --out sources.zarr"
    assert report(catalog_path, everything=True)[1].count("_ROOT to ") >= 10


def test_headers_tell_of_cut_files_of_another_grid(catalog_path):
    save(mask().with_array(mask().array[:-1]), catalog_path.parent / "data" / "good_brain.nii.gz")
    (catalog_path.parent / "data" / "cut_flair.nii.gz").write_bytes(b"no scan")
    code, text = report(catalog_path)
    assert code == 1
    assert "2 bad" in text
    assert "bad: mine/cut: " in text
    assert "not on the grid" in text


@pytest.mark.parametrize("deep", [False, True])
def test_no_header_however_damaged_ends_the_look(catalog_path, deep):
    data = catalog_path.parent / "data"
    raw = gzip.decompress((data / "good_flair.nii.gz").read_bytes())
    for name, at, value in [("a", 108, np.inf), ("b", 108, np.nan), ("c", 108, -352)]:
        (data / f"{name}_flair.nii.gz").write_bytes(gzip.compress(raw[:at] + struct.pack("<f", value) + raw[at + 4 :]))
    (data / "d_flair.nii.gz").symlink_to("nothing")
    os.rename(save(brain(), data / "t.nii.gz"), os.fsencode(data) + b"/caf\xe9_flair.nii.gz")
    code, text = report(catalog_path, deep)
    assert code == 1
    assert "4 bad" in text
    assert [line.split(":")[1] for line in text.splitlines() if line.startswith("bad")] == [
        f" mine/{name}" for name in "abcd"
    ]


def test_deep_reading_finds_what_headers_hide(catalog_path):
    scan = brain()
    scan.array[2, 2, 2] = np.nan
    save(scan, catalog_path.parent / "data" / "nan_flair.nii.gz")
    save(mask().with_array(0 * mask().array), catalog_path.parent / "data" / "good_brain.nii.gz")
    assert report(catalog_path)[0] == 0
    code, text = report(catalog_path, deep=True)
    assert code == 1
    assert "NaN" in text
    assert "ROI mask is empty" in text


def test_names_with_markup_are_printed_as_they_are(catalog_path):
    (catalog_path.parent / "data" / "[red]x_flair.nii.gz").write_bytes(b"no scan")
    assert "mine/[red]x" in report(catalog_path)[1]


@pytest.mark.parametrize("deep", [False, True])
def test_every_modality_is_looked_at(tmp_path, deep):
    for name in ("good", "short", "lone"):
        save_two(tmp_path, name)
    save(brain().with_array(brain().array[:-1]), tmp_path / "data" / "short_t1.nii.gz")
    (tmp_path / "data" / "lone_t1.nii.gz").unlink()
    code, text = report(make_two(tmp_path, region="{FLAIR: brain, T1: t1}"), deep)
    assert code == 1
    assert "brain, t1" in text
    assert "2 bad" in text
    assert "lone_flair.nii.gz: its T1 scan is missing" in text
    assert "short_t1.nii.gz is not on the grid" in text


def test_the_next_command_names_the_catalog_it_needs(catalog_path):
    result = CliRunner().invoke(app, ["scan", "--catalog", str(catalog_path)])
    assert f"next: synth prepare --catalog {catalog_path} --dataset mine --out sources.zarr" in result.output
