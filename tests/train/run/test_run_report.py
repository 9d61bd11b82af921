import json
import re
from html.parser import HTMLParser

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from scans.errors import CheckpointError
from synth.corpus import Corpus
from tests.made.pages import areas_ml, scenes_in
from tests.made.tiny_checkpoint import save_bright
from train.cli.application import app
from train.run.curves import Curve, chart, thin
from train.run.folder import RunFolder
from train.run.pictures import Views, validation_picture
from train.run.report import leave_report, write_run_report
from train.run.settings_table import tabulated
from train.settings import Finetune, Pretrain

THRESHOLD = {"sigma_mm": 1.0, "level": 1.0, "side": "above", "dice": 0.5}
SOURCES = [
    {"name": f"set--{n}", "dataset": "set", "licence": "CC <0>", "terms": "cite <us>", "citation": "nobody"}
    for n in range(3)
]
DATA = {
    "corpus": "ab" * 32,
    "corpus_seed": 3,
    "corpus_samples": 1500,
    "sources": SOURCES,
    "held_out": ["set--1"],
    "split": "validation on set--1, which training does not see",
}


class Checked(HTMLParser):
    """Collects text and attributes of a page, and stops at an element that is not closed where it must be."""

    def __init__(self):
        super().__init__()
        self.open, self.text, self.links, self.tags = [], [], [], set()

    def handle_starttag(self, tag, attrs):
        self.tags.add(tag)
        self.links += [value for name, value in attrs if name in ("src", "href", "xlink:href")]
        if tag not in ("meta", "br", "img", "input"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if not self.open or self.open[-1] != "style":
            self.text.append(data)


def page_of(folder):
    page = write_run_report(folder).read_text(encoding="utf-8")
    checked = Checked()
    checked.feed(page)
    assert checked.open == []
    return page, " ".join(" ".join(checked.text).split()), checked


def settings(steps=60, **changed):
    schedule = {"steps": steps, "checkpoint_every": 20}
    return {
        "stage": "pretrain",
        **Pretrain(schedule=schedule, **changed).model_dump(mode="json"),
        "hardware": "CPU, fp32",
    }


def draw(path, seed=0):
    cube = np.random.default_rng(seed).normal(size=(16, 16, 16)).astype(np.float32)
    validation_picture([Views("<i>0</i>", cube, cube, cube, cube > 1, cube > 0.5)], path)


def fill(run, upto, real=True, first=0):
    """Log as the loop does: every tenth step, a validation every twentieth."""
    run.write(first, {"started_on": "CPU <fp32>", "split": DATA["split"]})
    for step in range(first + 10, upto + 1, 10):
        terms = {"l0": 1 / step, "l1": 2.0, "l2": float("nan") if step == 20 else 0.5, "total": 3 + 1 / step}
        run.write(step, {**terms, "learning_rate": 1e-3, "seconds_per_step": 0.5})
        if step % 20 == 0:
            scores = {"loss": 3.0, "dice": step / 100, "score": step / 100, "l0": None}
            scores |= {"real_dice": 0.3, "real_dice.set--x": 0.2, "real_dice.set--y": 0.4} if real else {}
            run.write(step, {f"validation_{name}": value for name, value in scores.items()})
            draw(run.pictures / f"validation-{step:07d}.png")
            if real:
                draw(run.pictures / f"real-{step:07d}.png")
            save(run.best, step, scores)
            save(run.path / "last.safetensors", step, scores)


def save(path, step, scores, **changed):
    save_bright(path, **{"step": step, "data": DATA, "threshold": THRESHOLD, "validation": scores, **changed})


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "first <run>"
    with RunFolder(folder) as run:
        run.start(settings(validation_sources=("<script>alert(1)</script>",)), 0)
        fill(run, 60)
        run.end(60)
    return folder


def test_the_page_is_one_file_that_needs_nothing_else(finished):
    page, _, checked = page_of(finished)
    assert {link.partition(",")[0] if link.startswith("data:") else link[0] for link in checked.links} == {
        "data:image/png;base64",
        "#",
    }
    assert not re.search("https?:", page)
    assert "script" not in checked.tags
    assert len(list(finished.glob("*report*"))) == 1


def test_it_says_what_the_best_network_is_worth(finished):
    _, text, _ = page_of(finished)
    assert "Finished: all 60 steps are done." in text
    assert "Best: step 60." in text
    assert "mean Dice of 0.600, above the 0.500 of the threshold row" in text
    assert "On the 2 real cases shown beside it, which choose nothing: 0.300" in text
    assert "never used to choose anything" in text


@pytest.mark.parametrize("saved", [True, False])
def test_where_the_last_network_is_to_be_used_it_says_so_whatever_its_score(tmp_path, saved):
    folder = tmp_path / "run"
    described = settings()
    described["schedule"]["chosen"] = "last"
    with RunFolder(folder) as run:
        run.start(described, 0)
        for step, dice in ((20, 0.6), (40, 0.2)):
            scores = {"loss": 1.0, "dice": dice, "score": dice}
            run.write(step, {f"validation_{name}": value for name, value in scores.items()})
            if saved:
                save(run.best, step, scores)
        run.end(40)
    page, text, _ = page_of(folder)
    assert "Last: step 40." in text
    assert '<td class="left">last</td>' in page


def test_it_shows_data_terms_norm_speed_and_pictures(finished):
    page, text, _ = page_of(finished)
    for said in ("1,500 artificial tumours", "ab" * 32, "cite <us>", "set--1, held out", "BatchNorm with the mean"):
        assert said in text, said
    assert "0.5 s a step, 4 samples a second" in text
    assert page.count("data:image/png;base64,") == 2 + 2 + 2  # the newest of each kind, and two of each before
    assert page.count("<svg ") == 2 + 3 + 2  # Dice, loss, three terms, learning rate, speed


def test_everything_that_comes_from_files_is_escaped(finished):
    page, text, _ = page_of(finished)
    for raw in ("<script>", "<us>", "<run>", "CPU <fp32>", "CC <0>"):
        assert raw not in page
        assert raw in text


def test_changed_settings_come_first_and_are_marked():
    rows = tabulated(settings(network={"width": 16}))
    changed = [row for row in rows if row["changed"]]
    assert rows[: len(changed)] == changed
    assert {row["name"]: (row["value"], row["default"]) for row in changed} == {
        "network.width": ("16", "32"),
        "schedule.steps": ("60", "100000"),
        "schedule.checkpoint_every": ("20", "500"),
    }
    assert not any(row["changed"] for row in tabulated({"stage": "finetune", **Finetune().model_dump(mode="json")}))


def test_a_run_from_before_there_were_kinds_of_variation_is_told_as_today(tmp_path):
    old = {**settings(), "vary": True}
    del old["variation"]
    assert {"name": "variation", "value": "light", "default": "none", "changed": True} in tabulated(old)
    assert not any(row["name"] == "vary" for row in tabulated(old))


def test_a_running_training_is_told_from_one_that_was_killed(tmp_path):
    folder = tmp_path / "run"
    run = RunFolder(folder)
    run.start(settings(), 0)
    fill(run, 30)
    assert "Running: step 30 of 60, about 15 s of steps left." in page_of(folder)[1]
    assert "Best so far: step 20" in page_of(folder)[1]
    run._lock.close()  # what is left of a killed process
    assert "Not finished: step 30 of 60" in page_of(folder)[1]
    assert "--resume" in page_of(folder)[1]
    with RunFolder(folder, resume=True) as again:
        again.start(settings(), 20)
        fill(again, 40, first=20)
        again.end(40, 15)
    _, text, _ = page_of(folder)
    assert "Stopped by SIGTERM at step 40 of 60" in text
    assert "continued at step 20" in text


def test_a_training_that_failed_says_why(tmp_path):
    with pytest.raises(CheckpointError):
        _fail(tmp_path / "run")
    assert "Failed at step 40 of 60: the loss is not finite at step 41." in page_of(tmp_path / "run")[1]


def _fail(folder):
    with RunFolder(folder) as run:
        run.start(settings(), 0)
        fill(run, 40)
        raise CheckpointError("the loss is not finite at step 41")


def test_a_run_that_has_only_begun_has_a_page(tmp_path):
    with RunFolder(tmp_path / "run") as run:
        run.start(settings(), 0)
        _, text, _ = page_of(tmp_path / "run")
        assert "No validation yet; one follows every 20 steps." in text
        run.write(0, {"started_on": "CPU", "split": "a split"})
        assert "a split" in page_of(tmp_path / "run")[1]


def test_half_a_line_nan_and_a_damaged_picture_or_checkpoint_do_no_harm(tmp_path):
    folder = tmp_path / "run"
    with RunFolder(folder) as run:
        run.start(settings(), 0)
        fill(run, 40, real=False)
    with open(folder / "log.jsonl", "a", encoding="utf-8") as log:
        log.write('{"step": 50, "total": NaN, "l0": Infinity}\n[1]\n{"no": "step"}\n{"step": 60, "to')
    (folder / "pictures" / "validation-0000040.png").write_bytes(b"<svg onload=alert(1)>")
    (folder / "last.safetensors").write_bytes(b"cut")
    page, text, _ = page_of(folder)
    assert "step 50 of 60" in text
    assert "last.safetensors: damaged" in text
    assert "1,500 artificial tumours" in text  # best.safetensors tells it too
    assert page.count("data:image/png") == 1
    assert "real cases" not in text


def test_a_fine_tuning_is_told_as_one(tmp_path):
    folder = tmp_path / "run"
    data = {**DATA, "dataset": "hospital", "training": ["a <1>", "b"], "validation": ["c"], "test": ["d"]}
    with RunFolder(folder) as run:
        run.start({"stage": "finetune", **Finetune(schedule={"steps": 20}).model_dump(mode="json")}, 0)
        run.write(20, {"total": 0.5, "learning_rate": 1e-4, "seconds_per_step": 0.1})
        run.write(20, {"validation_loss": 0.4, "validation_dice": 0.6, "validation_score": 0.6})
        save(run.path / "last.safetensors", 20, {}, stage="finetune", data=data)
        run.end(20)
    _, text, _ = page_of(folder)
    assert "the annotated cases that steer the training" in text
    assert "hospital: 2 training, 1 validation, 1 test" in text
    assert "a <1>, b" in text
    assert "threshold row" not in text


def test_a_very_long_log_makes_no_long_page(tmp_path):
    folder = tmp_path / "run"
    with RunFolder(folder) as run:
        run.start(settings(steps=10**6), 0)
    draws = np.random.default_rng(0).uniform(1, 2, 40_000)
    with open(folder / "log.jsonl", "w", encoding="utf-8") as log:
        for step, value in enumerate(draws, 1):
            entry = {"step": step, "total": value, "l0": value, "learning_rate": 1e-3, "seconds_per_step": 0.1}
            log.write(json.dumps(entry) + "\n")
            if step % 20 == 0:
                scores = {"loss": value, "dice": 0.5, "score": value}
                log.write(json.dumps({"step": step, **{f"validation_{k}": v for k, v in scores.items()}}) + "\n")
    page, text, _ = page_of(folder)
    assert len(page) < 400_000
    assert "of 2000 in all" in text
    assert "step 40,000 of 1,000,000" in text


def test_a_folder_that_is_no_run_is_refused_in_a_sentence(tmp_path):
    for folder in (tmp_path, tmp_path / "nowhere"):
        with pytest.raises(CheckpointError, match=r"no settings\.json"):
            write_run_report(folder)
    (tmp_path / "settings.json").write_text("{", encoding="utf-8")
    with pytest.raises(CheckpointError, match="damaged"):
        write_run_report(tmp_path)
    assert not (tmp_path / "report.html").exists()


def test_a_training_does_not_fail_for_want_of_a_page(finished, tmp_path, monkeypatch):
    said = []
    leave_report(tmp_path, said.append)
    monkeypatch.setitem(__import__("sys").modules, "jinja2", None)
    leave_report(finished, said.append)
    assert len(said) == 2
    assert "jinja2 is not installed" in said[1]


def test_the_command_says_where_the_page_is(finished):
    result = CliRunner().invoke(app, ["report", str(finished)])
    assert result.exit_code == 0
    assert "report.html" in result.output


def test_a_real_training_has_a_page(corpus_path, tmp_path):
    from train.settings import Schedule
    from train.stages.pretrain import pretrain

    schedule = Schedule(steps=4, checkpoint_every=2, device="cpu")
    chosen = Pretrain(network={"width": 2, "norm": "instance"}, schedule=schedule, validation_samples=2)
    pretrain(corpus_path, tmp_path / "run", chosen)
    page, text, _ = page_of(tmp_path / "run")
    assert "Finished: all 4 steps are done." in text
    assert "InstanceNorm" in text
    assert page.count("data:image/png") == 2
    corpus, scenes = Corpus(corpus_path), scenes_in(page)
    assert len(scenes) == 2
    for name, scene in scenes.items():
        number = int(re.fullmatch(r"validation (\d+), step 4", name)[1])
        tumour, voxel_ml = (corpus[number].mask > 0).sum(), np.prod(corpus.spacing_mm(number)) / 1000
        assert np.abs(np.linalg.det(scene["affine"])) == pytest.approx(voxel_ml * 1000, rel=1e-4)
        areas = areas_ml(scene)
        assert areas["found"] + areas["missed"] == pytest.approx(tumour * voxel_ml, abs=1e-3)
        assert [layer["title"] for layer in scene["layers"][:3]] == ["input", "predicted normal", "predicted tumour"]
    (tmp_path / "run" / "scenes" / "validation.json").write_text('[{"name": "half', encoding="utf-8")
    page, _, _ = page_of(tmp_path / "run")
    assert scenes_in(page) == {}
    assert "To look into" not in page


@given(st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=300), st.integers(1, 50))
def test_a_thinned_curve_keeps_to_its_bounds(values, most):
    steps, means = thin(np.arange(len(values), dtype=float), np.array(values), most)
    assert len(steps) == len(means) == min(len(values), most)
    assert (np.diff(steps) > 0).all()
    assert min(values) - 1e-6 <= means.min()
    assert means.max() <= max(values) + 1e-6


def test_a_chart_takes_the_pages_colour_and_holds_no_name_twice():
    curve = Curve("training", range(100), [1.0, None, float("nan"), *range(3, 100)], "#123456", noisy=True)
    first, second = chart([curve], "a <name>", ("level", 0.5)), chart([curve], "another")
    assert 'aria-label="a &lt;name&gt;"' in first
    assert "currentColor" in first
    assert not set(re.findall(r'\sid="([^"]*)"', first)) & set(re.findall(r'\sid="([^"]*)"', second))
    assert chart([Curve("nothing", [1], [None], "#123456")], "empty") == ""
