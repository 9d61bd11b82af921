"""A corpus in a bucket: the whole road, on a real S3 server; and in memory, as any store of fsspec."""

import contextlib
import json
import logging
import os
import re
import signal
import time
import uuid
from concurrent.futures import ThreadPoolExecutor

import pytest
from moto.server import ThreadedMotoServer
from typer.testing import CliRunner

from scans.durable import sha256
from scans.errors import StoreError
from synth.cli.application import app
from synth.corpus import Corpus
from synth.corpus.receipt import receipt_key
from synth.corpus.verify import verify
from synth.generate.plan import make_manifest
from synth.generate.repair import repair
from synth.generate.run import generate
from synth.sources.reader import SourceStore
from synth.store.bucket import Bucket
from synth.store.opening import open_store
from tests.made.commands import Started, finished
from tests.made.corpora import append, bits, files_of, make_corpus, pick_store
from tests.made.object_store import s3_url  # noqa: F401
from tests.made.trainings import same, start
from train.proxies.recorded import load_checkpoint


@pytest.fixture
def bucket(s3_url):  # noqa: F811
    return f"{s3_url}/{uuid.uuid4().hex[:8]}"


@pytest.fixture(params=["memory", "s3"])
def url(request):
    root = request.getfixturevalue("s3_url") if request.param == "s3" else "memory://tumours"
    return f"{root}/{uuid.uuid4().hex[:8]}/c.zarr"


@pytest.fixture(scope="module")
def local(sources_path, tmp_path_factory):
    """A corpus of each layout in a folder, with every kind of file but the card."""
    folder = tmp_path_factory.mktemp("local")
    settings = ["mask.soft_mm=1"]
    return {
        layout: make_corpus(folder / layout, sources_path, *settings, samples=8, shard_size=3, layout=layout)
        for layout in ("layered", "dense")
    }


def files_at(url):
    """Return the checksum of every file of a corpus behind a URL, as `files_of` does for a folder."""
    store = open_store(url)
    return {key: store.sha256(key) for key in store.sizes()}


def upload(path, url):
    store = open_store(url)
    for file in sorted(path.rglob("*")):
        if file.is_file() and file.name != ".lock":
            store.write(file.relative_to(path).as_posix(), file.read_bytes())
    return url


def synth(*arguments):
    """Run a command in this process; return its exit code, what it said, and the mistake it refused, if any."""
    result = CliRunner().invoke(app, list(map(str, arguments)))
    assert result.exception is None or isinstance(result.exception, SystemExit | StoreError), result.exception
    return result.exit_code, result.output


def assert_same_samples(one, other):
    assert (one.identity, one.content_hash, len(one)) == (other.identity, other.content_hash, len(other))
    for index in range(len(one)):
        assert bits(one[index]) == bits(other[index])


# The road.


def test_the_road_by_the_command_line(bucket, sources_path, tmp_path, monkeypatch):
    spools = tmp_path / "spools"
    spools.mkdir()
    monkeypatch.setenv("TMPDIR", str(spools))
    line = ["generate", "--sources", sources_path, "-n", 22, "--seed", 7, "--shard-size", 8, "--out"]
    made = finished("synth", *line, f"{bucket}/c.zarr", "--workers", 1)
    assert made.returncode == 0, made.stderr
    assert f"{bucket}/c.zarr: 22 samples in 3 shards (0 kept from before)" in made.stdout
    assert list(spools.glob("layered-tumors.*")) == [], "what was sent does not stay here"
    assert synth(*line, tmp_path / "c.zarr", "--workers", 0)[0] == 0
    here, there = files_of(tmp_path / "c.zarr"), files_at(f"{bucket}/c.zarr")
    assert there == here
    assert "README.md" in there
    assert_same_samples(Corpus(f"{bucket}/c.zarr"), Corpus(tmp_path / "c.zarr"))

    code, said = synth("verify", f"{bucket}/c.zarr")
    assert (code, said.splitlines()[-1]) == (0, f"{bucket}/c.zarr: sound")
    told = synth("info", f"{bucket}/c.zarr")[1]
    assert "3 of 3 finished, 8 samples each" in told
    assert Corpus(tmp_path / "c.zarr").content_hash in told
    assert synth("show", f"{bucket}/c.zarr", "-i", 21, "--out", tmp_path / "there.png")[0] == 0
    assert synth("show", tmp_path / "c.zarr", "-i", 21, "--out", tmp_path / "here.png")[0] == 0
    assert sha256(tmp_path / "there.png") == sha256(tmp_path / "here.png")
    again = synth(*line, f"{bucket}/c.zarr/", "--workers", 0, "--no-card")
    assert again[0] == 0
    assert "(3 kept from before)" in again[1]
    assert files_at(f"{bucket}/c.zarr") == here


def test_a_killed_run_is_finished_by_the_same_command(bucket, sources, sources_path, tmp_path, monkeypatch):
    monkeypatch.setenv("TMPDIR", str(tmp_path))  # what it was about to send stays behind
    url = f"{bucket}/c.zarr"
    line = ["generate", "--sources", sources_path, "--out", url, "-n", 96, "--seed", 7, "--shard-size", 4, "--no-card"]
    with Started("synth", *line, "--workers", 2) as process:
        store, until = open_store(url), time.monotonic() + 100
        while len(store.sizes("receipts")) < 5:
            assert time.monotonic() < until
            time.sleep(0.02)
        os.killpg(process.pid, signal.SIGKILL)
    kept = len(Corpus(url, partial=True).receipts)
    assert 4 <= kept < 24, "it was to die in the middle"
    with pytest.raises(StoreError, match=rf"holds {kept} of 24 shards; run the command that was making it again"):
        Corpus(url)
    code, said = synth(*line, "--workers", 0)
    assert (code, f"({kept} kept from before)" in said) == (0, True), said
    plan = make_manifest(sources, 96, 7, shard_size=4)
    assert not generate(plan, sources_path, tmp_path / "c.zarr", workers=0).failed
    assert files_at(url) == files_of(tmp_path / "c.zarr")


@pytest.mark.parametrize("layout", ["layered", "dense"])
def test_the_same_files_and_samples_wherever_it_is_made(url, local, sources_path, layout):
    chosen = ["mask.soft_mm=1"]
    make_corpus(url, sources_path, *chosen, samples=8, shard_size=3, layout=layout)
    assert files_at(url) == files_of(local[layout])
    assert verify(url) == []
    assert_same_samples(Corpus(url), Corpus(local[layout]))


def test_it_grows_as_in_a_folder(url, sources_path, tmp_path):
    for where in (url, tmp_path / "c.zarr"):
        make_corpus(where, sources_path, samples=5, shard_size=3)
        before = {key: total for key, total in Files(where).items() if re.search(r"/c\.|receipts/0", key)}
        line = ["generate", "--sources", sources_path, "--out", where, "-n", 9, "--append", "--no-card"]
        for _ in range(2):
            code, said = synth(*line, "--workers", 0)
            assert (code, "9 samples in 4 shards" in said) == (0, True)
        assert before.items() <= Files(where).items(), "what was finished stays untouched"
        append(where, pick_store(tmp_path / f"more{len(str(where))}", [0, 1, 2, 4]), 12, 8, ["mask.soft_mm=2"])
        assert verify(where) == []
    assert_same_samples(Corpus(url), Corpus(tmp_path / "c.zarr"))
    assert {key for key in files_at(url) if "/c." in key} == {
        key for key in files_of(tmp_path / "c.zarr") if "/c." in key
    }


def test_it_is_converted_from_here_to_there_and_back(bucket, local, tmp_path):
    steps = [
        (local["layered"], f"{bucket}/dense", "dense"),
        (f"{bucket}/dense", f"{bucket}/copy", "dense"),
        (f"{bucket}/copy", tmp_path / "dense", "dense"),
        (local["layered"], f"{bucket}/layered", "layered"),
        (f"{bucket}/layered", tmp_path / "layered", "layered"),
    ]
    for one, other, layout in steps:
        code, said = synth("convert", one, "--out", other, "--layout", layout, "--workers", 0, "--no-card")
        assert (code, "8 samples of 3 sources" in said) == (0, True), said
        assert Files(other) == files_of(local[layout])


class Files(dict):
    """The checksum of every file of a corpus, wherever it is."""

    def __init__(self, where):
        super().__init__(files_at(where) if "://" in str(where) else files_of(where))


# Damage.


@pytest.mark.parametrize("layout", ["layered", "dense"])
def test_damage_is_named_and_mended(url, local, sources_path, layout):
    upload(local[layout], url)
    store, corpus = open_store(url), Corpus(url)
    whole = files_at(url)
    keys = [next(iter(corpus.receipts[shard].files)) for shard in range(3)]
    contents = [store.read(key) for key in keys]
    store.remove(keys[0])
    store.write(keys[1], contents[1][: len(contents[1]) // 2])
    store.write(keys[2], os.urandom(len(contents[2])))
    store.write("sources/normal/c.1.0.0.0", b"garbage")
    store.remove("recipes/zarr.json")
    with pytest.raises(StoreError, match=r"is missing|has \d+ bytes instead of"):
        Corpus(url)
    code, said = synth("verify", url)
    assert code == 1
    for expected in (
        rf"shard 0: {keys[0]} is missing",
        rf"shard 1: {keys[1]} has {len(contents[1]) // 2} bytes instead of {len(contents[1])}",
        rf"shard 2: {keys[2]} is damaged \(its SHA-256 differs from the receipt\)",
        r"source made--case1: sources/normal/c.1.0.0.0 has 7 bytes",
        r"recipes/zarr.json is missing",
    ):
        assert re.search(expected, said), (expected, said)
    code, said = synth("repair", url)
    assert code == 1
    assert "--sources SOURCES" in said
    code, said = synth("repair", url, "--sources", sources_path, "--workers", 0)
    assert (code, "now sound" in said) == (0, True), said
    assert files_at(url) == whole
    assert repair(url, sources_path, workers=0).mended == []


def test_a_receipt_that_is_lost_or_torn_is_made_again_by_generate(bucket, local, sources_path):
    url = upload(local["layered"], f"{bucket}/c.zarr")
    store = open_store(url)
    store.write(receipt_key(0), store.read(receipt_key(0))[:40])
    store.remove(receipt_key(2))
    with pytest.raises(StoreError, match="holds 1 of 3 shards"):
        Corpus(url)
    make_corpus(url, sources_path, "mask.soft_mm=1", samples=8, shard_size=3)
    assert files_at(url) == files_of(local["layered"])


def test_another_corpus_is_not_overwritten(url, local, sources_path):
    upload(local["layered"], url)
    before = files_at(url)
    sources = SourceStore(sources_path)
    with pytest.raises(StoreError, match="holds another corpus"):
        generate(make_manifest(sources, 8, 9, shard_size=3), sources_path, url, workers=0)
    elsewhere = url.rpartition("/")[0]
    with pytest.raises(StoreError, match="exists and is not a corpus; choose another --out"):
        generate(make_manifest(sources, 8, 9, shard_size=3), sources_path, elsewhere, workers=0)
    assert files_at(url) == before


# With a local copy.


@pytest.fixture
def asked(caplog):
    """Return a function that gives the keys whose content was asked of the server since it was called last."""
    caplog.set_level(logging.INFO, "werkzeug")

    def keys():
        found = [re.search(r"GET /[^/]+/\w+/c\.zarr/(\S+) HTTP", record.getMessage()) for record in caplog.records]
        caplog.clear()
        return sorted(match[1] for match in found if match)

    return keys


def of_pixels(keys):
    return [key for key in keys if re.match(r"(form|layer|edge|sources|composite|normal|texture|mask)/.*c\.", key)]


@pytest.mark.parametrize("layout", ["layered", "dense"])
def test_with_a_cache_each_file_is_fetched_once_and_for_all(bucket, local, asked, tmp_path, layout):
    url, here = upload(local[layout], f"{bucket}/c.zarr"), Corpus(local[layout])
    asked()
    corpus = Corpus(url, cache=tmp_path / "copies")
    assert of_pixels(asked()) == [], "opening reads no voxel"
    with ThreadPoolExecutor(4) as pool:
        read = list(pool.map(lambda index: bits(corpus[index]), list(range(8)) * 3))
    assert read == [bits(sample) for sample in here] * 3
    fetched = of_pixels(asked())
    parts = ("normal", "roi") if layout == "layered" else ("normal",)  # dense normals are compared with their sources
    used = {f"sources/{name}/c.{n}.0.0.0" for name in parts for n in set(here.normal.tolist())}
    shards = {key for receipt in here.receipts.values() for key in of_pixels(receipt.files)}
    content = files_of(local[layout])  # two files of the same content share a copy
    expected = {content[key] for key in shards | used}
    assert sorted(content[key] for key in fetched) == sorted(expected)
    again = Corpus(url, cache=tmp_path / "copies")
    assert_same_samples(again, here)
    assert of_pixels(asked()) == [], "nor does the next run fetch them again"
    without = Corpus(url)
    assert_same_samples(without, here)
    assert len(of_pixels(asked())) > len(fetched)


def spoil(folder, change):
    copies = [file for file in folder.rglob("*") if file.is_file()]
    for file in copies:
        file.write_bytes(change(file.read_bytes()))
    return len(copies)


@pytest.mark.parametrize(
    "change",
    [lambda c: c[: len(c) // 2], lambda c: b"", lambda c: c[:20] + bytes(len(c) - 20), lambda c: c + b"more"],
    ids=["cut short", "emptied", "zeros", "longer"],
)
def test_damaged_copies_are_fetched_again(bucket, local, asked, tmp_path, change):
    url, here = upload(local["layered"], f"{bucket}/c.zarr"), Corpus(local["layered"])
    corpus = Corpus(url, cache=tmp_path / "copies")
    assert_same_samples(corpus, here)
    asked()
    count = spoil(tmp_path / "copies", change)
    assert_same_samples(Corpus(url, cache=tmp_path / "copies"), here)  # another run
    refetched = of_pixels(asked())
    assert len(refetched) == len(set(refetched)) <= count
    spoil(tmp_path / "copies", change)
    assert_same_samples(corpus, here)  # a run under way


def test_what_is_damaged_over_there_is_named_and_not_kept(bucket, local, tmp_path):
    url = upload(local["layered"], f"{bucket}/c.zarr")
    store = open_store(url)
    key = "layer/c.1.0"
    store.write(key, os.urandom(store.size(key)))
    corpus = Corpus(url, cache=tmp_path / "copies")
    assert bits(corpus[0]) == bits(Corpus(local["layered"])[0])
    with pytest.raises(
        StoreError, match=f"sample 4 cannot be read.*'{key}' is not what its receipt says.*synth verify"
    ):
        corpus[4]
    good = {entry["sha256"] for receipt in corpus.receipts.values() for entry in receipt.files.values()}
    good |= set(files_of(local["layered"]).values())
    assert all(file.name == sha256(file) for file in (tmp_path / "copies").rglob("*") if file.is_file())


def test_a_server_that_goes_away_is_told_in_a_sentence(bucket, local, monkeypatch):
    import s3fs

    url = upload(local["layered"], f"{bucket}/c.zarr")
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)  # serves the same buckets
    server.start()
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://{}:{}".format(*server.get_host_and_port()))
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    s3fs.S3FileSystem.clear_instance_cache()
    try:
        corpus = Corpus(url)
        corpus[0]
        server.stop()
        with pytest.raises(StoreError, match=f"sample 7 cannot be read .*{url}: the server does not answer"):
            corpus[7]
        with pytest.raises(StoreError, match=f"^{url}: the server does not answer"):
            Corpus(url)
    finally:
        monkeypatch.undo()
        s3fs.S3FileSystem.clear_instance_cache()


# Training.


def test_training_from_a_bucket_is_the_training_from_a_folder(bucket, corpus_path, tmp_path):
    url, copies = upload(corpus_path, f"{bucket}/c.zarr"), tmp_path / "copies"
    runs = {
        "folder": start(corpus_path, tmp_path / "folder", "--steps", "2"),
        "bucket": start(url, tmp_path / "bucket", "--steps", "2", "--cache", copies),
    }
    for process in runs.values():
        _, problems = process.communicate(timeout=200)
        assert process.returncode == 0, problems
    here, there = (load_checkpoint(tmp_path / name / "last.safetensors") for name in runs)
    assert same(here.network, there.network)
    assert same(here.optimiser, there.optimiser)
    assert here.record.data == there.record.data
    log = [json.loads(line) for line in (tmp_path / "bucket" / "log.jsonl").read_text(encoding="utf-8").splitlines()]
    assert log[-1]["step"] == 2
    assert all(file.name == sha256(file) for file in copies.rglob("*") if file.is_file())


# Mistakes.


def mistakes(s3, sources_path, out):
    """Yield commands, what is wrong with them, and changes of the environment."""
    nowhere = {"AWS_ENDPOINT_URL": "http://127.0.0.1:9", "AWS_MAX_ATTEMPTS": "1"}
    bucket = "there is no such bucket; make it, or check its name"
    server = "the server does not answer"
    train = ["train", "pretrain", "--out", out / "run", "--width", 2, "--corpus"]
    make = ["synth", "generate", "--sources", sources_path, "-n", 4, "--workers", 0, "--out"]
    yield [*make, "s3://no-such-bucket/c.zarr"], bucket, {}
    yield [*train, "s3://no-such-bucket/c.zarr"], bucket, {}
    yield ["synth", "verify", f"{s3}/c.zarr"], server, nowhere
    yield [*train, f"{s3}/c.zarr", "--cache", out / "copies"], server, nowhere
    yield ["synth", "show", f"{s3}/none.zarr"], f"{s3}/none.zarr: no corpus here; make one with synth generate", {}


def test_a_mistake_is_one_sentence_and_no_traceback(s3_url, sources_path, tmp_path):  # noqa: F811
    with contextlib.ExitStack() as stack:
        running = [
            (stack.enter_context(Started(*line, env={**os.environ, **changes})), sentence)
            for line, sentence, changes in mistakes(s3_url, sources_path, tmp_path)
        ]
        for process, sentence in running:
            said, problems = process.communicate(timeout=100)
            assert (process.returncode, said) == (2, ""), problems
            *before, last = problems.splitlines()
            assert last.startswith("error: "), problems
            assert sentence in last
            assert before in ([], ["0/1 shards"])
    assert list(tmp_path.iterdir()) == []
    assert open_store(f"{s3_url}/none.zarr").is_empty()


class Killed(BaseException):
    """Ends a run wherever it is, as a signal would."""


def test_a_run_killed_while_it_lays_out_a_corpus_is_gone_on_with(url, sources, sources_path, corpus_path, monkeypatch):
    plan, write = make_manifest(sources, 22, 7, shard_size=8), Bucket.write
    for last in (0, 1, 5, 14, 10**9):
        place, written = f"{url}-{last}", iter(range(10**6))

        def dying(store, key, content, last=last, written=written):
            if next(written) == last:
                raise Killed
            write(store, key, content)

        monkeypatch.setattr(Bucket, "write", dying)
        with contextlib.suppress(Killed):
            generate(plan, sources_path, place, workers=0)
        monkeypatch.setattr(Bucket, "write", write)
        generate(plan, sources_path, place, workers=0)
        assert files_at(place) == files_of(corpus_path)


def test_jobs_of_an_array_begin_at_once(url, sources, sources_path, corpus_path):
    plan = make_manifest(sources, 22, 7, shard_size=8)
    with ThreadPoolExecutor(3) as pool:
        list(pool.map(lambda n: generate(plan, sources_path, url, workers=0, only=slice(n, n + 1)), range(3)))
    assert files_at(url) == files_of(corpus_path)
