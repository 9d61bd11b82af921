"""A corpus in a plain PyTorch DataLoader."""

import threading

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from scans.errors import StoreError
from synth.corpus import Corpus
from train.data.corpus_dataset import CorpusDataset
from train.settings import SettingsError


@pytest.fixture(scope="module")
def corpus(corpus_path):
    return Corpus(corpus_path)


def double(item):
    return {**item, "composite": item["composite"] * 2}


def assert_eq5(batch):
    alpha = batch["alpha"][:, None, None, None, None]
    normal, texture, inside = batch["normal"], batch["texture"], batch["mask"] != 0
    blended = (normal + alpha * (texture - normal)).half().float()
    assert inside.flatten(1).any(dim=1).all()
    torch.testing.assert_close(batch["composite"], torch.where(inside, blended, normal), rtol=0, atol=0)


@pytest.mark.parametrize(("workers", "start"), [(0, None), (2, "spawn"), (2, "fork")])
def test_a_plain_loader_shows_every_sample_once_and_each_composes(corpus_path, corpus, workers, start):
    dataset = CorpusDataset(corpus_path)
    dataset[0]  # read here first, so that forked workers get a corpus in use
    loader = DataLoader(dataset, batch_size=4, shuffle=True, num_workers=workers, multiprocessing_context=start)
    shown = []
    for batch in loader:
        count = len(batch["index"])
        for name in ("composite", "normal", "texture", "mask"):
            assert batch[name].shape == (count, 1, 32, 32, 32)
            assert batch[name].dtype == torch.float32
        assert (batch["alpha"].shape, batch["alpha"].dtype) == ((count,), torch.float32)
        assert_eq5(batch)
        for row, index in enumerate(batch["index"].tolist()):
            np.testing.assert_array_equal(batch["composite"][row, 0].numpy(), corpus[index].composite)
        shown += batch["index"].tolist()
    assert sorted(shown) == list(range(22))


@pytest.mark.parametrize(("workers", "start"), [(1, "spawn"), (2, "fork")])
def test_an_opened_corpus_and_a_transform_travel_to_workers(corpus, workers, start):
    dataset = CorpusDataset(corpus, indices=[3, 20, -1], transform=double)
    batches = list(DataLoader(dataset, num_workers=workers, multiprocessing_context=start))
    assert [int(batch["index"]) for batch in batches] == [3, 20, 21]
    np.testing.assert_array_equal(batches[1]["composite"][0, 0].numpy(), 2 * corpus[20].composite)


def test_items_are_found_as_in_a_list(corpus_path):
    dataset = CorpusDataset(corpus_path, indices=np.array([5, 2, 9]))
    assert len(dataset) == 3
    assert [int(item["index"]) for item in dataset] == [5, 2, 9]
    assert int(dataset[-1]["index"]) == 9
    for outside in (3, -4):
        with pytest.raises(IndexError):
            dataset[outside]


def test_a_transform_may_write_into_an_item(corpus_path):
    dataset = CorpusDataset(corpus_path)
    before = dataset[1]
    kept = before["normal"].clone()
    for name in ("composite", "normal", "texture", "mask"):
        before[name].zero_()
    assert torch.equal(dataset[1]["normal"], kept)


def test_threads_read_what_one_thread_reads(corpus_path):
    alone = [item["composite"] for item in CorpusDataset(corpus_path)]
    dataset, wrong = CorpusDataset(corpus_path), []

    def read(first):
        wrong.extend(i for i in range(first, 22, 4) if not torch.equal(dataset[i]["composite"], alone[i]))

    threads = [threading.Thread(target=read, args=(first,)) for first in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_a_missing_corpus_is_told_at_once(tmp_path):
    with pytest.raises(StoreError, match="no corpus"):
        CorpusDataset(tmp_path / "nowhere.zarr")


@pytest.mark.parametrize("indices", [[0, 22], [-23], [0.5], [[1, 2]]])
def test_indices_that_name_no_sample_are_told_at_once(corpus, indices):
    with pytest.raises(SettingsError, match="indices: "):
        CorpusDataset(corpus, indices=indices)


def test_no_samples_are_an_empty_dataset(corpus):
    assert len(CorpusDataset(corpus, indices=[])) == 0
