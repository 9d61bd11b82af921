"""Aligned corpora: the same tumours in the same scans, in several modalities."""

import pickle
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from scans.errors import StoreError, UserError
from synth.cli.application import app
from synth.corpus import Corpus, Recombine
from synth.sources.reader import SourceStore
from tests.made.scan_files import brain, mask, save
from train.data.corpora import Corpora, Recombined, empty_sample

CATALOG = """
regions:
  brain: {modality: FLAIR, synthesis: {shape: {volume_mm3: [300, 3000]}}}
datasets:
  mine:
    role: normal
    region: brain
    modality: [FLAIR, T1]
    licence: none
    terms: none
    redistribute_derived: true
    citation: none
    obtain: made here
    root: {path: FOLDER}
    layout:
      image: {FLAIR: "{case}_flair.nii.gz", T1: "{case}_t1.nii.gz"}
      roi: "{case}_brain.nii.gz"
      lesion: "{case}_lesions.nii.gz"
"""
LAYERS = ("composite", "normal", "texture")
few = settings(max_examples=15, deadline=None)


def synth(*arguments) -> None:
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    assert result.exit_code == 0, result.output


def make(folder: Path, modality: str, name: str, *options, size: int = 32, samples: int = 12, seed: int = 3) -> Path:
    """Make a corpus of one modality, as a user would."""
    sources = folder / f"{modality}-{size}-sources.zarr"
    synth(
        *("prepare", "--catalog", folder / "catalog.yaml", "--dataset", "mine", "--modality", modality),
        *("--out", sources, "--size", size, "--workers", 0),
    )
    synth(
        *("generate", "--sources", sources, "--out", folder / name, "-n", samples, "--seed", seed, "--no-card"),
        *("--shard-size", 8, "--workers", 0, *options),
    )
    return folder / name


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("two")
    for seed, name in enumerate("abc"):
        save(brain(seed=seed), folder / "data" / f"{name}_flair.nii.gz")
        save(brain(seed=10 + seed, background=3.0), folder / "data" / f"{name}_t1.nii.gz")
        save(mask(radius=0.7, centre=0.0), folder / "data" / f"{name}_brain.nii.gz")
    save(mask(), folder / "data" / "b_lesions.nii.gz")
    (folder / "catalog.yaml").write_text(CATALOG.replace("FOLDER", str(folder / "data")), encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def flair(folder):
    return make(folder, "FLAIR", "flair.zarr")


@pytest.fixture(scope="module")
def t1(folder):
    return make(folder, "T1", "t1.zarr", "--set", "linear.ratio=[[0.4,0.6],[0.7,0.8]]", "--set", "blur.enabled=false")


@pytest.fixture(scope="module")
def corpora(flair, t1):
    return Corpora([flair, t1])


def test_a_sample_has_one_tumour_in_one_place_in_every_modality(corpora, flair, t1):
    each = [Corpus(flair), Corpus(t1)]
    assert len(corpora) == 12
    for index, sample in enumerate(corpora):
        own = [corpus[index] for corpus in each]
        for name in LAYERS:
            assert getattr(sample, name).shape == (2, 32, 32, 32)
            np.testing.assert_array_equal(getattr(sample, name), [getattr(one, name) for one in own])
        assert sample.mask.any()
        np.testing.assert_array_equal(own[0].mask, own[1].mask)
        np.testing.assert_array_equal(sample.mask, own[0].mask)
        assert sample.alpha == own[0].alpha == own[1].alpha
        assert (own[0].texture != own[1].texture).any()


def test_contrast_is_each_modalitys_own(corpora):
    flair, t1 = (corpus.recipes for corpus in corpora.each)
    names = list(corpora.first.recipe(0))
    differing = {name for position, name in enumerate(names) if (flair[:, position] != t1[:, position]).any()}
    assert differing == {"ratio"}
    assert flair[:, names.index("ratio")].min() >= 1
    assert t1[:, names.index("ratio")].max() <= 0.8


def test_the_modalities_are_told_in_their_order(corpora, flair, t1):
    assert [channel["region"]["modality"] for channel in corpora.channels] == ["FLAIR", "T1"]
    assert [source["name"] for source in corpora.sources] == ["mine--a", "mine--b", "mine--c"]
    turned = Corpora([t1, flair])
    assert turned.content_hash != corpora.content_hash
    assert turned.region["modality"] == "T1"
    np.testing.assert_array_equal(turned[4].composite, corpora[4].composite[::-1])


def test_layouts_may_differ_and_arrays_are_written_over(folder, corpora, flair):
    dense = make(folder, "T1", "dense.zarr", "--layout", "dense", "--set", "linear.ratio=[[0.4,0.6],[0.7,0.8]]")
    mixed = Corpora([flair, dense])
    out = empty_sample(2, 32, np.float16)
    for layer in LAYERS:
        getattr(out, layer).fill(9)
    sample = mixed.read(-1, out)
    assert sample.composite is out.composite
    np.testing.assert_array_equal(sample.composite[0], corpora[11].composite[0])


def test_threads_and_other_processes_read_the_same(corpora):
    again = pickle.loads(pickle.dumps(corpora))
    with ThreadPoolExecutor(4) as pool:
        for index, sample in enumerate(pool.map(again.__getitem__, range(len(corpora)))):
            np.testing.assert_array_equal(sample.composite, corpora[index].composite)


@few
@given(seed=st.integers(0, 2**64 - 1), step=st.integers(0, 2**64 - 1))
def test_recombination_draws_the_same_in_every_modality_but_its_contrast(corpora, seed, step):
    streams = [Recombine(corpus, seed) for corpus in corpora.each]
    drawn = [asdict(stream.draw(step)) for stream in streams]
    ratios = [one.pop("ratio") for one in drawn]
    assert drawn[0] == drawn[1]
    assert ratios[0] >= 1 > ratios[1]
    sample = Recombined(corpora, seed)[step]
    for channel, stream in enumerate(streams):
        own = stream[step]
        np.testing.assert_array_equal(sample.composite[channel], own.composite)
        np.testing.assert_array_equal(sample.mask, own.mask)
        assert sample.alpha == own.alpha


def test_recombination_keeps_to_the_tumours_and_sources_it_is_given(corpora):
    stream = Recombined(corpora, 5, tumours=[2, 3], sources=[0, 2])
    normals = [corpora.first.source(position).voxels.astype(np.float32) for position in (0, 2)]
    for step in range(6):
        assert any(np.array_equal(stream[step].normal[0], normal) for normal in normals)


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        ({"seed": 4}, "tumours are others, as of another seed"),
        ({"samples": 11}, "12 against 11 samples"),
        ({"size": 16}, "32 against 16 voxels a side"),
        ({"options": ("--set", "shape.axis_ratio=[0.5,0.6]")}, "their settings of shape differ"),
        ({"options": ("--set", "alpha=[0.1,0.2]")}, "their settings of alpha differ"),
        ({"options": ("--set", "mask.soft_mm=2")}, "their settings of mask differ"),
    ],
)
def test_corpora_that_are_not_aligned_are_refused_with_what_differs(folder, flair, tmp_path, changed, told):
    name = tmp_path / "other.zarr"
    options = changed.pop("options", ())
    with pytest.raises(StoreError, match="are not aligned") as caught:
        Corpora([flair, make(folder, "T1", name, *options, **changed)])
    assert told in str(caught.value)
    assert "synth prepare --modality" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_scans_of_other_cases_or_another_region_of_interest_are_refused(folder, flair, tmp_path):
    (tmp_path / "data").mkdir()
    for file in (folder / "data").iterdir():
        (tmp_path / "data" / file.name).write_bytes(file.read_bytes())
    (tmp_path / "catalog.yaml").write_text(CATALOG.replace("FOLDER", str(tmp_path / "data")), encoding="utf-8")
    save(mask(radius=0.72, centre=0.0), tmp_path / "data" / "b_brain.nii.gz")
    with pytest.raises(StoreError, match=r"mine--b differs in its frame; its files need one grid and one ROI file"):
        Corpora([flair, make(tmp_path, "T1", "t1.zarr")])
    for file in (tmp_path / "data").glob("c_*"):
        file.rename(file.with_name(f"d{file.name[1:]}"))
    (tmp_path / "data" / "b_brain.nii.gz").write_bytes((folder / "data" / "b_brain.nii.gz").read_bytes())
    with pytest.raises(StoreError, match="source mine--d is in one of them alone"):
        Corpora([flair, make(tmp_path, "T1", "renamed.zarr")])


def test_a_case_that_lacks_a_modality_is_in_no_corpus_of_its_dataset(folder, tmp_path):
    for name in "ab":
        for what in ("flair", "t1", "brain"):
            (tmp_path / f"{name}_{what}.nii.gz").write_bytes((folder / f"data/{name}_{what}.nii.gz").read_bytes())
    (tmp_path / "a_t1.nii.gz").unlink()
    (tmp_path / "catalog.yaml").write_text(CATALOG.replace("FOLDER", str(tmp_path)), encoding="utf-8")
    for modality in ("FLAIR", "T1"):
        result = CliRunner().invoke(
            app,
            [
                *("prepare", "--catalog", str(tmp_path / "catalog.yaml"), "--dataset", "mine", "--workers", "0"),
                *("--modality", modality, "--size", "32", "--out", str(tmp_path / f"{modality}.zarr")),
            ],
        )
        assert result.exit_code == 1
        assert "left out mine/a" in result.output
        assert "its T1 scan is missing" in " ".join(result.output.split())
        assert SourceStore(tmp_path / f"{modality}.zarr").names == ["mine--b"]


def test_one_modality_twice_is_refused(flair):
    with pytest.raises(StoreError, match="are both of FLAIR"):
        Corpora([flair, flair])
    with pytest.raises(StoreError, match="at least one"):
        Corpora([])


def test_masks_that_differ_are_refused_as_they_are_read(folder, flair, t1):
    corpora = Corpora([flair, t1])
    corpora.each = (corpora.first, Corpus(make(folder, "T1", "seed.zarr", seed=9)))
    with pytest.raises(StoreError, match="the mask of sample 0 differs"):
        corpora[0]


@pytest.mark.usefixtures("undrawn")
def test_a_network_of_both_and_their_mirror_images_is_pretrained_continued_and_adapted(folder, flair, t1, tmp_path):
    from train.proxies.recorded import load_checkpoint
    from train.settings import Adapt, Pretrain, Schedule
    from train.stages.adapt import adapt
    from train.stages.pretrain import pretrain

    pair = [flair, t1]

    def run(out, steps, paths=pair, **more):
        schedule = Schedule(steps=steps, checkpoint_every=2, device="cpu", precision="fp32", loader_threads=1)
        values = Pretrain(network={"width": 2}, schedule=schedule, validation_samples=2, recombine=True)
        return pretrain(paths, out, values, symmetry="on", **more)

    run(tmp_path / "whole", 4)
    run(tmp_path / "parts", 2)
    run(tmp_path / "parts", 4, resume=True)
    whole, parts = (load_checkpoint(tmp_path / name / "last.safetensors") for name in ("whole", "parts"))
    assert all((whole.network[name] == parts.network[name]).all() for name in whole.network)
    assert whole.record.network["in_channels"] == 2
    assert [channel["region"]["modality"] for channel in whole.record.channels] == ["FLAIR", "T1"]
    with pytest.raises(UserError, match="trained on other data"):
        run(tmp_path / "parts", 6, paths=pair[::-1], resume=True)
    values = Adapt(schedule=Schedule(steps=2, checkpoint_every=2, device="cpu", precision="fp32"), validation_samples=2)
    last, catalog = tmp_path / "whole" / "last.safetensors", folder / "catalog.yaml"
    assert adapt(last, pair, catalog, "mine", tmp_path / "adapted", values).step == 2
    with pytest.raises(UserError, match="other modalities"):
        adapt(last, pair[0], catalog, "mine", tmp_path / "other", values)
