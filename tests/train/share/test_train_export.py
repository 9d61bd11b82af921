"""`train export`: a folder that stands alone, says what it is, and tells nothing of the machine it was made on."""

import fcntl
import getpass
import hashlib
import json
import re
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from markdown_it import MarkdownIt
from safetensors import safe_open
from typer.testing import CliRunner

from scans.catalog.dataset import Dataset
from scans.errors import CheckpointError, UserError
from scans.image.volume import read_mask
from tests.made.commands import train
from tests.made.fresh_process import imported_after
from tests.made.real_scans import write_case, write_catalog
from tests.made.tiny_checkpoint import REGION, bright_network, readings, save_bright
from train.cli.application import app
from train.evaluation.evaluate import evaluate
from train.network.checkpoint import save_checkpoint
from train.network.data_terms import with_dataset
from train.network.record import Record
from train.network.unet import UNet
from train.proxies.recorded import load_checkpoint
from train.segmentation.segment import segment
from train.settings import Finetune, Network, Pretrain, Schedule, SettingsError
from train.share.export import export
from train.stages.finetune import finetune
from train.stages.pretrain import pretrain

FREE = {
    "name": "a--1",
    "dataset": "a",
    "licence": "CC0-1.0",
    "terms": "none",
    "citation": "A",
    "redistribute_derived": True,
}
KEPT = {
    "name": "OASIS--7", "dataset": "OASIS", "licence": "OASIS agreement", "terms": "not passed on", "citation": "L",
    "redistribute_derived": False,
}  # fmt: skip


def data(*sources, **more):
    return {"corpus": "ab" * 32, "corpus_seed": 5, "corpus_samples": 4321, "sources": list(sources), "held_out": [],
            "split": "none", **more}  # fmt: skip


def card_of(folder):
    page = (folder / "README.md").read_text(encoding="utf-8")
    _, front, body = page.split("---\n", 2)
    return yaml.safe_load(front), body


@pytest.fixture
def checkpoint(tmp_path):
    (tmp_path / "run").mkdir()
    return save_bright(tmp_path / "run" / "best.safetensors", data=data(FREE))


def test_the_one_file_segments_wherever_it_is_moved(checkpoint, tmp_path):
    scan = write_case(tmp_path / "scans", "a")
    exported = export(checkpoint, tmp_path / "shared")
    assert exported.weights.name == "layered-tumors-brain.safetensors"
    (tmp_path / "far").mkdir()
    moved = Path(shutil.move(exported.weights, tmp_path / "far" / "renamed.safetensors"))
    shutil.rmtree(tmp_path / "run")
    shutil.rmtree(tmp_path / "shared")
    (result,) = segment(moved, [scan], tmp_path / "masks")
    assert not result.problem
    again = save_bright(tmp_path / "best.safetensors")
    (expected,) = segment(again, [scan], tmp_path / "expected")
    np.testing.assert_array_equal(read_mask(result.mask).array, read_mask(expected.mask).array)


def test_the_optimiser_stays_at_home_and_the_record_travels(tmp_path):
    network = bright_network()
    optimiser = torch.optim.Adam(network.parameters())
    torch.cat(network(torch.zeros(2, 1, 16, 16, 16))).sum().backward()
    optimiser.step()
    channels = [{"region": REGION, "statistics": None}]
    progress = {"best": {}, "rate": 1e-3}
    record = Record("pretrain", 7, {"schedule": {"seed": 3}}, {"width": 2}, channels, 48, data(FREE), progress=progress)
    last = tmp_path / "last.safetensors"
    save_checkpoint(last, record, network, optimiser)
    exported = export(last, tmp_path / "shared", name="mine")
    with safe_open(exported.weights, framework="pt") as file:
        assert all(name.startswith("network.") for name in file.keys())  # noqa: SIM118
    shared = load_checkpoint(exported.weights)
    assert shared.record == Record(**{**record.__dict__, "progress": {}})
    assert json.loads((tmp_path / "shared" / "mine.json").read_text(encoding="utf-8"))["step"] == 7
    assert all(torch.equal(shared.network[name], tensor) for name, tensor in network.state_dict().items())


def test_the_same_checkpoint_gives_the_same_bytes_and_the_sums_fit(checkpoint, tmp_path):
    first, second = (export(checkpoint, tmp_path / name) for name in ("one", "two"))
    assert first.files == second.files
    for file in first.files:
        assert (tmp_path / "one" / file).read_bytes() == (tmp_path / "two" / file).read_bytes()
    lines = (tmp_path / "one" / "SHA256SUMS").read_text(encoding="utf-8").splitlines()
    sums = dict(reversed(line.split("  ")) for line in lines)
    assert sorted(sums) == sorted(set(first.files) - {"SHA256SUMS"}) == sorted(sums)
    for file, digest in sums.items():
        assert hashlib.sha256((tmp_path / "one" / file).read_bytes()).hexdigest() == digest
    assert not export(checkpoint, tmp_path / "one").new


def contents(folder):
    return {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_another_export_is_replaced_only_when_told_to(checkpoint, tmp_path):
    other = save_bright(tmp_path / "other.safetensors", step=2)
    export(other, tmp_path / "shared", name="other")
    before = contents(tmp_path / "shared")
    with pytest.raises(CheckpointError, match="--force"):
        export(checkpoint, tmp_path / "shared")
    assert contents(tmp_path / "shared") == before
    export(checkpoint, tmp_path / "shared", name="mine", force=True)
    assert (tmp_path / "shared" / "mine.safetensors").exists()
    assert not (tmp_path / "shared" / "other.safetensors").exists()
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".")]


@pytest.mark.parametrize("force", [False, True])
def test_what_no_export_left_is_never_touched(checkpoint, tmp_path, force):
    (tmp_path / "shared").mkdir()
    export(checkpoint, tmp_path / "shared")  # an empty folder is as good as none
    (tmp_path / "shared" / "thesis.txt").write_text("years of work")
    with pytest.raises(CheckpointError, match="thesis"):
        export(checkpoint, tmp_path / "shared", name="mine", force=force)
    assert (tmp_path / "shared" / "thesis.txt").read_text() == "years of work"
    (tmp_path / "file").write_text("x")
    (tmp_path / "link").symlink_to(tmp_path / "shared")
    for taken in ("file", "link", "run"):
        with pytest.raises(CheckpointError, match="choose another --out"):
            export(checkpoint, tmp_path / taken, force=force)


@pytest.mark.parametrize("replacing", [False, True])
def test_an_export_that_fails_leaves_what_was_there(checkpoint, tmp_path, monkeypatch, replacing):
    if replacing:
        export(save_bright(tmp_path / "other.safetensors", step=2), tmp_path / "shared")
    before = contents(tmp_path)

    rename = Path.rename

    def full(*_, **__):
        raise OSError(28, "No space left on device")

    def not_the_new_one(path, target):
        return full() if path.suffix == ".tmp" else rename(path, target)

    broken = {"os.fsync": full, "train.share.export.sync": full, "pathlib.Path.mkdir": full}
    for name, fails in {**broken, "pathlib.Path.rename": not_the_new_one}.items():
        with monkeypatch.context() as patched:
            patched.setattr(name, fails)
            with pytest.raises((UserError, OSError)):
                export(checkpoint, tmp_path / "shared", force=True)
        assert contents(tmp_path) == before
        assert (tmp_path / "shared").exists() == replacing


def test_what_a_killed_export_left_is_swept_by_the_next_one(checkpoint, tmp_path):
    code = (
        "import os, sys, train.share.export as e; from pathlib import Path\n"
        "e.write_atomically = lambda *_: os.kill(os.getpid(), 9)\n"
        f"e.export(Path({str(checkpoint)!r}), Path({str(tmp_path / 'shared')!r}))"
    )
    command = [sys.executable, "-c", code]
    assert subprocess.run(command, cwd=Path(__file__).parents[3], check=False).returncode == -9
    (left,) = tmp_path.glob(".shared.*.tmp")
    assert (left / "layered-tumors-brain.safetensors").exists()
    alive = tmp_path / f".shared.{'0' * 32}.tmp"
    mine = tmp_path / ".shared.notes.tmp"
    for folder in (alive, mine):
        folder.mkdir()
        (folder / ".lock").touch()
    with (alive / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        export(checkpoint, tmp_path / "shared")
        assert not left.exists()
        assert alive.exists()
    assert sorted(path.name for path in (tmp_path / "shared").iterdir())[0] == "README.md"
    export(checkpoint, tmp_path / "shared")
    assert sorted(path.name for path in tmp_path.iterdir()) == [mine.name, "run", "shared"]


def test_the_card_says_what_it_is_and_where_it_comes_from(tmp_path):
    settings = Pretrain(schedule=Schedule(seed=11, batch=3), recombine=True).model_dump(mode="json")
    path = save_bright(
        tmp_path / "best.safetensors",
        settings=settings,
        data=data(FREE, {**FREE, "name": "a--2"}, held_out=["a--2"]),
        validation={"loss": 1.5, "dice": 0.4321, "real_dice.patient-7": 0.1},
        step=2500,
    )
    export(path, tmp_path / "shared", licence="CC-BY-4.0")
    front, body = card_of(tmp_path / "shared")
    assert front["license"] == "cc-by-4.0"
    assert front["library_name"] == "layered-tumors"
    assert front["pipeline_tag"] == "image-segmentation"
    assert {"medical", "flair", "brain", "pretrain"} <= set(front["tags"])
    for said in ("ab" * 32, "4321", "CC0-1.0", "Not for clinical use", "0.4321", "48 × 48 × 48", "LPS",
                 "4,321 artificial", "| schedule.seed | 11 |", "| schedule.batch | 3 |", "| recombine | true |",
                 "| loss.l3 | 1.0 |", "step 2,500", "| a--2 | a | held out |",
                 "train segment --checkpoint"):  # fmt: skip
        assert said in body, said
    assert "Before you pass this on" not in body
    assert "patient-7" not in body


@pytest.mark.parametrize(
    ("source", "said"),
    [
        (KEPT, "do not let data derived from them be passed on: OASIS (1 scans, licence: OASIS agreement)"),
        ({**FREE, "licence": "CC BY-NC-ND 4.0"}, "do not let data derived from them be passed on: a"),
        ({key: value for key, value in FREE.items() if key != "redistribute_derived"}, "is not recorded: a"),
    ],
)
def test_terms_in_the_way_are_named_on_top_and_by_the_command(tmp_path, source, said):
    path = save_bright(tmp_path / "best.safetensors", data=data(FREE, source))
    result = CliRunner().invoke(app, ["export", "--checkpoint", str(path), "--out", str(tmp_path / "shared")])
    assert result.exit_code == 0
    assert said in " ".join(result.output.split())
    front, body = card_of(tmp_path / "shared")
    assert said in body.split("## ")[0].replace("\\", "")
    assert (front["license"], front["license_name"]) == ("other", "terms-of-the-sources")


def test_hostile_names_are_shown_and_not_obeyed(tmp_path):
    evil = (
        "| x |\n# Free to use\n<script>alert(1)</script> [click](http://evil) `rm` ![](http://evil/p) \u202e\x1b[2J---"
    )
    source = dict.fromkeys(("name", "dataset", "licence", "terms", "citation"), evil) | {"redistribute_derived": False}
    path = save_bright(
        tmp_path / "best.safetensors",
        region={"name": evil, "modality": evil},
        data=data(source, held_out=[evil], split=evil),
        settings={evil: evil},
    )
    export(path, tmp_path / "shared")
    front, body = card_of(tmp_path / "shared")
    page = MarkdownIt("commonmark", {"html": True}).enable("table").render(body)
    assert not re.search("<script|<a |<img|<h1>Free", page)
    assert page.count("&lt;script&gt;") > 8  # shown
    assert page.count("<table>") == 6
    assert "\u202e" not in body
    assert "\x1b" not in body
    rows = [line for line in body.splitlines() if line.startswith("|")]
    widths = [len(line.split("|")) for line in rows]
    rules = [number for number, line in enumerate(rows) if set(line) <= set("|- ")]
    assert all(widths[number - 1] == widths[number] == widths[number + 1] for number in rules)
    assert all(re.fullmatch(r"[a-z0-9-]+", tag) for tag in front["tags"])


def test_data_that_is_none_still_gives_a_card(tmp_path):
    for number, odd in enumerate(
        [
            {},
            {"sources": "all", "held_out": 3, "training": {}},
            {"sources": [1, {}], "corpus": 5},
            {"datasets": 3, "scans": ["a"]},
            {"datasets": [1, {}, {"scans": 5, "stage": [], "licence": 3}]},
        ]
    ):
        path = save_bright(tmp_path / "best.safetensors", data=odd, threshold=None)
        export(path, tmp_path / f"shared{number}", anonymous=bool(number))
        assert "How to cite" in card_of(tmp_path / f"shared{number}")[1]


@pytest.fixture(scope="module")
def heads(tmp_path_factory):
    root = tmp_path_factory.mktemp("heads")
    for seed in range(3):
        write_case(root / "clinic-data", f"patient{seed}", seed=seed, spacing_mm=(4.0, 4.0, 4.0))
    return write_catalog(root / "catalog.yaml", root / "clinic-data")


def test_a_card_says_how_masks_are_read_and_that_its_code_reads_plainly(heads, tmp_path):
    export(save_bright(tmp_path / "plain.safetensors"), tmp_path / "plain")
    assert "--read plain" not in card_of(tmp_path / "plain")[1]
    path = save_bright(tmp_path / "best.safetensors", reading=readings("both"))
    exported = export(path, tmp_path / "shared")
    body = card_of(tmp_path / "shared")[1]
    assert "mean of the mask channel's probability and the share by the distance" in body
    assert "`--read plain`" in body
    assert load_checkpoint(exported.weights).record.reading == readings("both")


def test_scores_stand_beside_the_threshold_row(heads, tmp_path):
    path = save_bright(tmp_path / "best.safetensors")
    evaluation = evaluate(path, heads, "heads", tmp_path / "scored")
    command = ["export", "--checkpoint", str(path), "--out", str(tmp_path / "shared")]
    assert CliRunner().invoke(app, [*command, "--evaluation", str(tmp_path / "scored")]).exit_code == 0
    front, body = card_of(tmp_path / "shared")
    assert "### On heads: all 3 cases" in body
    assert evaluation.verdict() in body
    assert "A mask was: probability of the mask channel, where it is at least 0.5." in body
    rows = [line for line in body.splitlines() if line.startswith(("| network |", "| threshold |")) and "±" in line]
    means = json.loads((tmp_path / "scored" / "scores.json").read_text(encoding="utf-8"))["mean"]
    for row, name in zip(rows, ("network", "threshold"), strict=True):
        assert f"{means[name]['dice']['mean']:.3f} ± {means[name]['dice']['std']:.3f} (3)" in row
    (result,) = front["model-index"][0]["results"]
    assert result["dataset"]["name"] == "heads"
    assert result["metrics"][0] == {"type": "dice", "name": "Dice", "value": round(means["network"]["dice"]["mean"], 4)}
    assert not any(str(tmp_path).encode() in content for content in contents(tmp_path / "shared").values())
    assert not re.search(r"patient\d", body)


def test_scores_of_another_checkpoint_or_none_are_refused(heads, tmp_path):
    path = save_bright(tmp_path / "best.safetensors")
    evaluate(path, heads, "heads", tmp_path / "scored")
    scores = tmp_path / "scored" / "scores.json"
    other = save_bright(tmp_path / "other.safetensors", step=9)
    network = bright_network()
    with torch.no_grad():
        network.head.bias += 1
    save_checkpoint(tmp_path / "shifted.safetensors", load_checkpoint(path).record, network)
    with pytest.raises(CheckpointError, match="scores of another checkpoint"):
        export(tmp_path / "shifted.safetensors", tmp_path / "shared", evaluations=[tmp_path / "scored"])
    told = json.loads(scores.read_text(encoding="utf-8"))
    del told["checkpoint"]["sha256"]  # as scores once were: then the record alone is compared
    scores.write_text(json.dumps(told), encoding="utf-8")
    export(path, tmp_path / "old", evaluations=[tmp_path / "scored"])
    with pytest.raises(CheckpointError, match="scores of another checkpoint"):
        export(other, tmp_path / "shared", evaluations=[tmp_path / "scored"])
    with pytest.raises(CheckpointError, match="no scores here"):
        export(path, tmp_path / "shared", evaluations=[tmp_path / "nowhere"])
    told["mean"]["network"] |= {"one_empty": 0}  # as means once were, with cases without a tumour in them
    scores.write_text(json.dumps(told), encoding="utf-8")
    with pytest.raises(CheckpointError, match="run train evaluate again"):
        export(path, tmp_path / "shared", evaluations=[tmp_path / "scored"])
    for damaged in (b"{}", b"[", b'{"dataset": 3}', b"\xff"):
        (tmp_path / "scored" / "scores.json").write_bytes(damaged)
        with pytest.raises(CheckpointError, match=r"scores\.json"):
            export(path, tmp_path / "shared", evaluations=[tmp_path / "scored"])
    assert not (tmp_path / "shared").exists()


@pytest.mark.usefixtures("undrawn")
def test_a_pretrained_and_a_fine_tuned_network_tell_nothing_of_this_machine(corpus_path, heads, tmp_path):
    schedule = Schedule(steps=2, checkpoint_every=2, device="cpu", precision="fp32")
    pretrain(corpus_path, tmp_path / "first", Pretrain(network={"width": 2}, schedule=schedule, validation_samples=2))
    catalog = tmp_path / "catalog.yaml"
    catalog.write_text(heads.read_text(encoding="utf-8").replace("brain", "test"))
    best = tmp_path / "first" / "best.safetensors"
    finetune(best, catalog, "heads", tmp_path / "tuned", Finetune(schedule=schedule))
    for run, stage in (("first", "pretrain"), ("tuned", "finetune")):
        exported = export(tmp_path / run / "last.safetensors", tmp_path / "shared" / run)
        for name, content in contents(exported.folder).items():
            for secret in (tmp_path, heads.parent, Path.home(), corpus_path, "clinic-data"):
                assert str(secret).encode() not in content, (name, secret)
        told = (exported.folder / "README.md").read_text("utf-8") + exported.weights.with_suffix(".json").read_text(
            "utf-8"
        )
        assert not re.search(rf"\b{re.escape(socket.gethostname())}\b", told)
        assert load_checkpoint(exported.weights).record.stage == stage
    _, body = card_of(tmp_path / "shared" / "tuned")
    assert "fine-tuned on" in body
    assert "mean nothing" in body
    assert "| heads | 2 | CC0 | none | yes | nobody |" in body
    assert not re.search(r"patient\d", body)  # names of cases stand in the record alone


def test_paths_in_a_record_lose_their_folders(tmp_path):
    user = getpass.getuser()
    settings = {
        "init": f"/home/{user}/secret/best.safetensors",
        "where": ["C:\\Users\\x\\scans.zarr", "s3://bucket/k/c.zarr"],
    }
    source = {**FREE, "citation": "A et al., https://doi.org/10.1/x", "terms": "and/or"}
    path = save_bright(tmp_path / "best.safetensors", settings=settings, data=data(source, origin="~/data/c.zarr/"))
    record = load_checkpoint(export(path, tmp_path / "shared").weights).record
    assert record.settings == {"init": "best.safetensors", "where": ["scans.zarr", "c.zarr"]}
    assert record.data["origin"] == "c.zarr"
    assert record.data["sources"] == [source]


def test_anonymous_numbers_every_name(tmp_path, heads):
    names = {"training": ["patient0"], "validation": ["patient1"], "test": ["patient2"], "dataset": "heads"}
    settings = {"validation_sources": ["OASIS--7"]}
    known = data(FREE, KEPT, held_out=["OASIS--7"], split="validation on OASIS--7, which training never sees", **names)
    path = save_bright(tmp_path / "best.safetensors", stage="finetune", data=known, settings=settings,
                       validation={"dice": 0.5, "real_dice.patient1": 0.4})  # fmt: skip
    exported = export(path, tmp_path / "shared", anonymous=True)
    for content in contents(tmp_path / "shared").values():
        assert not re.search(rb"patient\d", content)
        assert b"OASIS--7" not in content
    record = load_checkpoint(exported.weights).record
    assert [source["name"] for source in record.data["sources"]] == ["scan 1", "scan 2"]
    assert [source["dataset"] for source in record.data["sources"]] == ["a", "OASIS"]
    assert record.data["held_out"] == record.settings["validation_sources"] == ["scan 2"]
    assert record.data["split"] == "validation on scan 2, which training never sees"
    with pytest.raises(CheckpointError, match="none of its test cases"):
        evaluate(exported.weights, heads, "heads", tmp_path / "out")
    assert export(path, tmp_path / "named").named == 5


@pytest.mark.parametrize("stage", ["pretrain", "adapt"])
def test_each_stage_says_what_it_saw(tmp_path, stage):
    more = {"dataset": "clinic", "scans": ["c1", "c2"]} if stage == "adapt" else {}
    path = save_bright(tmp_path / "best.safetensors", stage=stage, data=data(FREE, **more))
    exported = export(path, tmp_path / "shared")
    _, body = card_of(tmp_path / "shared")
    assert ("It then went on with 2 real scans of clinic, without" in body) == (stage == "adapt")
    assert ("shown no annotation" in body) == (stage == "pretrain")
    assert bool(exported.unclear) == (stage == "adapt")


def real(name="clinic", stage="adapt", scans=("c1", "c2"), **changed):
    told = {"licence": "house rules", "terms": "research only", "citation": "C", "redistribute_derived": False}
    return {"dataset": name, "stage": stage, **told, "scans": list(scans), **changed}


def test_real_scans_of_every_stage_come_with_their_terms(tmp_path):
    datasets = [real(), real("ward", "finetune", ["w1"], redistribute_derived=True)]
    known = data(FREE, dataset="ward", scans=["c1", "c2"], training=["w1"], test=["w2"], datasets=datasets)
    path = save_bright(tmp_path / "best.safetensors", stage="finetune", data=known)
    exported = export(path, tmp_path / "shared", anonymous=True)
    (said,) = exported.unclear
    assert said.endswith("do not let data derived from them be passed on: clinic (2 scans, licence: house rules).")
    _, body = card_of(tmp_path / "shared")
    assert "went on with 2 real scans of clinic, without their annotations. It was then fine-tuned on 1 anno" in body
    assert "| clinic | 2 | house rules | research only | **no** | C |" in body
    assert "| ward | 1 | house rules | research only | yes | C |" in body
    assert not any(re.search(rb"\b[cw][12]\b", content) for content in contents(exported.folder).values())
    assert export(path, tmp_path / "named").named == 5


@pytest.mark.parametrize("before", [{}, data(FREE, scans=["c1"], dataset="old"), {"datasets": [real()]}])
def test_a_stage_adds_its_dataset_to_those_before_it(before):
    ward = Dataset(
        role="tumour", region="brain", modality="FLAIR", licence="house rules", terms="research only", citation="C",
        redistribute_derived=False, obtain="", root={"path": "."}, layout={"image": "{case}.nii"},
    )  # fmt: skip
    after = with_dataset(before, "clinic", ward, "adapt", ["c2", "c3"])
    assert after[-1]["dataset"] == "clinic"
    assert after[:-1] == ([{"dataset": "old", "scans": ["c1"]}] if "scans" in before else [])
    assert after[-1] == real(scans=["c1", "c2", "c3"] if "datasets" in before else ["c2", "c3"])
    assert with_dataset({"datasets": after}, "clinic", ward, "adapt", ["c2"]) == after


def test_several_modalities_are_told_in_their_order(tmp_path):
    torch.manual_seed(0)
    network = UNet(Network(width=2, in_channels=2))
    channels = [{"region": {"name": "brain", "modality": name}, "statistics": None} for name in ("T1 Gd", "FLAIR")]
    record = Record("pretrain", 1, {}, {"width": 2, "in_channels": 2}, channels, 16, data(FREE))
    save_checkpoint(tmp_path / "best.safetensors", record, network)
    exported = export(tmp_path / "best.safetensors", tmp_path / "shared")
    front, body = card_of(tmp_path / "shared")
    assert {"t1-gd", "flair"} <= set(front["tags"])
    assert body.index("| 0 | T1 Gd |") < body.index("| 1 | FLAIR |")
    assert "t1-gd.nii.gz,flair.nii.gz --out masks" in body
    assert "torch.zeros(1, 2, 16, 16, 16)" in body
    assert load_checkpoint(exported.weights).record.channels == channels


def snippets(folder):
    return re.findall(r"```python\n(.*?)```", card_of(folder)[1], flags=re.DOTALL)


def test_the_cards_own_lines_of_python_run(checkpoint, tmp_path, monkeypatch):
    export(checkpoint, tmp_path / "shared")
    monkeypatch.chdir(tmp_path / "shared")
    (code,) = snippets(tmp_path / "shared")
    found = {}
    exec(code, found)
    assert found["mask"].shape == (1, 1, 48, 48, 48)
    assert found["record"]["channels"][0]["region"] == REGION


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--out", "s", "--name", "../../x"], "--name"),
        (["--out", "s", "--licence", "free | to use"], "--licence"),
        (["--out", "s", "--checkpoint", "a.pt"], "never pickles"),
        (["--out", "s", "--checkpoint", "none.safetensors"], "no checkpoint here"),
        (["--out", "run"], "choose another --out"),
    ],
)
def test_a_mistake_is_one_sentence(checkpoint, tmp_path, arguments, sentence):
    result = train("export", "--checkpoint", checkpoint, *arguments, cwd=tmp_path, env={"PATH": ""})
    assert result.returncode == 2
    assert sentence in result.stderr
    assert "Traceback" not in result.stderr
    assert not (tmp_path / "s").exists()


def test_help_teaches_with_an_example_and_imports_nothing_heavy():
    result = CliRunner().invoke(app, ["export", "--help"])
    assert "train export --checkpoint" in " ".join(result.output.split())
    imported_after("import train.cli", "onnx", "onnxruntime", "onnxscript", "jinja2", "torch")


def test_a_name_is_checked(checkpoint, tmp_path):
    for name in (".hidden", "a/b", "a b", "x" * 200, "a\n"):
        with pytest.raises(SettingsError, match="--name"):
            export(checkpoint, tmp_path / "shared", name=name)
