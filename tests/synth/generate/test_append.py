"""Append: a corpus grows, and what was finished stays untouched, whatever dies on the way."""

import itertools
import shutil

import pytest
from typer.testing import CliRunner

from scans.errors import StoreError
from synth.cli.application import app
from synth.corpus import Corpus
from synth.corpus.receipt import receipt_key
from synth.corpus.verify import verify
from synth.generate.plan import grown, make_manifest
from synth.generate.run import generate
from synth.sources.format import open_to_write, write_source
from synth.sources.reader import SourceStore
from tests.made.commands import Started, synth
from tests.made.corpora import append, assert_same, files_of, make_corpus, pick_store
from tests.made.running import wait_for
from tests.made.sources import REGION, make_scan


def finished_files(path, shards=3):
    """Return bytes and time of each file of the first shards."""
    corpus = Corpus(path)
    keys = [key for shard in range(shards) for key in [receipt_key(shard), *corpus.receipts[shard].files]]
    return {key: ((path / key).read_bytes(), (path / key).stat().st_mtime_ns) for key in keys}


@pytest.fixture
def corpus(sources_path, tmp_path, request):
    layout = getattr(request, "param", "layered")
    return make_corpus(tmp_path / "c.zarr", sources_path, layout=layout)  # 22 samples in 3 shards, the last of 6


@pytest.mark.parametrize("corpus", ["layered", "dense"], indirect=True)
def test_a_corpus_goes_on_as_if_it_had_been_longer_from_the_start(corpus, sources, sources_path, tmp_path):
    before = finished_files(corpus)
    outcome = append(corpus, sources_path, 30)
    assert (outcome.kept, outcome.made) == (3, 1)
    assert finished_files(corpus) == before
    assert verify(corpus) == []
    make_corpus(tmp_path / "longer", sources_path, samples=30)
    after, longer = Corpus(corpus), Corpus(tmp_path / "longer")
    assert len(after) == 30
    for index in range(30):
        assert_same(after, index, longer, index)


def test_it_grows_again_and_again_and_the_same_command_adds_nothing(corpus, sources_path):
    for samples in (23, 23, 40, 40):
        append(corpus, sources_path, samples)
    assert [block.samples for block in Corpus(corpus).manifest.blocks] == [22, 1, 17]
    assert Corpus(corpus).manifest.generations[0].seed == 7
    assert sorted(Corpus(corpus).recipes[:, 0].tolist()) == list(range(40)), "no index is drawn twice"
    assert verify(corpus) == []


@pytest.mark.parametrize(
    ("seed", "settings"),
    [(8, []), (None, ["alpha=[0.9,1]"]), (8, ["texture_target=composite"]), (None, ["mask.soft_mm=2"])],
)
@pytest.mark.parametrize("corpus", ["layered", "dense"], indirect=True)
def test_another_seed_and_other_settings_leave_what_is_there(corpus, sources, sources_path, tmp_path, seed, settings):
    before = finished_files(corpus)
    old = [Corpus(corpus)[index] for index in range(22)]
    append(corpus, sources_path, 30, seed, settings)
    assert finished_files(corpus) == before
    assert verify(corpus) == []
    after = Corpus(corpus)
    assert all(after[i].composite.tobytes() == sample.composite.tobytes() for i, sample in enumerate(old))
    new = Corpus(make_corpus(tmp_path / "new", sources_path, *settings, samples=30, seed=seed or 7))
    first = 0 if seed else 22  # an index of a seed is used once, whatever the settings
    for place in range(8):
        assert_same(after, 22 + place, new, first + place)


@pytest.mark.parametrize("corpus", ["layered", "dense"], indirect=True)
def test_sources_that_join_serve_the_new_samples_alone(corpus, tmp_path):
    more = pick_store(tmp_path / "more", [0, 1, 2, 4])
    before = finished_files(corpus)
    normals = {f: f.stat().st_mtime_ns for f in (corpus / "sources").rglob("c.*")}
    append(corpus, more, 50, seed=8)
    assert finished_files(corpus) == before
    assert {f: f.stat().st_mtime_ns for f in normals} == normals
    after = Corpus(corpus)
    assert [source["case"] for source in after.sources] == ["case0", "case1", "case2", "case4"]
    assert max(after.normal[:22].max(), after.donor[:22].max()) == 2
    assert 3 in after.normal[22:]
    assert verify(corpus) == []


def test_another_source_of_the_same_name_is_refused(corpus, tmp_path):
    changed = tmp_path / "changed"
    with open_to_write(changed, REGION, 32):
        scan = make_scan(5)
        write_source(changed, "made--case1", scan["arrays"], scan["provenance"])
    before = files_of(corpus)
    with pytest.raises(StoreError, match="source made--case1 is not the corpus's source of that name"):
        append(corpus, changed, 30)
    assert files_of(corpus) == before


def test_a_corpus_does_not_shrink(corpus, sources_path):
    with pytest.raises(StoreError, match="-n 21: the corpus holds 22 samples already"):
        append(corpus, sources_path, 21)


def test_more_samples_without_append_are_refused(corpus, sources, sources_path):
    with pytest.raises(StoreError, match=r"differs in samples.*to add samples to it, use --append"):
        generate(make_manifest(sources, 30, 7, shard_size=8), sources_path, corpus, workers=0)


class Killed(BaseException):
    """A run that ends here."""


@pytest.mark.parametrize("corpus", ["layered", "dense"], indirect=True)
def test_a_run_that_ends_at_any_write_is_gone_on_with_by_the_same_command(corpus, tmp_path, monkeypatch):
    more = pick_store(tmp_path / "more", [0, 1, 2, 4])
    undisturbed = shutil.copytree(corpus, tmp_path / "undisturbed")
    append(undisturbed, more, 30)
    from synth.store.folder import Folder

    write = Folder.write
    for last in itertools.count():
        path, before = shutil.copytree(corpus, tmp_path / str(last)), finished_files(corpus)
        calls = itertools.count()

        def dying(store, key, content, calls=calls, last=last):
            if next(calls) == last:
                raise Killed
            write(store, key, content)

        monkeypatch.setattr(Folder, "write", dying)
        try:
            append(path, more, 30)
            break
        except Killed:
            pass
        finally:
            monkeypatch.setattr(Folder, "write", write)
        # Until it is announced, the corpus is as it was; and then the old samples still are.
        reader = Corpus(path, partial=True)
        assert len(reader) in (22, 30)
        assert_same(reader, 21, Corpus(corpus), 21)
        append(path, more, 30)
        assert files_of(path) == files_of(undisturbed)
        assert [(path / key).read_bytes() for key in before] == [content for content, _ in before.values()]
    assert last > 10


def test_a_killed_command_is_gone_on_with(corpus, sources_path, tmp_path):
    before = finished_files(corpus)
    undisturbed = shutil.copytree(corpus, tmp_path / "undisturbed")
    append(undisturbed, sources_path, 400)
    command = ["generate", "--sources", sources_path, "--out", corpus, "-n", 400, "--no-card", "--append"]
    command += ["--workers", 0]
    with Started("synth", *command) as process:
        wait_for((corpus / receipt_key(4)).exists, 100)
        process.kill()
    assert not (corpus / receipt_key(50)).exists(), "it was to die in the middle"
    assert synth(*command).returncode == 0
    assert files_of(corpus) == files_of(undisturbed)
    assert finished_files(corpus) == before


def test_the_command_lets_a_corpus_grow(corpus, sources_path):
    line = ["generate", "--sources", sources_path, "--out", corpus, "-n", 30, "--append", "--workers", 0]
    for _ in range(2):
        result = CliRunner().invoke(app, list(map(str, line)))
        assert result.exit_code == 0, result.exception
        assert "30 samples in 4 shards" in result.output
    assert "(4 kept from before)" in result.output
    smaller = CliRunner().invoke(app, list(map(str, [*line[:6], 3, *line[7:]])))
    assert "-n 3: the corpus holds 30 samples already" in str(smaller.exception)


def test_a_corpus_of_one_source_that_another_joins_is_sound(tmp_path):
    from tests.made.sources import make_store

    store, out = make_store(tmp_path / "s.zarr", 1), tmp_path / "c.zarr"
    assert not generate(make_manifest(SourceStore(store), 3, 1, shard_size=4), store, out, workers=0).failed
    make_store(store, 2)
    assert not generate(grown(Corpus(out).manifest, SourceStore(store), 6), store, out, workers=0).failed
    assert verify(out) == []
    assert Corpus(out).donor[:3].tolist() == [0, 0, 0]
    assert (Corpus(out).donor[3:] != Corpus(out).normal[3:]).all()
