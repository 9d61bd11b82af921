"""The wheel: all that is read at run time is in it, and it works in a folder that knows nothing of the project."""

import os
import re
import shutil
import subprocess
import sys
import sysconfig
import venv
import zipfile

import pytest

from scans.release import URL, VERSION
from tests.made.catalogs import ROOT
from tests.made.real_scans import write_case

HALVES = ("scans", "synth", "train")
CATALOG = """
include: [data_catalog.yaml]
datasets:
  mine:
    role: normal
    region: brain-flair
    modality: FLAIR
    licence: none
    terms: none
    redistribute_derived: true
    citation: none
    obtain: made here
    root: {path: scans}
    layout: {image: "{case}_flair.nii.gz", roi: "{case}_brain.nii.gz"}
"""


def pip(*arguments):
    command = [sys.executable, "-m", "pip", "--disable-pip-version-check", *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, encoding="utf-8", check=False)
    assert done.returncode == 0, done.stderr[-3000:]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """Build the wheel from a copy, with the setuptools that is here: no network."""
    folder = tmp_path_factory.mktemp("wheel")
    for half in HALVES:
        shutil.copytree(ROOT / half, folder / "tree" / half, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "setup.py", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, folder / "tree" / name)
    pip("wheel", "--no-deps", "--no-build-isolation", "--no-index", "--wheel-dir", folder, folder / "tree")
    (built,) = folder.glob("*.whl")
    return built


def test_every_file_of_the_three_packages_is_in_the_wheel_and_no_other(wheel):
    there = {
        path.relative_to(ROOT).as_posix()
        for half in HALVES
        for path in (ROOT / half).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    with zipfile.ZipFile(wheel) as archive:
        packed = {name for name in archive.namelist() if ".dist-info/" not in name}
    assert packed == there


def test_the_page_for_an_index_has_no_link_that_leads_nowhere_outside_the_project(wheel):
    with zipfile.ZipFile(wheel) as archive:
        (name,) = (name for name in archive.namelist() if name.endswith(".dist-info/METADATA"))
        about = archive.read(name).decode()
    assert f"\nVersion: {VERSION}\n" in about
    assert f"\nProject-URL: Source, {URL}\n" in about
    outside = re.compile(r"https://|#")
    links = re.findall(r"\]\(([^)\s]+)\)", about)
    assert len(links) > 20
    assert [link for link in links if not outside.match(link)] == []


def test_an_installed_wheel_goes_from_scans_to_a_corpus_and_segments_with_its_own_network(wheel, tmp_path):
    """What it depends on is lent by the environment that runs this; the checkout is not."""
    venv.create(tmp_path / "env", with_pip=False)
    (site,) = (tmp_path / "env" / "lib").glob("python3*/site-packages")
    (site / "lent.pth").write_text(sysconfig.get_path("purelib") + "\n", encoding="utf-8")
    pip("--python", tmp_path / "env" / "bin" / "python", "install", "--no-deps", "--no-index", wheel)
    work = tmp_path / "work"
    write_case(work / "scans", "a", seed=0, spacing_mm=(3.0, 2.5, 2.5))
    write_case(work / "scans", "b", seed=1, spacing_mm=(3.0, 2.5, 2.5))
    (work / "mine.yaml").write_text(CATALOG, encoding="utf-8")
    quick = {"NUMBA_DISABLE_JIT": "1", "OMP_NUM_THREADS": "1"}  # two samples are made before they would be compiled
    known = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}

    def run(program, *arguments):
        done = subprocess.run(
            [tmp_path / "env" / "bin" / program, *arguments],
            cwd=work, env=known | quick, capture_output=True, encoding="utf-8", check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr[-3000:]
        return done.stdout

    where = run("python", "-c", "import scans, synth, train; print(scans.__path__, synth.__path__, train.__path__)")
    assert where.count(str(site)) == 3
    run("synth", "prepare", "--catalog", "mine.yaml", "--dataset", "mine", "--out", "s.zarr", "--size", "24",
        "--workers", "0")  # fmt: skip
    made = run("synth", "generate", "--sources", "s.zarr", "--out", "c.zarr", "-n", "2", "--workers", "0", "--no-card")
    assert "2 samples in 1 shards" in made
    assert "masks/a_flair_mask.nii.gz" in run("train", "segment", "scans/a_flair.nii.gz", "--out", "masks")
    assert (work / "masks" / "a_flair_mask.nii.gz").is_file()


def test_citation_and_changelog_name_the_release_and_its_address_as_the_code_does():
    citation = (ROOT / "CITATION.cff").read_text(encoding="utf-8")
    assert f"\nversion: {VERSION}\n" in citation
    assert f"\nrepository-code: {URL}\n" in citation
    assert f"\n## [{VERSION}]" in (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
