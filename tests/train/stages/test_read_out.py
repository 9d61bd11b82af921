import json
import shutil

import numpy as np
import pytest
from typer.testing import CliRunner

from scans.errors import CheckpointError
from tests.made.tiny_corpus import TinyCorpus
from tests.made.trainings import run, same
from train.cli.application import app
from train.data.split import shifted_samples, split_by_source
from train.inference.model import load_model
from train.inference.reading import Reading, recorded_readings
from train.network.checkpoint import load_record, read_checkpoint, record_again
from train.network.hardware import PLAIN as MACHINE
from train.run.report import write_run_report
from train.settings import Pretrain, SettingsError
from train.stages.decomposition import Decomposition


@pytest.fixture(scope="module")
def other_path(tmp_path_factory, sources, sources_path):
    """Return a corpus of the same scans as `corpus_path`, with tumours of another seed and contrast."""
    from synth.generate.plan import make_manifest
    from synth.generate.run import generate

    out = tmp_path_factory.mktemp("other") / "corpus.zarr"
    manifest = make_manifest(sources, samples=12, seed=99, shard_size=8)
    assert not generate(manifest, sources_path, out, workers=0).failed
    return out


@pytest.fixture(scope="module")
def steered(corpus_path, other_path, tmp_path_factory):
    """Return the run folder of a training that another generator's corpus steers, and what was said."""
    out, said = tmp_path_factory.mktemp("runs") / "steered", []
    run(corpus_path, out, steps=4, validation_corpus=other_path, say=said.append)
    return out, said


def entries(out):
    lines = (out / "log.jsonl").read_text(encoding="utf-8").splitlines()
    return [entry for entry in map(json.loads, lines) if "validation_loss" in entry]


def test_a_finished_training_records_how_its_networks_are_read(steered):
    out, said = steered
    records = [load_record(out / name) for name in ("last.safetensors", "best.safetensors")]
    for record in records:
        readings = recorded_readings(record.reading, "here")
        assert readings.samples == (2, 2)
        for way in ("plain", "mask", "residual", "both"):
            assert 0 <= readings.way(way).dice <= 1
        assert load_model(out / "best.safetensors", "cpu").reading == Reading(
            **{k: v for k, v in records[1].reading[records[1].reading["chosen"]].items() if k != "dice"}
        )
    assert sum(line.startswith("masks are read from") for line in said) == 1


def test_another_generators_tumours_steer_and_both_curves_are_shown(steered):
    out, said = steered
    assert any("another generator's tumours steer: 2 samples in the scans that are held out" in line for line in said)
    scored = entries(out)
    assert [entry["validation_score"] for entry in scored] == [entry["validation_shifted_dice"] for entry in scored]
    assert {"validation_loss", "validation_dice", "validation_shifted_loss"} <= scored[0].keys()
    best = load_record(out / "best.safetensors").validation
    assert best["shifted_dice"] == max(entry["validation_shifted_dice"] for entry in scored)
    page = write_run_report(out).read_text(encoding="utf-8")
    assert page.count("another generator</text>") == 2  # in the legends of loss and Dice
    for words in ("tumours of another generator", "held-out artificial tumours", "Dice on another generator"):
        assert words in page
    assert "steered by" in page
    assert "best network's mask" in page


class Recorder:
    """Scores as they come, in place of a network."""

    def __init__(self, scores):
        self.given = scores

    def scores(self, network, machine):
        return self.given


def test_the_rate_and_the_best_follow_another_generator_alone():
    corpus = TinyCorpus()
    split = split_by_source(corpus, [], 0, 4)
    task = Decomposition(corpus, split, Pretrain(), shifted=shifted_samples(corpus, split, TinyCorpus(samples=9), 4))
    task.validation = Recorder({"loss": 1.0, "dice": 0.9, "score": 0.9, "l0": 0.5})
    task.shifted = Recorder({"loss": 3.0, "dice": 0.2, "score": 0.2, "l0": 0.7})
    assert task.validate(None, MACHINE) == {
        "loss": 1.0, "dice": 0.9, "score": 0.2, "l0": 0.5, "shifted_loss": 3.0, "shifted_dice": 0.2,
    }  # fmt: skip


def test_stopped_and_resumed_equals_uninterrupted_with_its_reading(corpus_path, other_path, tmp_path, steered):
    out = tmp_path / "run"
    run(corpus_path, out, steps=2, validation_corpus=other_path)
    run(corpus_path, out, steps=4, validation_corpus=other_path, resume=True)
    for name in ("last.safetensors", "best.safetensors"):
        whole, resumed = (read_checkpoint(folder / name) for folder in (steered[0], out))
        assert same(whole.network, resumed.network)
        assert whole.record.reading == resumed.record.reading is not None
        assert whole.record.progress == resumed.record.progress


def test_a_training_killed_while_it_chose_chooses_when_it_is_resumed(corpus_path, other_path, tmp_path, steered):
    out = tmp_path / "run"
    shutil.copytree(steered[0], out)
    before = read_checkpoint(out / "best.safetensors")
    for name in ("last.safetensors", "best.safetensors"):  # as an earlier release leaves them too
        record_again(
            out / name, load_record(out / name).__class__(**{**vars(load_record(out / name)), "reading": None})
        )
    assert load_model(out / "best.safetensors", "cpu").reading == Reading()
    run(corpus_path, out, steps=4, validation_corpus=other_path, resume=True)
    after = read_checkpoint(out / "best.safetensors")
    assert after.record == before.record
    assert same(after.network, before.network)
    assert same(
        read_checkpoint(out / "last.safetensors").optimiser, read_checkpoint(steered[0] / "last.safetensors").optimiser
    )


def test_another_validation_corpus_is_no_continuation(corpus_path, other_path, tmp_path, steered):
    shutil.copytree(steered[0], tmp_path / "run")
    with pytest.raises(CheckpointError, match=r"steered by 2 samples of corpus \w{12}, not by held-out samples"):
        run(corpus_path, tmp_path / "run", steps=6, resume=True)
    shutil.copy(steered[0] / "last.safetensors", tmp_path / "run" / "last.safetensors")
    run(corpus_path, tmp_path / "plain", steps=2)
    with pytest.raises(CheckpointError, match="steered by held-out samples of its corpus, not by 2 samples"):
        run(corpus_path, tmp_path / "plain", steps=4, resume=True, validation_corpus=other_path)


def test_the_command_takes_a_validation_corpus_and_refuses_the_one_trained_on(corpus_path, tmp_path):
    command = ["pretrain", "--corpus", str(corpus_path), "--out", str(tmp_path / "run"), "--device", "cpu"]
    result = CliRunner().invoke(app, [*command, "--validation-corpus", str(corpus_path)])
    assert "is the corpus that is trained on" in str(result.exception)
    assert not (tmp_path / "run").exists()


def test_a_proxy_task_takes_no_validation_corpus(corpus_path, other_path, tmp_path):
    with pytest.raises(SettingsError, match="--proxy jigsaw has a validation of its own"):
        run(corpus_path, tmp_path / "run", proxy="jigsaw", validation_corpus=other_path)
    assert not (tmp_path / "run").exists()


# Which samples of the other corpus.


def other(**changed):
    corpus = TinyCorpus(samples=30)
    corpus.content_hash, corpus.where = "other", "other.zarr"
    for name, value in changed.items():
        setattr(corpus, name, value)
    return corpus


def shifted(theirs, held_out=("set--1",), limit=8):
    corpus = TinyCorpus(sources=3)
    return shifted_samples(corpus, split_by_source(corpus, held_out, 0, 8), theirs, limit)


def test_samples_in_held_out_scans_are_taken_spread_evenly():
    theirs = other()
    found = shifted(theirs, limit=4)
    assert set(theirs.normal[found.numbers]) == {1}
    assert found.numbers.tolist() == [1, 10, 19, 28]
    assert "held out of training" in found.note


def test_scans_are_known_by_their_content_whatever_they_are_called():
    ours, theirs = TinyCorpus(sources=3), other()
    for corpus, name in ((ours, "a"), (theirs, "b")):
        corpus.sources = [{**s, "name": f"{name}{n}", "content_sha256": f"{n}"} for n, s in enumerate(corpus.sources)]
    found = shifted_samples(ours, split_by_source(ours, ["a2"], 0, 8), theirs, 8)
    assert set(theirs.normal[found.numbers]) == {2}


def test_scans_that_training_does_not_know_are_all_taken():
    theirs = other(sources=[{"name": f"new--{n}"} for n in range(3)])
    found = shifted(theirs, limit=100)
    assert found.numbers.tolist() == list(range(30))
    assert "does not know" in found.note


def test_without_a_sample_in_a_held_out_scan_all_are_taken_and_the_note_says_so():
    theirs = other(normal=np.zeros(30, int))
    assert "training may know their anatomy" in shifted(theirs).note


@pytest.mark.parametrize(
    ("changed", "what"),
    [
        ({"size": 24}, "has cubes of 24 voxels, and the training's has 16"),
        ({"channels": [{"region": {"modality": "T1"}, "statistics": None}]}, "is of T1, and the training's of FLAIR"),
        ({"channels": [{"region": {"modality": "FLAIR"}, "statistics": {"mean": 1}}]}, "by other statistics"),
        ({"content_hash": TinyCorpus().content_hash}, "is the corpus that is trained on"),
    ],
)
def test_a_corpus_that_does_not_fit_is_refused_in_a_sentence(changed, what):
    with pytest.raises(SettingsError, match=f"^--validation-corpus other.zarr: .*{what}"):
        shifted(other(**changed))


def test_another_preparation_of_the_same_region_is_refused():
    theirs = other(channels=[{"region": {"modality": "FLAIR", "orientation": "RAS"}, "statistics": None}])
    ours = TinyCorpus()
    ours.channels = [{"region": {"modality": "FLAIR", "orientation": "LPS"}, "statistics": None}]
    with pytest.raises(SettingsError, match="its region has another orientation"):
        shifted_samples(ours, split_by_source(ours, [], 0, 8), theirs, 8)
