import json
import resource
import sys
from contextlib import contextmanager

import numpy as np
import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from scans.durable import in_use
from scans.errors import CheckpointError, UserError
from tests.made.fresh_process import imported_after
from train.run.events import tag
from train.run.folder import RunFolder
from train.run.log import AppendedFile, read_log


def events_of(folder):
    accumulator = EventAccumulator(str(folder / "events"), size_guidance={"scalars": 0, "images": 0, "tensors": 0})
    accumulator.Reload()
    return accumulator


def steps_of(folder, name="loss/total"):
    return [event.step for event in events_of(folder).Scalars(name)]


@contextmanager
def no_file_beyond(size):
    """Let no file of this process grow beyond `size` bytes: a write is cut short there, as on a full disk."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_log_is_strict_json_whatever_was_measured(tmp_path):
    with RunFolder(tmp_path / "run") as run:
        run.start({"stage": "pretrain"}, 0)
        run.write(1, {"total": float("nan"), "l0": float("inf"), "l1": 0.1, "note": "<é>"})

    def refuse(constant):
        raise AssertionError(constant)

    lines = (tmp_path / "run" / "log.jsonl").read_text(encoding="utf-8").splitlines()
    assert [json.loads(text, parse_constant=refuse) for text in lines] == [
        {"step": 1, "total": None, "l0": None, "l1": 0.1, "note": "<é>"}
    ]
    assert events_of(tmp_path / "run").Tags()["scalars"] == ["loss/l1"]


def test_what_is_compared_shares_a_group():
    assert [tag(name) for name in ("total", "l0", "real_l3")] == ["loss/total", "loss/l0", "loss/real_l3"]
    assert [tag(name) for name in ("validation_loss", "validation_dice")] == ["validation/loss", "validation/dice"]
    assert [tag(name) for name in ("learning_rate", "seconds_per_step")] == [
        "schedule/learning_rate",
        "speed/seconds_per_step",
    ]
    assert tag("real_dice") == tag("validation_real_dice") == "real/dice"
    assert tag("validation_real_dice.set--a") == "real/dice.set--a"


def test_a_killed_and_resumed_training_has_no_point_twice(tmp_path):
    folder = tmp_path / "run"
    killed = RunFolder(folder)
    killed.start({}, 0)
    for step in range(10, 60, 10):
        killed.write(step, {"total": float(step)})
    killed._lock.close()  # as the system does for a killed process; nothing is closed or flushed
    with open(folder / "log.jsonl", "ab") as log:
        log.write(b'{"step": 60, "tot')
    with RunFolder(folder, resume=True) as run:
        run.start({}, 30)
        for step in range(40, 70, 10):
            run.write(step, {"total": step / 10})
    assert [entry["step"] for entry in read_log(folder / "log.jsonl")] == [10, 20, 30, 40, 50, 60]
    assert steps_of(folder) == [10, 20, 30, 40, 50, 60]
    assert events_of(folder).Scalars("loss/total")[3].value == 4.0


def test_settings_and_pictures_are_in_tensorboard(tmp_path):
    image = np.random.default_rng(0).integers(0, 255, (6, 9, 3), dtype=np.uint8)
    with RunFolder(tmp_path / "run") as run:
        run.start({"network": {"width": 2}}, 0)
        run.picture(5, image)
    events = events_of(tmp_path / "run")
    [shown] = events.Images("validation")
    assert (shown.step, shown.width, shown.height) == (5, 9, 6)
    assert shown.encoded_image_string.startswith(b"\x89PNG")
    [text] = events.Tensors("settings")
    assert b'"width": 2' in text.tensor_proto.string_val[0]


def test_without_tensorboard_a_sentence_is_told_and_the_log_is_whole(tmp_path, monkeypatch):
    for name in [name for name in sys.modules if name.split(".")[0] == "tensorboard"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "tensorboard", None)
    said = []
    with RunFolder(tmp_path / "run", say=said.append) as run:
        run.start({}, 0)
        run.write(1, {"total": 1.0})
        run.picture(1, np.zeros((2, 2, 3), dtype=np.uint8))
    assert len(said) == 1
    assert "pip install tensorboard" in said[0]
    assert read_log(tmp_path / "run" / "log.jsonl") == [{"step": 1, "total": 1.0}]
    assert not (tmp_path / "run" / "events").exists()


def test_a_full_disk_is_told_once_and_loses_nothing_if_room_comes_back(tmp_path):
    said = []
    with RunFolder(tmp_path / "run", say=said.append) as run:
        run.start({}, 0)
        run.write(1, {"total": 1.0})
        with no_file_beyond((tmp_path / "run" / "log.jsonl").stat().st_size + 11):
            for step in range(2, 30):
                run.write(step, {"total": float(step)})
        assert len(read_log(tmp_path / "run" / "log.jsonl")) == 1  # the second line is cut short
        run.write(30, {"total": 30.0})
    assert len(said) == 2  # once for the log, once for the events
    assert all("goes on and tries again" in line for line in said)
    assert [entry["step"] for entry in read_log(tmp_path / "run" / "log.jsonl")] == list(range(1, 31))
    assert steps_of(tmp_path / "run") == list(range(1, 31))


def test_what_a_full_disk_loses_for_good_is_told(tmp_path):
    def also_full(line):
        said.append(line)
        raise OSError("no space for this line either")

    said = []
    (tmp_path / "log").symlink_to("/dev/full")
    file = AppendedFile(tmp_path / "log", also_full)
    file.write(b"a line\n")
    file.write(b"another\n")
    file.close()
    assert len(said) == 2
    assert "No space left on device" in said[0]
    assert "15 bytes are lost" in said[1]


def test_a_training_goes_on_where_no_events_can_be_written(corpus_path, tmp_path):
    from train.settings import Pretrain, Schedule
    from train.stages.pretrain import pretrain

    out = tmp_path / "run"
    out.mkdir()
    (out / "events").write_text("in the way", encoding="utf-8")
    schedule = Schedule(steps=2, checkpoint_every=2, device="cpu")
    settings, said = Pretrain(network={"width": 2}, schedule=schedule, validation_samples=2), []
    assert pretrain(corpus_path, out, settings, say=said.append).step == 2
    told = [line for line in said if str(out / "events") in line]
    assert len(told) == 2
    assert "goes on and tries again" in told[0]
    assert "lost" in told[1]


def leave_by(error, folder):
    with RunFolder(folder) as run:
        run.start({}, 0)
        run.write(4, {"total": 1.0})
        raise error


def test_the_log_says_how_a_training_ended(tmp_path):
    with RunFolder(tmp_path / "a") as run:
        run.start({}, 0)
        run.end(5)
    with RunFolder(tmp_path / "b") as run:
        run.start({}, 0)
        run.end(5, 15)
    with pytest.raises(UserError):
        leave_by(UserError("the loss is not finite at step 5"), tmp_path / "c")
    with pytest.raises(KeyboardInterrupt):
        leave_by(KeyboardInterrupt(), tmp_path / "d")
    endings = [read_log(tmp_path / name / "log.jsonl")[-1] for name in "abcd"]
    assert endings == [
        {"step": 5, "ended": "finished"},
        {"step": 5, "ended": "signal", "reason": "SIGTERM"},
        {"step": 4, "ended": "error", "reason": "the loss is not finite at step 5"},
        {"step": 4, "ended": "signal", "reason": "SIGINT"},
    ]


def test_a_folder_in_use_is_seen_and_refused_to_a_second_training(tmp_path):
    assert not in_use(tmp_path)
    with RunFolder(tmp_path / "run"):
        assert in_use(tmp_path / "run")
        with pytest.raises(CheckpointError, match="another training"):
            RunFolder(tmp_path / "run")
    assert not in_use(tmp_path / "run")


@pytest.mark.parametrize("module", ["train.run.report", "train.stages.real_validation"])
def test_what_shows_a_training_imports_nothing_that_draws_or_reads_scans_before_it_must(module):
    imported_after(f"import {module}", "matplotlib", "monai", "SimpleITK", "tensorboard", "jinja2", "onnx")
