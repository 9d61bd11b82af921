"""Short trainings of a tiny network."""

import contextlib
from collections.abc import Iterator

import numpy as np
import pytest
import torch

from tests.made.commands import Started
from train.settings import Pretrain, Schedule
from train.stages.pretrain import pretrain


@contextlib.contextmanager
def without_pictures() -> Iterator[None]:
    """Leave out the page and the pictures of trainings, which take longer than a few steps of a tiny network.

    For tests of weights and records alone; what a training shows is tested where it is drawn.
    """
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("train.run.report.leave_report", lambda path, say: None)
        patch.setattr("train.run.folder.validation_picture", lambda rows, path: np.zeros((8, 8, 3), np.uint8))
        yield


SMALL = ["--width", "2", "--checkpoint-every", "2", "--validation-samples", "2", "--device", "cpu"]


def start(corpus_path, out, *more):
    return Started("train", "pretrain", "--corpus", corpus_path, "--out", out, *SMALL, *more)


def same(a, b):
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def run(corpus_path, out, *, resume=False, steps=2, say=lambda line: None, **changed):
    validation_corpus, patch = changed.pop("validation_corpus", ()), changed.pop("patch", None)
    schedule = Schedule(steps=steps, checkpoint_every=2, device="cpu", seed=changed.pop("seed", 0))
    settings = Pretrain(
        network={"width": 2, "norm": changed.pop("norm", "batch")},
        schedule=schedule,
        validation_samples=2,
        **changed,
    )
    with without_pictures():
        return pretrain(
            corpus_path, out, settings, validation_corpus=validation_corpus, patch=patch, resume=resume, say=say
        )
