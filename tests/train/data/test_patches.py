"""Patches: which part of a sample a network is shown."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from synth.corpus import Corpus, Recombine, Tumour
from synth.tumour.sample import empty_sample
from train.data.corpora import Corpora
from train.data.patches import Patches, patchable
from train.settings import SettingsError

SIDE = 16
VOLUMES = ("composite", "normal", "texture", "mask")


@pytest.fixture(scope="module")
def corpus(corpus_path):
    return Corpus(corpus_path)


def stored(corpus):
    return lambda number: (int(corpus.normal[number % len(corpus)]), corpus.tumour(number % len(corpus)))


def cut(corpus, number, share=0.5, seed=0, tumour=None):
    patches = Patches(corpus, SIDE, share, seed, tumour or stored(corpus))
    return patches.window(number), patches.read(number, empty_sample(SIDE))


def test_a_patch_is_a_part_of_its_sample_bit_for_bit(corpus):
    for number in range(len(corpus)):
        window, patch = cut(corpus, number)
        whole = corpus[number]
        for name in VOLUMES:
            assert np.array_equal(getattr(patch, name), getattr(whole, name)[window]), name
        assert patch.alpha == whole.alpha


def test_a_patch_of_a_recombined_sample_is_a_part_of_it(corpus):
    stream = Recombine(corpus, seed=3)
    for step in (0, 1, 1000):
        window, patch = cut(corpus, step, tumour=stream.tumour)
        assert np.array_equal(patch.composite, stream[step].composite[window])
        assert np.array_equal(patch.mask, stream[step].mask[window])


def test_the_share_of_patches_around_a_tumour_is_the_one_asked_for(corpus):
    tumours = [int(cut(corpus, number, share)[1].mask.any()) for share in (1.0, 0.0) for number in range(60)]
    assert all(tumours[:60])
    assert not all(tumours[60:])  # of a ROI's voxels most are far from its tumour


def test_a_patch_around_healthy_tissue_has_the_organ_in_its_middle_half(corpus):
    for number in range(40):
        window, _ = cut(corpus, number, share=0.0)
        middle = tuple(slice(part.start, part.stop) for part in window)
        assert corpus.source(int(corpus.normal[number % len(corpus)])).roi[middle].any()


def test_patches_are_a_function_of_seed_and_number_and_differ_between_them(corpus):
    windows = [cut(corpus, 5, seed=seed)[0] for seed in (0, 0, 1, 2, 3)]
    assert windows[0] == windows[1]
    assert len({str(window) for window in windows}) > 2
    same_sample = [cut(corpus, 5 + len(corpus) * epoch)[0] for epoch in range(6)]
    assert len({str(window) for window in same_sample}) > 2  # the next epoch sees another part


@settings(max_examples=60)
@given(st.tuples(*[st.integers(0, 12)] * 3), st.tuples(*[st.integers(0, 12)] * 3))
def test_what_of_a_tumour_lies_in_a_window_is_what_the_whole_cube_has_there(low, start):
    rng = np.random.default_rng(sum(low))
    box = tuple(slice(first, first + 5) for first in low)
    mask = rng.integers(0, 2, (5, 5, 5)).astype(np.uint8)
    tumour = Tumour(box, mask.astype(np.float16), mask.astype(np.float16), mask, 1.0)
    window = tuple(slice(first, first + 8) for first in start)
    whole = np.zeros((20, 20, 20), np.uint8)
    whole[box] = mask
    part = tumour.within(window)
    seen = np.zeros((8, 8, 8), np.uint8)
    seen[part.box] = part.mask
    assert np.array_equal(seen, whole[window])


def test_a_dense_corpus_and_several_modalities_are_refused_in_a_sentence(dense_path, corpus_path):
    with pytest.raises(SettingsError, match=r"dense.*--patch whole"):
        patchable(Corpus(dense_path))
    with pytest.raises(SettingsError, match=r"one modality.*--patch whole"):
        patchable(Corpora([corpus_path]))
