import numpy as np
import pytest
import torch

from synth.corpus import Corpus, Recombine
from synth.generate.plan import make_manifest
from synth.generate.run import generate
from synth.sources.reader import SourceStore
from tests.made.batches import collate
from tests.made.sources import REGION, make_store
from train.data.crops import CropFeed
from train.data.feed import Feed, ahead
from train.data.split import split_by_source
from train.network import hardware
from train.network.unet import UNet
from train.settings import Pretrain, Schedule, SettingsError
from train.stages.decomposition import Decomposition
from train.stages.finite import FiniteWatch

CPU = torch.device("cpu")
NAMES = ("composite", "normal", "texture", "mask", "alpha")


def same(batch, expected):
    return all(torch.equal(getattr(batch, name), getattr(expected, name)) for name in NAMES)


@pytest.mark.parametrize("threads", [1, 5])
def test_reading_ahead_keeps_the_order_whatever_the_threads(threads):
    jobs = ([lambda s=s: s * s, lambda s=s: (s + 1) ** 2] for s in range(3, 9))
    assert list(ahead(jobs, threads)) == [[s * s, (s + 1) ** 2] for s in range(3, 9)]


def test_an_error_while_reading_reaches_the_loop():
    def read():
        raise SettingsError("gone")

    with pytest.raises(SettingsError, match="gone"):
        next(ahead([[read]], 2))


@pytest.mark.parametrize("layout", ["layered", "dense"])
def test_batches_hold_what_the_corpus_holds_though_their_memory_is_used_again(corpus_path, dense_path, layout):
    corpus = Corpus(corpus_path if layout == "layered" else dense_path)
    wanted = [[0, 5], [7, 7], [21, 3], [4], [1, 2], [9, 8], [5, 0]]
    feed = Feed(corpus.read, corpus.size, 1, 2, 3, CPU)
    memory = set()
    for numbers, batch in zip(wanted, feed.batches(wanted), strict=True):
        assert same(batch, collate([corpus[n] for n in numbers]))
        memory.add(batch.composite.data_ptr())
    assert len(memory) == 3


@pytest.mark.parametrize("recombine", [False, True])
def test_crops_laid_together_have_the_bits_of_samples_read(corpus_path, recombine):
    corpus = Corpus(corpus_path)
    stream = Recombine(corpus, 5)

    def tumour(number):
        return stream.tumour(number) if recombine else (int(corpus.normal[number]), corpus.tumour(number))

    feed = CropFeed(tumour, corpus.source, corpus.size, 3, 2, CPU)
    wanted = [[0, 5], [7, 7], [21, 3, 4], [1], [2, 1], [9, 8, 0]]
    for numbers, batch in zip(wanted, feed.batches(wanted), strict=True):
        whole = collate([stream[n] if recombine else corpus[n] for n in numbers])
        assert same(batch, whole)


def test_crops_with_a_soft_edge_too(tmp_path):
    region = REGION.model_copy(
        update={
            "synthesis": REGION.synthesis.model_validate({**REGION.synthesis.model_dump(), "mask": {"soft_mm": 2.0}})
        }
    )
    path = make_store(tmp_path / "s", 2, region=region)
    generate(make_manifest(SourceStore(path), samples=4, seed=1, shard_size=4), path, tmp_path / "c", workers=0)
    corpus = Corpus(tmp_path / "c")
    feed = CropFeed(lambda n: (int(corpus.normal[n]), corpus.tumour(n)), corpus.source, corpus.size, 4, 1, CPU)
    assert same(next(feed.batches([[0, 1, 2, 3]])), collate(list(corpus)))


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("crops", [False, True])
def test_a_gpu_gets_the_very_bits(corpus_path, crops):
    corpus, gpu = Corpus(corpus_path), torch.device("cuda")
    feed = (
        CropFeed(lambda n: (int(corpus.normal[n]), corpus.tumour(n)), corpus.source, corpus.size, 2, 2, gpu, 1)
        if crops
        else Feed(corpus.read, corpus.size, 1, 2, 2, gpu)
    )
    wanted = np.random.default_rng(0).integers(0, len(corpus), (40, 2)).tolist()
    for numbers, batch in zip(wanted, feed.batches(wanted), strict=True):
        assert same(batch.to(CPU), collate([corpus[n] for n in numbers]))


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_a_step_waits_for_nothing_on_a_gpu(corpus_path):
    corpus, machine = Corpus(corpus_path), hardware.choose("cuda")
    settings = Pretrain(network={"width": 2}, schedule=Schedule(batch=2), recombine=True)
    task = Decomposition(corpus, split_by_source(corpus, (), 0, 2), settings, machine)
    network = machine.place(UNet(settings.network))
    optimiser = torch.optim.Adam(network.parameters(), fused=True)
    watch = FiniteWatch(network, optimiser, machine.device)
    for step, batch in enumerate(task.batches(range(12)), 1):
        # The first steps make room: normals are sent, and algorithms are chosen.
        torch.cuda.set_sync_debug_mode("error" if step > 6 else "default")
        try:
            with machine.autocast():
                output = network(batch.composite)
            loss = task.loss(output, batch)["total"]
            optimiser.zero_grad()
            loss.backward()
            watch.look(step, loss)
            optimiser.step()
        finally:
            torch.cuda.set_sync_debug_mode("default")
    assert watch.first() == 0
