"""Pseudo-labels: which masks of a network are confident, and the road from them to a second network."""

import dataclasses
import importlib
import re
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

import synth.cli
import train.cli
from scans.catalog.catalog import load_catalog
from scans.errors import CatalogError, CheckpointError, StoreError, UserError
from scans.formats.pseudo_labels import read_pseudo_labels
from scans.image.volume import read_mask, write_volume
from synth.corpus import Corpus
from synth.corpus.verify import verify
from synth.generators.mixture import parse_mixture, with_donors
from synth.sources.format import finished_sources
from synth.sources.prepare import prepare_datasets
from synth.sources.reader import SourceStore
from tests.made.real_scans import head, write_case
from tests.made.tables import CATALOG
from tests.made.tiny_checkpoint import readings, save_bright
from train.evaluation.evaluate import evaluate
from train.inference.confidence import Confidence, Rule
from train.inference.reading import Scored
from train.network.dice import dice
from train.segmentation.pseudo_labels import pseudo_label
from train.settings import SettingsError
from train.share.model_card import _learned

FLAIR = {"name": "brain-flair", "modality": "FLAIR"}
SCAN = {"spacing_mm": (3.0, 2.5, 2.5)}
# Either way finds what is brighter than 2 in the network's units: a tumour has 4.8, all else less than 1.
AGREEING = readings(
    residual=Scored(by="residual", residual_scale=2.0, dice=0.7), both=Scored(by="both", residual_scale=2.0, dice=0.8)
)
HALF_OF_IT = readings(residual=Scored(by="residual", residual_scale=0.1, dice=0.7))


def bright(folder, name="first", **changed):
    values = {"region": FLAIR, "size": 32, "normal": 0.0, "reading": AGREEING, **changed}
    return save_bright(folder / f"{name}.safetensors", **values)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Return a folder of scans: normals, tumours whose label files cannot be read, and one with two bodies."""
    root = tmp_path_factory.mktemp("scans")
    for seed in range(3):
        write_case(root / "normal", f"n{seed}", seed=seed, **SCAN)
        write_case(root / "tumour", f"t{seed}", seed=10 + seed, **SCAN)
    one, other = (head(seed=20, at_mm=at, **SCAN)[0] for at in ((8, -12, 14), (-8, 16, -14)))
    write_case(root / "tumour", "two", seed=20, **SCAN)
    write_volume(one.with_array(np.maximum(one.array, other.array)), root / "tumour" / "two_flair.nii.gz")
    (root / "labels").mkdir()
    for label in (root / "tumour").glob("*_seg.nii.gz"):
        label.rename(root / "labels" / label.name)
        label.write_bytes(b"this is opened by nobody")
    (root / "catalog.yaml").write_text(CATALOG.replace("FOLDER", str(root)), encoding="utf-8")
    return root


@pytest.fixture(scope="module")
def made(folder, tmp_path_factory):
    out = tmp_path_factory.mktemp("pseudo") / "pseudo"
    pseudo_label(bright(folder), folder / "catalog.yaml", "gliomas", out, device="cpu")
    return out


@pytest.fixture
def pseudo(made, tmp_path):
    return Path(shutil.copytree(made, tmp_path / "pseudo"))


def label(folder, out, **changed):
    return pseudo_label(bright(folder), folder / "catalog.yaml", "gliomas", out, device="cpu", **changed)


def prepare(folder, pseudo, store, say=lambda sentence: None):
    return prepare_datasets(
        load_catalog(folder / "catalog.yaml"), ["heads"], store, 32, workers=0, say=say, tumours=["gliomas"],
        pseudo_labels=pseudo,
    )  # fmt: skip


# Which masks are confident.


def test_each_bound_is_a_doubt_of_its_own():
    sure = Confidence(0.9, 0.9, 0.95, 0.04)
    assert Rule().doubts(sure) == []
    worse = {"probability": 0.69, "agreement": 0.79, "largest": 0.79, "of_organ": 0.004}
    for name, value in worse.items():
        assert len(Rule().doubts(dataclasses.replace(sure, **{name: value}))) == 1
    assert len(Rule().doubts(dataclasses.replace(sure, of_organ=0.3))) == 1
    assert Rule().doubts(Confidence(0.0, 0.0, 0.0, 0.0)) == ["nothing was found"]


def test_masks_of_one_body_are_confident_and_one_of_two_is_left_out_with_its_reason(folder, made):
    rows = read_pseudo_labels(made)
    assert [case for case, row in rows.items() if row.confident] == ["t0", "t1", "t2"]
    assert "largest part" in rows["two"].why_not
    for case in ("t0", "t1", "t2"):  # though no label was opened
        truth = read_mask(folder / "labels" / f"{case}_seg.nii.gz")
        mask = read_mask(made / rows[case].mask)
        assert mask.same_grid(truth)
        assert dice(mask.array > 0, truth.array > 0) > 0.85
        assert rows[case].volume_ml == pytest.approx(mask.array.sum() * mask.grid.voxel_mm3 / 1000)


def test_readings_that_disagree_leave_every_scan_out(folder, tmp_path):
    network = bright(tmp_path, "disagreeing", reading=HALF_OF_IT)  # of the organ, by the residual
    rows = pseudo_label(network, folder / "catalog.yaml", "gliomas", tmp_path / "out", leave_out=["two", "t2"])
    assert [row.case for row in rows] == ["t0", "t1"]
    assert all("agree" in row.why_not and not row.confident for row in rows)


def test_another_rule_judges_the_masks_that_are_there(folder, pseudo):
    before = {path.name: path.stat().st_mtime_ns for path in pseudo.glob("*_mask.nii.gz")}
    seen = []
    rows = label(folder, pseudo, rule=Rule(largest=0.3), told=lambda row, kept: seen.append(kept))
    assert all(seen)
    assert all(row.confident for row in rows)
    assert {path.name: path.stat().st_mtime_ns for path in pseudo.glob("*_mask.nii.gz")} == before


def test_what_a_killed_run_lacks_is_made_again_and_is_the_same(folder, pseudo):
    table, mask = (pseudo / "pseudo_labels.csv").read_bytes(), (pseudo / "t1_mask.nii.gz").read_bytes()
    (pseudo / "t1_mask.nii.gz").write_bytes(mask[:100])
    label(folder, pseudo)
    assert (pseudo / "t1_mask.nii.gz").read_bytes() == mask
    assert (pseudo / "pseudo_labels.csv").read_bytes() == table


@pytest.mark.parametrize("left", [0.4, 0.97])
def test_a_table_that_a_killed_run_cut_off_loses_the_last_row_alone_and_is_made_whole(folder, pseudo, left):
    table = (pseudo / "pseudo_labels.csv").read_bytes()
    last = table.rindex(b"\n", 0, -1) + 1
    (pseudo / "pseudo_labels.csv").write_bytes(table[: last + int(left * (len(table) - last))])
    with pytest.raises(StoreError, match="damaged"):
        read_pseudo_labels(pseudo)  # whoever uses it is told
    seen = {}
    label(folder, pseudo, told=lambda row, kept: seen.update({row.case: (kept, on_disk(pseudo, row))}))
    assert seen == {"t0": (True, True), "t1": (True, True), "t2": (True, True), "two": (False, True)}
    assert (pseudo / "pseudo_labels.csv").read_bytes() == table


def on_disk(folder, row):
    return read_pseudo_labels(folder, under_way=True)[row.case].mask_sha256 == row.mask_sha256


def test_a_scan_that_cannot_be_read_is_named_and_the_others_go_on(folder, tmp_path):
    shutil.copytree(folder, tmp_path / "scans")
    (tmp_path / "scans" / "tumour" / "t0_flair.nii.gz").write_bytes(b"no scan")
    catalog = tmp_path / "scans" / "catalog.yaml"
    catalog.write_text(CATALOG.replace("FOLDER", str(tmp_path / "scans")), encoding="utf-8")
    rows = pseudo_label(bright(tmp_path), catalog, "gliomas", tmp_path / "out", leave_out=["two"])
    assert [(row.case, bool(row.mask)) for row in rows] == [("t0", False), ("t1", True), ("t2", True)]
    assert "t0_flair.nii.gz" in rows[0].why_not


def test_folders_of_others_and_networks_without_readings_are_refused(folder, pseudo, tmp_path):
    catalog = folder / "catalog.yaml"
    with pytest.raises(SettingsError, match="of another network"):
        pseudo_label(bright(tmp_path, "other", levels=(2.5,)), catalog, "gliomas", pseudo)
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "t0_mask.nii.gz").write_bytes(b"somebody's")
    with pytest.raises(SettingsError, match="other files"):
        label(folder, tmp_path / "full")
    with pytest.raises(CheckpointError, match="no readings"):
        pseudo_label(bright(tmp_path, "plain", reading=None), catalog, "gliomas", tmp_path / "a")
    with pytest.raises(CatalogError, match="has role normal"):
        pseudo_label(bright(folder), catalog, "heads", tmp_path / "b")
    with pytest.raises(SettingsError, match="has no such case"):
        label(folder, tmp_path / "c", leave_out=["nobody"])


# Their tumours are lent.


def test_confident_scans_lend_what_the_network_marked_and_say_which_network_it_was(folder, pseudo, tmp_path):
    report = prepare(folder, pseudo, tmp_path / "s.zarr")
    assert not report.failed
    finished = finished_sources(tmp_path / "s.zarr")
    assert sorted(finished) == [f"gliomas--t{n}" for n in range(3)] + [f"heads--n{n}" for n in range(3)]
    row = read_pseudo_labels(pseudo)["t0"]
    drawn = finished["gliomas--t0"]["pseudo_label"]
    assert (drawn["network"], drawn["rule"], drawn["agreement"]) == (row.network, row.rule, row.agreement)
    assert {file["role"]: file["sha256"] for file in finished["gliomas--t0"]["files"]}["label"] == row.mask_sha256
    assert "pseudo_label" not in finished["heads--n0"]
    assert len(prepare(folder, pseudo, tmp_path / "s.zarr").kept) == 6
    # Without them the dataset's own labels are asked for, and here cannot be read.
    own = prepare_datasets(
        load_catalog(folder / "catalog.yaml"), ["heads"], tmp_path / "o.zarr", 32, workers=0, tumours=["gliomas"]
    )
    assert len(own.failed) == 4


def test_a_scan_that_is_no_longer_confident_no_longer_lends(folder, pseudo, tmp_path):
    label(folder, pseudo, rule=Rule(largest=0.3))
    prepare(folder, pseudo, tmp_path / "s.zarr")
    assert SourceStore(tmp_path / "s.zarr").lending("gliomas")[-1] == "gliomas--two"
    label(folder, pseudo)
    said = []
    prepare(folder, pseudo, tmp_path / "s.zarr", said.append)
    assert SourceStore(tmp_path / "s.zarr").lending("gliomas") == [f"gliomas--t{n}" for n in range(3)]
    assert any("gliomas--two: its mask is not confident" in sentence for sentence in said)


def test_a_mask_that_somebody_changed_lends_nothing(folder, pseudo, tmp_path):
    mask = read_mask(pseudo / "t0_mask.nii.gz")
    write_volume(mask.with_array(1 - mask.array), pseudo / "t0_mask.nii.gz")
    (failed,) = prepare(folder, pseudo, tmp_path / "s.zarr").failed
    assert failed[0] == "gliomas/t0"
    assert "was changed since the network drew it" in failed[1]


def test_tables_that_are_none_are_refused_in_a_sentence(folder, pseudo, tmp_path):
    with pytest.raises(StoreError, match="train pseudo-label --out"):
        prepare(folder, tmp_path, tmp_path / "s.zarr")
    label(folder, pseudo, rule=Rule(agreement=1.0))
    with pytest.raises(CatalogError, match="none of 4 masks is confident"):
        prepare(folder, pseudo, tmp_path / "s.zarr")
    table = pseudo / "pseudo_labels.csv"
    whole = table.read_text(encoding="utf-8")
    foreign = (
        "case,mask\nt0,t0_mask.nii.gz\n",
        whole.replace("t0_mask.nii.gz", "../t0_mask.nii.gz"),
        re.sub(r"(t0_mask.nii.gz,.*?,.*?),[\d.]+,", r"\1,nan,", whole),
    )
    for text in foreign:
        assert text != whole
        table.write_text(text, encoding="utf-8")
        with pytest.raises(StoreError, match="damaged"):
            read_pseudo_labels(pseudo)


def test_a_generator_that_takes_no_real_tumours_says_what_to_mix_it_with(sources):
    compound = parse_mixture(sources.region, ["compound"], [])
    with pytest.raises(CatalogError, match=r"--generator compound:0\.7 --generator layers:0\.3"):
        with_donors(compound, ["gliomas--t0"])


def test_artificial_tumours_of_a_mixture_are_the_same_whether_real_ones_are_lent_or_not(sources):
    mixture = parse_mixture(sources.region, ["compound:0.7", "layers:0.3"], [])
    lending = with_donors(mixture, ["gliomas--t0"])
    assert lending.ways[0] is mixture.ways[0]
    assert lending.ways[1].tumours == ("gliomas--t0",)
    assert lending.runs(5, 0, 40) == mixture.runs(5, 0, 40)


# The whole road.


@pytest.fixture
def script(monkeypatch):
    """Return what loads a script of examples; its commands run in this process, as starting them takes longer."""
    monkeypatch.syspath_prepend(str(Path(__file__).parents[3] / "examples"))
    commands = importlib.import_module("commands")

    def run(name, *command, without, unless=(0,)):
        if command[0] == "pretrain":
            command = (*command, "--device", "cpu", "--width", "2", "--validation-samples", "2")
        if command[0] in ("prepare", "generate"):
            command = (*command, "--workers", "0")
        result = CliRunner().invoke({"synth": synth.cli.app, "train": train.cli.app}[name], command)
        if isinstance(result.exception, UserError):
            raise result.exception
        assert result.exit_code in unless, result.output

    monkeypatch.setattr(commands, "run", run)
    yield importlib.import_module
    for name in ("cross_fit", "second_network", "commands"):
        sys.modules.pop(name, None)


@pytest.mark.usefixtures("undrawn")
def test_the_road_leads_to_a_second_network_that_is_scored_only_on_scans_it_never_saw(folder, script, tmp_path):
    root = tmp_path / "scans"
    shutil.copytree(folder, root)
    catalog = root / "catalog.yaml"
    catalog.write_text(CATALOG.replace("FOLDER", str(root)), encoding="utf-8")
    first = str(bright(tmp_path))
    made = script("second_network").road(
        scans="gliomas", normals=["heads"], catalog=str(catalog), out=tmp_path / "out", checkpoint=first, size=32,
        samples=12, steps=2, leave_out=["t0"],
    )  # fmt: skip
    corpus = Corpus(tmp_path / "out" / "corpus.zarr")
    assert verify(corpus.store) == []
    lenders = [source for source in corpus.sources if "pseudo_label" in source]
    assert [source["case"] for source in lenders] == ["t1", "t2"]
    assert donors_of(corpus, lenders) == ["layers"] * 4, "three in ten of twelve samples"
    for annotated in (root / "labels").iterdir():  # to score by, and not before
        shutil.copy(annotated, root / "tumour" / annotated.name)
    evaluation = evaluate(made, catalog, "gliomas", tmp_path / "evaluation", device="cpu")
    assert [case.name for case in evaluation.cases] == ["t0", "two"]
    learned = _learned(evaluation.model.record)
    assert "real ones cut from 2 scans that a network marked" in learned
    assert "shown no annotation of a real tumour" in learned


def test_cross_fitting_parts_scans_by_name_and_scores_each_once(script):
    names = [f"case{number}" for number in range(9)]
    folds = script("cross_fit").folds_of(names[::-1], 3)
    assert folds == [names[:3], names[3:6], names[6:]]


def donors_of(corpus, lenders):
    """Return which generators made the samples whose donor lends a tumour."""
    names = {source["name"] for source in lenders}
    generators = [each.generator for each in corpus.manifest.generations]
    of_sample = [generators[number] for number, _, count in corpus.manifest.blocks[0].draws for _ in range(count)]
    lent = [corpus.sources[int(donor)]["name"] in names for donor in corpus.donor]
    return [name for name, lends in zip(of_sample, lent, strict=True) if lends]
