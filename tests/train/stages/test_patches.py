"""A network of patches, from its corpus to the mask of a scan."""

import json

import numpy as np
import pytest
import torch

from scans.catalog.region import Region
from scans.image.volume import read_volume
from synth.corpus import Corpus
from tests.made.corpora import make_corpus
from tests.made.scan_files import GRID, brain, mask, save
from tests.made.sources import REGION, make_store
from tests.made.tiny_checkpoint import bright_network, save_bright
from tests.made.trainings import run, same
from train.cases.prepared import RealScan
from train.data.split import split_by_source
from train.inference.patchwise import slide_over_organ
from train.network.hardware import PLAIN
from train.network.record import Record
from train.proxies.recorded import load_checkpoint
from train.segmentation.segment import segment
from train.settings import Adapt, Finetune, Pretrain, Schedule, SettingsError
from train.stages.adapt import Adaptation
from train.stages.decomposition import Decomposition
from train.stages.pretrain import shown
from train.stages.supervised import Supervised

IN_PATCHES = Region.model_validate({**REGION.model_dump(), "patches": {"cube": 32, "side": 16, "tumour_share": 0.25}})


@pytest.fixture(scope="module")
def patched_path(tmp_path_factory):
    folder = tmp_path_factory.mktemp("patched")
    make_store(folder / "sources.zarr", 3, region=IN_PATCHES)
    return make_corpus(folder / "corpus.zarr", folder / "sources.zarr")


def test_a_region_of_patches_is_trained_on_patches_and_its_checkpoint_says_so(patched_path, tmp_path):
    said = []
    run(patched_path, tmp_path / "run", patch="auto", say=said.append)
    record = load_checkpoint(tmp_path / "run" / "best.safetensors").record
    assert (record.size, record.patch, record.side) == (32, 16, 16)
    assert record.settings["tumour_share"] == 0.25
    assert "trained on patches of 16 of the 32 voxels along each side" in said


def test_a_training_on_patches_goes_on_as_if_never_stopped(patched_path, tmp_path):
    run(patched_path, tmp_path / "whole", patch="auto", steps=4)
    run(patched_path, tmp_path / "parts", patch="auto", steps=2)
    run(patched_path, tmp_path / "parts", patch="auto", steps=4, resume=True)
    one, other = (load_checkpoint(tmp_path / name / "last.safetensors") for name in ("whole", "parts"))
    assert same(one.trained, other.trained)


def test_each_step_shows_patches_of_the_samples_it_names(patched_path):
    corpus = Corpus(patched_path)
    split = split_by_source(corpus, (), 0, 4)
    for recombine in (False, True):
        settings = Pretrain(patch=16, recombine=recombine, schedule=Schedule(seed=3))
        task = Decomposition(corpus, split, settings)
        (batch,) = task.batches(range(5, 6))
        for shown_patch, told in zip(batch.composite[:, 0].numpy(), task.recipe(5), strict=True):
            whole = corpus[told["sample"]] if not recombine else task.stream[told["step"]]
            z, y, x = told["patch"]
            assert np.array_equal(shown_patch, whole.composite[z : z + 16, y : y + 16, x : x + 16])


@pytest.mark.parametrize(
    ("patch", "words"),
    [("30", "multiple of 8"), ("32", "less than the corpus's 32"), ("half", "auto, whole, or a multiple of 8")],
)
def test_patches_that_cannot_be_are_refused_in_a_sentence(patched_path, patch, words):
    with pytest.raises(SettingsError, match=words):
        shown(patch, Corpus(patched_path), "layers")


def test_whole_cubes_stay_where_they_are_asked_for_or_the_region_has_no_patches(patched_path, corpus_path):
    assert shown("whole", Corpus(patched_path), "layers") == {"patch": None}
    assert shown("auto", Corpus(corpus_path), "layers") == {"patch": None}
    assert shown("auto", Corpus(patched_path), "jigsaw") == {"patch": None}


def test_patches_found_one_by_one_make_the_whole_and_nothing_beside_the_organ():
    rng = np.random.default_rng(0)
    scan = np.zeros((1, 40, 36, 48), np.float32)
    scan[:, 6:33, 4:30, 9:44] = 1 + rng.random((27, 26, 35), np.float32)
    found = slide_over_organ(lambda part: torch.cat([part, -part], dim=1), scan, 16, 2, torch.device("cpu"))
    assert np.allclose(found[0], scan[0], atol=1e-5)
    assert np.allclose(found[1], -scan[0], atol=1e-5)
    assert not slide_over_organ(lambda part: part, np.zeros_like(scan), 16, 1, torch.device("cpu")).any()


def test_a_network_of_patches_segments_a_scan_as_one_of_the_whole_does_that_looks_at_voxels(tmp_path):
    scan = brain(GRID)
    bright = mask(GRID).array > 0
    scan = scan.with_array(np.where(bright & (scan.array != 0), scan.array + 400, scan.array).astype(np.float32))
    path = save(scan, tmp_path / "scan.nii.gz")
    masks = []
    for name, changed in (("whole", {}), ("patches", {"patch": 16})):
        checkpoint = save_bright(tmp_path / f"{name}.safetensors", **changed)
        (result,) = segment(checkpoint, [path], tmp_path / name)
        assert not result.problem
        masks.append(read_volume(result.mask).array)
    assert masks[0].any()
    assert np.array_equal(*masks)


def real(seed=0):
    rng = np.random.default_rng(seed)
    marked = np.zeros((32, 32, 32), bool)
    marked[20:26, 20:26, 20:26] = True
    return RealScan("case", rng.normal(size=(1, 32, 32, 32)).astype(np.float32), marked, (1.0, 1.0, 1.0))


def test_fine_tuning_and_adaptation_show_patches_of_real_scans_too(patched_path):
    scan = real()
    supervised = Supervised([scan], [], Finetune(augment="none"), patch=16)
    with_tumour = [bool(batch.mask.any()) for batch in supervised.batches(range(12))]
    assert next(supervised.batches(range(1))).composite.shape == (2, 1, 16, 16, 16)
    assert any(with_tumour)
    corpus = Corpus(patched_path)
    settings = Adapt(schedule=Schedule(steps=2))
    sure = [np.where(scan.mask, 1, 0).astype(np.uint8)]
    task = Adaptation(corpus, split_by_source(corpus, (), 0, 2), [scan], settings, sure=sure, patch=16)
    (batch,) = task.batches(range(1))
    assert batch.composite.shape == (2, 1, 16, 16, 16)
    (z, y, x), part = task.windows(0)[0], batch.real[0, 0].numpy()
    assert np.array_equal(part, scan.intensity[0, z, y, x])
    assert np.array_equal(batch.sure[0, 0].numpy(), sure[0][z, y, x])


def test_a_network_of_patches_is_validated_over_whole_scans_while_it_is_fine_tuned():
    scan = real()
    scan = RealScan(
        "case", np.where(scan.mask, 5.0, np.clip(scan.intensity, -1, 1)).astype(np.float32), scan.mask, scan.spacing_mm
    )
    supervised = Supervised([scan], [scan], Finetune(), patch=16)
    assert supervised.validate(bright_network().eval(), PLAIN)["dice"] == 1.0


def test_records_without_patches_read_as_before_and_a_patch_that_none_can_be_is_damage(tmp_path):
    record = load_checkpoint(save_bright(tmp_path / "c.safetensors")).record
    assert record.patch is None
    assert json.loads((tmp_path / "c.json").read_text())["patch"] is None
    assert Record(**{**vars(record), "patch": 16}).side == 16
