"""Hostile input: whatever a stranger put into a corpus or a pack, it is read as intact, or refused in a sentence.

Never another exception, a crash, a write outside the target, or memory beyond a bound. Attacks on decoders run in a
process of their own with a limit on its memory, so that a crash there fails a test and not the suite.
"""

import contextlib
import copy
import dataclasses
import hashlib
import json
import os
import random
import resource
import shutil
import struct
import sys
import warnings
import zipfile
import zlib
from pathlib import Path

import numcodecs.blosc
import numcodecs.zstd
import numpy as np
import pytest
from google_crc32c import value as crc32c
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from scans.errors import StoreError, UserError
from synth.corpus import Corpus
from synth.corpus.codec import SUM, decode, encode, encode_index, index_bytes
from synth.corpus.layout import Array, sample_arrays
from synth.corpus.manifest import COPY, ROOT, Block, Manifest, load_manifest
from synth.corpus.receipt import CARD, SOURCES
from synth.corpus.verify import verify
from synth.generate.plan import make_manifest
from synth.generate.run import generate
from synth.generators.generation import Generation
from synth.share.bag import PAYLOAD
from synth.share.pack import pack
from synth.share.recipe_codec import encode_recipes
from synth.share.recipe_pack import FORMAT, VERSION, Recipes, check_rows, pack_recipes
from synth.share.rehydrate import _opened, rehydrate
from synth.share.unpack import unpack
from synth.share.zip_archive import _end, _entry, _local
from synth.sources.reader import SourceStore
from synth.store.opening import open_store
from synth.store.sealed_json import SEAL, seal, to_bytes
from synth.tumour.recipe import COLUMNS, Recipe
from synth.tumour.sample import empty_sample
from tests.made.commands import finished
from tests.made.sources import make_store

SIZE, SAMPLES = 16, 5
WHOLE = {field.name for field in dataclasses.fields(Recipe) if field.type is int}
MOST_MEMORY = 2**30  # a process under attack may take so much beyond what its modules took
quickly = settings(
    max_examples=100, deadline=None, derandomize=True, database=None, suppress_health_check=list(HealthCheck)
)


@pytest.fixture(scope="module")
def small(tmp_path_factory) -> Path:
    """A folder with sources, and a corpus of two shards in each layout."""
    folder = tmp_path_factory.mktemp("small")
    sources = make_store(folder / "sources.zarr", 2, SIZE)
    for layout in ("layered", "dense"):
        manifest = make_manifest(SourceStore(sources), SAMPLES, 1, shard_size=3, layout=layout)
        assert not generate(manifest, sources, folder / f"{layout}.zarr", workers=0).failed
    return folder


@pytest.fixture
def corpus(small, tmp_path) -> Path:
    return shutil.copytree(small / "layered.zarr", tmp_path / "corpus.zarr")


def files_of(path: Path) -> dict[str, bytes]:
    return {f.relative_to(path).as_posix(): f.read_bytes() for f in sorted(path.rglob("*")) if f.is_file()}


@contextlib.contextmanager
def nothing_beside(folder: Path, *targets: str):
    """Fail if anything in a folder, or beside it, was changed but the targets."""

    def look():
        return {
            path: (path.lstat().st_mtime_ns, path.lstat().st_size)
            for top in (folder, folder.parent)
            for path in (top.rglob("*") if top == folder else top.iterdir())
            if path != folder and not any(path.is_relative_to(folder / target) for target in targets)
        }

    before = look()
    yield
    assert look() == before


# A process of its own.


def in_a_process(attack, *arguments) -> str:
    """Run an attack of this module with little memory; return what it printed."""
    done = finished(__name__, attack.__name__, *arguments, cwd=Path(__file__).parents[2], timeout=120)
    assert done.returncode == 0, f"{attack.__name__} ended with {done.returncode}:\n{done.stdout}\n{done.stderr}"
    return done.stdout


def limit_memory() -> None:
    taken = int(Path("/proc/self/statm").read_text(encoding="utf-8").split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (taken + MOST_MEMORY, taken + MOST_MEMORY))


def read_whole(path: Path) -> str | None:
    """Read a corpus in every way there is; return why it was refused, if it was."""
    said = None
    try:
        opened = Corpus(path)
        out = empty_sample(opened.size)
        for index in range(len(opened)):
            opened.read(index, out)
            opened.settings(index)
            opened.box(index)
    except UserError as error:
        said = str(error)
    for way in (lambda: Corpus(path, partial=True).content_hash, lambda: verify(path)):
        try:
            findings = way()
            said = said or ("; ".join(map(str, findings)) if isinstance(findings, list) else None)
        except UserError as error:
            said = said or str(error)
    if said is not None:
        assert "\n" not in said
        said.encode()  # so that it can be printed
    return said or None


# The manifest.

_SCALARS = st.one_of(
    st.none(), st.booleans(), st.integers(-2, 3), st.sampled_from([2**31, 2**40, 2**63, 2**64, 10**400, -(10**30)]),
    st.floats(), st.text(max_size=8),
    st.sampled_from(["../x", "a/b", "\ud800", "\x1b[31m", "0" * 64, "C:evil", "..\\x"]),
)  # fmt: skip
_VALUES = st.recursive(
    _SCALARS,
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(st.text(max_size=6), inner, max_size=4)),
    max_leaves=10,
)


def places_in(value, place=()):
    """Yield the place of everything in a JSON value."""
    below = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, node in below:
        yield (*place, key)
        yield from places_in(node, (*place, key))


def put(value, place, what):
    for key in place[:-1]:
        value = value[key]
    value[place[-1]] = what


def sealed_anew(content: dict) -> dict:
    """Make identity, count and seal agree with what a forger changed, as far as he can."""
    content = {key: value for key, value in content.items() if key != SEAL}
    with contextlib.suppress(Exception):
        generations = tuple(map(Generation.from_json, content["generations"]))
        blocks = tuple(Block(tuple(map(tuple, block["draws"]))) for block in content["blocks"])
        plain = [content[key] for key in ("layout", "size", "shard_size", "region", "statistics")]
        made = Manifest(*plain, tuple(content["sources"]), generations, blocks)
        content |= {"identity": made.identity, "samples": len(made)}
    return seal(content)


def write_manifest(path: Path, attributes: dict) -> None:
    (path / COPY).write_bytes(to_bytes(attributes))
    (path / ROOT).write_bytes(to_bytes({"zarr_format": 3, "node_type": "group", "attributes": attributes}))


def attack_manifest(folder: str) -> None:
    """Put any value into any place of a manifest, and seal it anew."""
    path = Path(folder)
    original = json.loads((path / COPY).read_bytes())
    places = list(places_in(original))

    @quickly
    @given(st.lists(st.tuples(st.integers(0, len(places) - 1), _VALUES), min_size=1, max_size=3), st.booleans())
    def attack(changes, anew):
        content = copy.deepcopy(original)
        for place, value in changes:
            with contextlib.suppress(KeyError, IndexError, TypeError):  # a change before took the place away
                put(content, places[place], value)
        write_manifest(path, sealed_anew(content) if anew else content)
        read_whole(path)

    attack()


def test_any_value_in_any_place_of_the_manifest_is_refused_or_read(corpus, tmp_path):
    with nothing_beside(tmp_path, "corpus.zarr"):
        in_a_process(attack_manifest, corpus)


def test_a_manifest_that_announces_more_than_there_is_takes_no_memory(corpus):
    in_a_process(attack_sizes, corpus)


def attack_sizes(folder: str) -> None:
    path = Path(folder)
    original = json.loads((path / COPY).read_bytes())
    first = original["generations"][0]
    nested: dict = {}
    for _ in range(400):
        nested = {"": nested}
    attacks: list[dict] = [
        *({"shard_size": size, "blocks": [{"samples": n, "draws": [[0, 0, n]]}]}
          for size in (1, 3, 2**16) for n in (2**40, 10**8, 10**6)),
        {"shard_size": 3, "blocks": [{"samples": 2**40, "draws": [[0, 2**63, 2**40]]}]},
        {"blocks": [{"samples": 5, "draws": [[0, 0, 1]] * 5}] * 1000},
        {"size": 1024}, {"size": 1025}, {"size": 0}, {"size": -16}, {"size": 16.0}, {"size": True},
        {"shard_size": 0}, {"shard_size": 2**40}, {"shard_size": 1e9},
        {"generations": [first | {"settings": first["settings"] | {"more": nested}}]},
        {"generations": [first | {"sources": [0, 0]}]}, {"generations": [first | {"sources": [10**400]}]},
        {"generations": [first | {"seed": 10**5000 if sys.version_info < (3, 11) else 10**4000}]},
        {"sources": original["sources"] * 2}, {"sources": []}, {"layout": "dense"}, {"statistics": {}},
        {"sources": [source | {"mean": float("nan")} for source in original["sources"]]},
        {"sources": [source | {"spacing_mm": [1e-300] * 3} for source in original["sources"]]},
        {"sources": [source | {"name": "\ud800"[:1] + str(n)} for n, source in enumerate(original["sources"])]},
    ]  # fmt: skip
    for change in attacks:
        write_manifest(path, sealed_anew(original | change))
        assert read_whole(path), f"{str(change)[:80]} is not noticed"
    for content in (b"[" * 10**6, b"{" * 10**6, b'{"a":' * 10**5, b"\xff\xfe", b"", b"null", b"1" * 10**6):
        (path / ROOT).write_bytes(content)
        (path / COPY).write_bytes(content)
        assert read_whole(path)


# The files.


def attack_bytes(folder: str) -> None:
    """Flip, cut and insert bytes in each kind of file of a corpus; its checksums stay as they are."""
    path, rng = Path(folder), random.Random(0)
    kinds = {
        (file.parent, file.suffix, "zarr" in file.name): file for file in sorted(path.rglob("*")) if file.is_file()
    }
    for file in kinds.values():
        if file.name == ".lock":
            continue
        content = file.read_bytes()
        for attack in range(6):
            place = rng.randrange(len(content)) if attack > 2 else (0, len(content) - 1, len(content) // 2)[attack]
            changed = bytearray(content)
            if attack % 4 < 2:
                changed[place] ^= 1 << rng.randrange(8)
            elif attack % 4 == 2:
                del changed[place:]
            else:
                changed[place:place] = rng.randbytes(rng.randrange(1, 30))
            file.write_bytes(changed)
            said = read_whole(path)
            if said is None and file.suffix == ".json":  # white space, or a digit that no number needs
                assert json.loads(bytes(changed)) == json.loads(content), file
            else:
                assert said, file
        file.write_bytes(content)
    assert read_whole(path) is None


@pytest.mark.parametrize("layout", ["layered", "dense"])
def test_a_changed_byte_anywhere_in_a_corpus_is_noticed(layout, small, tmp_path):
    shutil.copytree(small / f"{layout}.zarr", tmp_path / "corpus.zarr")
    with nothing_beside(tmp_path, "corpus.zarr"):
        in_a_process(attack_bytes, tmp_path / "corpus.zarr")


def forge(path: Path, changes: dict[str, bytes]) -> None:
    """Change files, and every receipt that names them."""
    sums = {key: {"bytes": len(c), "sha256": hashlib.sha256(c).hexdigest()} for key, c in changes.items()}
    for key, content in changes.items():
        (path / key).write_bytes(content)
    for file in (path / "receipts").glob("*.json"):
        receipt = json.loads(file.read_bytes())
        tables = receipt["files"].values() if file.name == Path(SOURCES).name else [receipt["files"]]
        for table in tables:
            table |= {key: entry for key, entry in sums.items() if key in table}
        file.write_bytes(to_bytes(seal(receipt)))


def attacked(body: bytes, rng: random.Random) -> bytes:
    """Change an encoded chunk: single bytes, mostly of its header, parts of it, or its length."""
    changed, way = bytearray(body), rng.random()
    place = rng.randrange(len(body))
    if way < 0.5:
        for _ in range(rng.choice([1, 1, 2, 4, 16])):
            at = rng.randrange(min(len(body), rng.choice([16, 32, 64, 2**30])))
            changed[at] = rng.choice([rng.randrange(256), 0, 255, changed[at] ^ 1 << rng.randrange(8)])
    elif way < 0.65:
        del changed[max(1, place) :]
    elif way < 0.8:
        changed[place:place] = rng.randbytes(rng.randrange(1, 40))
    else:
        changed[place : place + 200] = rng.randbytes(rng.randrange(1, 200))
    return bytes(changed)


def summed(body: bytes) -> bytes:
    return body + crc32c(body).to_bytes(SUM, "little")


def attack_decoders() -> None:
    """Give decoders changed chunks whose checksums are right: they decode, or are refused."""
    rng, numbers = random.Random(0), np.random.default_rng(0)
    chunks = []
    for codec, dtype, shape in (
        ("tissue", "float16", (2**15,)), ("scan", "float16", (32, 32, 32)), ("plain", "uint8", (2**15,)),
        ("plain", "float64", (26,)), ("plain", "int32", (6,)),
    ):  # fmt: skip
        array = Array("attacked", dtype, shape, shape, codec, True, (), 8)
        noise = numbers.normal(size=shape) * 10
        three = (np.zeros(shape), noise, np.where(numbers.random(shape) < 0.1, noise, 0))
        chunks += [(array, encode(array, values.astype(dtype))[:-SUM]) for values in three]
    refused = 0
    for _ in range(10_000):
        array, body = rng.choice(chunks)
        body = attacked(body, rng)
        if array.codec != "plain" and len(body) >= 16 and rng.random() < 0.8:
            body = body[:12] + struct.pack("<I", len(body)) + body[16:]  # a header that fits the length
        try:
            decode(array, summed(body))
        except UserError:
            refused += 1
    assert refused > 3000


def test_decoders_attacked_behind_right_checksums_decode_or_refuse():
    in_a_process(attack_decoders)


def bombs() -> dict[str, tuple[Array, bytes]]:
    """Return chunks that ask for more than an array holds, by what they are."""
    plain, tissue = (Array("bomb", t, (2**15,), (2**15,), c, True, (), 8) for t, c in
                     (("uint8", "plain"), ("float16", "tissue")))  # fmt: skip
    gigabyte = bytes(numcodecs.zstd.compress(bytes(2**30), 1))
    right = bytes(numcodecs.zstd.compress(bytes(2**15), 1))
    assert right[4] >> 6 == 1, "two bytes say how many there are"
    head = 5 + (0 if right[4] & 0x20 else 1)
    blosc = bytearray(numcodecs.blosc.compress(np.zeros(2**15, np.float16), b"zstd", 1, 1, 0, 2))
    other = bytes(numcodecs.blosc.compress(np.zeros(2**15, np.float16), b"lz4", 1, 1, 0, 2))

    def claiming(size: int, block: int | None = None) -> bytes:
        changed = bytearray(blosc)
        changed[4:8] = struct.pack("<I", size)
        changed[8:12] = struct.pack("<I", size if block is None else block)
        return bytes(changed)

    small = bytes([right[4] & 0x3F | 0x20]) + bytes([200])
    return {
        "zstd, a gigabyte": (plain, gigabyte),
        "zstd, a gigabyte called 32 kB": (plain, right[: head + 2] + gigabyte[gigabyte[4] >> 6 :][:8]),
        "zstd without a size": (plain, right[:4] + bytes([right[4] & 0x1F]) + right[5:]),
        "zstd with a smaller size": (plain, right[:4] + small + right[head + 2 :]),
        "zstd, two frames": (plain, right + right),
        "zstd, a frame to be skipped": (plain, struct.pack("<II", 0x184D2A50, 2**31) + right),
        "zstd, the first bytes of one": (plain, right[:6]),
        "blosc, 2 GB": (tissue, claiming(2**31 - 1)),
        "blosc, 4 GB": (tissue, claiming(2**32 - 1)),
        "blosc, no block": (tissue, claiming(2**16, 0)),
        "blosc, a block of 2 GB": (tissue, claiming(2**16, 2**31 - 1)),
        "blosc, another codec": (tissue, other),
        "blosc, its header alone": (tissue, bytes(blosc[:16])),
        "nothing": (plain, b""),
    }


def attack_with_bombs() -> None:
    for name, (array, body) in bombs().items():
        limit_memory()
        with pytest.raises(UserError):
            decode(array, summed(body))
        print(name)


def test_decompression_bombs_are_refused():
    in_a_process(attack_with_bombs)


def attack_shards(folder: str, layout: str) -> None:
    """Change chunks and indexes of shards, with right checksums and receipts."""
    path, rng = Path(folder), random.Random(0)
    manifest = load_manifest(open_store(path))
    read = 0
    for array in sample_arrays(manifest, 0).values():
        key = array.key(0)
        content = (path / key).read_bytes()
        if not array.sharded:
            for _ in range(8):
                forge(path, {key: summed(attacked(content[:-SUM], rng))})
                read += read_whole(path) is None
            forge(path, {key: content})
            continue
        length = index_bytes(array)
        body = content[:-length]
        index = np.frombuffer(content[-length:-SUM], "<u8").reshape(-1, 2)
        there = np.flatnonzero(index[:, 0] != 2**64 - 1)
        odd = [0, 1, SUM, SUM + 1, len(body), len(body) - 1, len(content), 2**31, 2**32, 2**63, 2**64 - 2, 2**64 - 1]
        for _ in range(8):
            changed = index.copy()
            for _ in range(rng.choice([1, 1, 3])):
                changed[rng.choice(there), rng.randrange(2)] = rng.choice(odd)
            forge(path, {key: body + encode_index(changed)})
            read += read_whole(path) is None
        changed = index.copy()
        changed[there] = index[there[0]]  # all in one place
        forge(path, {key: body + encode_index(changed)})
        read_whole(path)
        for _ in range(8):
            start, size = (int(number) for number in index[rng.choice(there)])
            chunk = summed(attacked(body[start : start + size - SUM], rng))
            changed = index.copy()
            changed[index[:, 0] == start] = len(body), len(chunk)
            forge(path, {key: body + chunk + encode_index(changed)})
            read += read_whole(path) is None
        for cut in (b"", content[-length:], content[1:], bytes(length), bytes(2**20)):
            forge(path, {key: cut})
            assert read_whole(path)
        forge(path, {key: content})
    assert read_whole(path) is None
    print(f"{read} of {layout} were read as intact")


@pytest.mark.parametrize("layout", ["layered", "dense"])
def test_shards_forged_with_right_checksums_are_read_or_refused(layout, small, tmp_path):
    shutil.copytree(small / f"{layout}.zarr", tmp_path / "corpus.zarr")
    with nothing_beside(tmp_path, "corpus.zarr"):
        in_a_process(attack_shards, tmp_path / "corpus.zarr", layout)


def attack_numbers(folder: str) -> None:
    """Write impossible recipes, boxes and strengths, with right checksums."""
    path = Path(folder)
    arrays = sample_arrays(load_manifest(open_store(path)), 0)
    odd = {"recipes": [np.nan, 1e308, -1], "alpha": [np.nan, np.inf, -1, 1e30],
           "box": [-1, 0, SIZE + 1, 2**31 - 1, -(2**31)]}  # fmt: skip
    for name, values in odd.items():
        array = arrays[name]
        content = (path / array.key(0)).read_bytes()
        numbers = decode(array, content).reshape(array.rows, -1)
        for column in range(numbers.shape[1]):
            for value in values:
                changed = numbers.copy()
                changed[1, column] = value
                if (changed == numbers).all():
                    continue
                forge(path, {array.key(0): encode(array, changed)})
                assert read_whole(path), (name, column, value)
        forge(path, {array.key(0): content})
    assert read_whole(path) is None


def test_impossible_numbers_behind_right_checksums_are_refused(corpus):
    in_a_process(attack_numbers, corpus)


@pytest.mark.parametrize("key", ["../../x", "/etc/passwd", "..\\x", "form/../../x", "C:/x", "form//x"])
def test_receipts_that_name_other_places_are_refused(key, corpus, tmp_path):
    (tmp_path / "x").write_text("mine")
    with nothing_beside(tmp_path, "corpus.zarr"):
        entry = {"bytes": 4, "sha256": hashlib.sha256(b"mine").hexdigest()}
        for name in ("000000.json", "sources.json", "card.json"):
            file = corpus / "receipts" / name
            before = file.read_bytes() if file.exists() else None
            receipt = json.loads(before) if before else {"files": {}}
            table = receipt["files"]["0"] if name == "sources.json" else receipt["files"]
            table[key] = entry
            file.write_bytes(to_bytes(seal(receipt)))
            assert read_whole(corpus)
            with pytest.raises(UserError):
                pack(corpus, corpus / "pack.zip")
            file.unlink() if before is None else file.write_bytes(before)
    assert read_whole(corpus) is None


def test_links_and_pipes_in_a_corpus_are_not_followed(corpus, tmp_path):
    secret = tmp_path / "secret"
    for key in ("layer/c.0.0", ROOT, COPY, "receipts/000000.json", "sources/normal/c.0.0.0.0", "box/zarr.json"):
        file = corpus / key
        file.rename(secret)
        for make in (lambda: file.symlink_to(secret), lambda: os.mkfifo(file), lambda: file.mkdir()):  # noqa: B023
            make()
            assert read_whole(corpus), key
            file.rmdir() if file.is_dir() and not file.is_symlink() else file.unlink()
        secret.rename(file)
    for folder in ("receipts", "layer", "sources"):
        (corpus / folder).rename(secret)
        (corpus / folder).symlink_to(secret, target_is_directory=True)
        assert read_whole(corpus), folder
        (corpus / folder).unlink()
        secret.rename(corpus / folder)
    assert read_whole(corpus) is None


@pytest.mark.parametrize(
    "codecs",
    [
        [{"name": "vlen-utf8"}], [{"name": "bytes"}, {"name": "numcodecs.pickle"}], [{"name": "json2"}],
        [{"name": "bytes", "configuration": {"endian": "big"}}], [],
    ],
    ids=str,
)  # fmt: skip
def test_codecs_that_a_corpus_has_not_are_refused_and_never_used(codecs, corpus):
    before = [sample.composite for sample in Corpus(corpus)]
    file = corpus / "recipes" / "zarr.json"
    file.write_text(json.dumps(json.loads(file.read_bytes()) | {"codecs": codecs, "data_type": "object"}))
    assert any("recipes/zarr.json" in str(finding) for finding in verify(corpus))
    for there, sample in zip(before, Corpus(corpus), strict=True):
        np.testing.assert_array_equal(there, sample.composite)
    with pytest.raises(StoreError, match=r"recipes/zarr\.json is missing or damaged"):
        pack(corpus, corpus / "pack.zip")


def test_metadata_that_zarr_would_believe_beside_the_manifest_is_refused(corpus, payload, tmp_path):
    """Zarr takes the metadata of arrays from the group, if it finds them there."""
    group = json.loads((corpus / ROOT).read_bytes())
    array = json.loads((corpus / "recipes" / "zarr.json").read_bytes()) | {"codecs": [{"name": "numcodecs.pickle"}]}
    more = {"consolidated_metadata": {"kind": "inline", "must_understand": False, "metadata": {"recipes": array}}}
    (corpus / ROOT).write_bytes(to_bytes(group | more))
    assert any(f"{ROOT} holds more than a manifest" in str(finding) for finding in verify(corpus))
    assert "holds more than a manifest" in refused(
        tmp_path / "p.zip", zipped(bagged({**payload, ROOT: to_bytes(group | more)})), "corpus.zarr"
    )


# Packs.


def bagged(payload: dict[str, bytes], kind: str = "corpus") -> dict[str, bytes]:
    """Return the members of a bag that holds anything, with right checksums."""

    def listed(files):
        return "".join(f"{hashlib.sha256(c).hexdigest()}  {n}\n" for n, c in sorted(files.items())).encode()

    files = {f"{PAYLOAD[kind]}{key}": content for key, content in payload.items()}
    oxum = f"{sum(map(len, payload.values()))}.{len(payload)}"
    tags = {"bagit.txt": b"BagIt-Version: 1.0\nTag-File-Character-Encoding: UTF-8\n",
            "bag-info.txt": f"Payload-Oxum: {oxum}\n".encode(), "manifest-sha256.txt": listed(files)}  # fmt: skip
    tags["tagmanifest-sha256.txt"] = listed(tags)
    return {f"{kind}/{name}": content for name, content in sorted({**files, **tags}.items())}


def zipped(members: dict[str, bytes]) -> bytes:
    """Return an archive in the one form that is read, of members with any names."""
    body, table = b"", b""
    for name, content in members.items():
        table += _entry(name, len(content), zlib.crc32(content), len(body))
        body += _local(name, len(content), zlib.crc32(content)) + content
    return body + table + _end(len(members), len(table), len(body))


@pytest.fixture(scope="module")
def payload(small) -> dict[str, bytes]:
    files = files_of(small / "layered.zarr")
    return {key: content for key, content in files.items() if key != ".lock"}


def refused(pack_file: Path, content: bytes, *beside: str) -> str:
    """Unpack an archive that must be refused; return why."""
    pack_file.write_bytes(content)
    with nothing_beside(pack_file.parent, *beside), pytest.raises(UserError) as refusal:
        unpack(pack_file, pack_file.parent / "out" / "corpus.zarr")
    assert "\n" not in str(refusal.value)
    return str(refusal.value)


def test_what_these_tests_forge_is_accepted_if_nothing_is_wrong(payload, small, tmp_path):
    (tmp_path / "p.zip").write_bytes(zipped(bagged(payload)))
    unpack(tmp_path / "p.zip", tmp_path / "corpus.zarr")
    assert files_of(tmp_path / "corpus.zarr") == payload
    assert read_whole(tmp_path / "corpus.zarr") is None


EVIL = [
    "../x", "../../x", "a/../../../x", "/etc/x", "C:evil", "..\\x", "a\\..\\x", "a//b", "a/", "./a", "a/./b", "~/x",
    ".lock", ".hidden/x", "x\n", "x\t", "x y", "CON:", "a" * 2000, "a:stream", "-x", "$(x)", "form/", "form",
]  # fmt: skip


@pytest.mark.parametrize("name", EVIL)
def test_names_that_lead_elsewhere_are_refused(name, payload, tmp_path):
    for key in (name, f"form/{name}"):
        refused(tmp_path / "p.zip", zipped(bagged({**payload, key: b"evil"})))
    members = bagged(payload)
    for key in (name, f"corpus/{name}", f"corpus/data/{name}"):
        refused(tmp_path / "p.zip", zipped(dict(sorted({**members, key: b"evil"}.items()))))


@pytest.mark.parametrize(
    "key",
    ["x", "form/c.9.0", "form/c.0.1", "notes.txt", "sources/normal/c.7.0.0.0", "receipts/000009.json", "ZARR.json",
     "Form/c.0.0", "layer/zarr.JSON", "evil.exe", "zarr.json.tmp"],
)  # fmt: skip
def test_files_that_are_no_part_of_the_corpus_are_refused(key, payload, tmp_path):
    refused(tmp_path / "p.zip", zipped(bagged({**payload, key: b"evil"})))
    card = to_bytes(seal({"files": {key: {"bytes": 4, "sha256": hashlib.sha256(b"evil").hexdigest()}}}))
    if key not in ("notes.txt",):  # which a card may hold
        refused(tmp_path / "p.zip", zipped(bagged({**payload, key: b"evil", CARD: card})))


def test_a_pack_that_lacks_a_file_or_holds_another_corpus_is_refused(payload, small, tmp_path):
    for key in payload:
        refused(tmp_path / "p.zip", zipped(bagged({k: c for k, c in payload.items() if k != key})))
        refused(tmp_path / "p.zip", zipped(bagged({**payload, key: payload[key] + b"\0"})))
    dense = files_of(small / "dense.zarr")
    refused(tmp_path / "p.zip", zipped(bagged({**payload, ROOT: dense[ROOT]})))
    refused(tmp_path / "p.zip", zipped(bagged({**payload, ROOT: dense[ROOT], COPY: dense[COPY]})))
    for missing in ("bagit.txt", "bag-info.txt", "manifest-sha256.txt", "tagmanifest-sha256.txt"):
        refused(tmp_path / "p.zip", zipped({n: c for n, c in bagged(payload).items() if n != f"corpus/{missing}"}))


def test_a_changed_byte_anywhere_in_a_pack_is_noticed(payload, tmp_path):
    content, rng = zipped(bagged(payload)), random.Random(0)
    table = content.rindex(b"PK\5\6")
    places = [*range(60), *range(table - 150, len(content)), *rng.sample(range(len(content)), 100)]
    for place in places:
        changed = bytearray(content)
        changed[place] ^= 1 << rng.randrange(8)
        refused(tmp_path / "p.zip", bytes(changed))
    for place in [0, 1, 21, 22, len(content) - 1, *rng.sample(range(len(content)), 40)]:
        refused(tmp_path / "p.zip", content[:place])
        refused(tmp_path / "p.zip", content[:place] + rng.randbytes(rng.randrange(1, 100)) + content[place:])
    refused(tmp_path / "p.zip", content + content)


def test_archives_in_any_other_form_are_refused(payload, tmp_path):
    """What other programs write, and what only an attacker would."""
    members = bagged(payload)
    file = tmp_path / "p.zip"

    def written(change=lambda info: None, method=zipfile.ZIP_STORED, more=(), comment=b""):
        with zipfile.ZipFile(file, "w", method) as archive, warnings.catch_warnings():
            warnings.simplefilter("ignore")  # a name that is there twice
            for name, content in [*members.items(), *more]:
                info = zipfile.ZipInfo(name, (1980, 1, 1, 0, 0, 0))
                info.compress_type = method
                change(info)
                archive.writestr(info, content)
            archive.comment = comment
        return file.read_bytes()

    def link(info):
        info.create_system, info.external_attr = 3, 0o120777 << 16

    assert "is compressed" in refused(file, written(method=zipfile.ZIP_DEFLATED))
    refused(file, written(method=zipfile.ZIP_BZIP2))
    assert "is a link" in refused(file, written(link))
    refused(file, written(comment=b"PK\5\6" + bytes(18)))
    refused(file, written(more=[("corpus/data/folder/", b"")]))
    refused(file, written(more=[(f"corpus/{PAYLOAD['corpus']}{ROOT}", b"{}")]))
    refused(file, b"#!/bin/sh\n" + zipped(members))
    refused(file, written(more=[("corpus/data/bomb", bytes(2**26))], method=zipfile.ZIP_DEFLATED))


def test_members_that_overlap_or_lie_about_their_size_are_refused(payload, tmp_path):
    members, file = bagged(payload), tmp_path / "p.zip"
    names = list(members)
    for size in (0, 1, 2**31, 2**32 - 1, 2**32, 2**40, 2**63, 2**64 - 1):
        for offset in (0, 1, 2**32 - 1, 2**40, 2**63):
            body, table = b"", b""
            for number, (name, content) in enumerate(members.items()):
                crc, lies = zlib.crc32(content), number == len(names) // 2
                table += _entry(name, size if lies else len(content), crc, offset if lies else len(body))
                body += _local(name, size if lies else len(content), crc) + content
            refused(file, body + table + _end(len(members), len(table), len(body)))
            if size + offset < 2**64:
                refused(file, body + table + _end(len(members), size, offset))
            refused(file, body + table + _end(size, len(table), len(body)))
    quine = _local(names[0], 100, 0) + bytes(100)
    table = b"".join(_entry(f"{names[0]}{n:06d}", 100, 0, 0) for n in range(1000))
    refused(file, quine + table + _end(1000, len(table), len(quine)))


def attack_with_many_members(folder: str) -> None:
    path = Path(folder)
    original = json.loads((path / "payload" / COPY).read_bytes())
    payload = files_of(path / "payload")
    many = {f"form/c.{number}.0": b"" for number in range(100_000)}
    announcing = original | {"shard_size": 1, "blocks": [{"samples": 10**6, "draws": [[0, 0, 10**6]]}]}
    write_manifest(path / "payload", sealed_anew(announcing))
    limit_memory()
    for files in ({**payload, **many}, {**files_of(path / "payload"), **many}):
        (path / "p.zip").write_bytes(zipped_quickly(bagged(files)))
        try:
            unpack(path / "p.zip", path / "out.zarr")
        except UserError:
            continue
        raise AssertionError("many members were unpacked")


def zipped_quickly(members: dict[str, bytes]) -> bytes:
    at, body, table = 0, [], []
    for name, content in members.items():
        table.append(_entry(name, len(content), zlib.crc32(content), at))
        body += [_local(name, len(content), zlib.crc32(content)), content]
        at += len(body[-2]) + len(content)
    return b"".join([*body, *table, _end(len(members), sum(map(len, table)), at)])


def test_a_hundred_thousand_members_take_neither_memory_nor_time(corpus, tmp_path):
    corpus.rename(tmp_path / "payload")
    with nothing_beside(tmp_path, "payload", "p.zip"):
        in_a_process(attack_with_many_members, tmp_path)


@quickly
@given(st.binary(max_size=300), st.sampled_from([b"", b"PK\3\4", b"PK\5\6"]), st.booleans())
def test_any_bytes_are_no_pack(tmp_path_factory, content, magic, end):
    file = tmp_path_factory.getbasetemp() / "any.zip"
    file.write_bytes(magic + content + (_end(1, len(content), len(magic)) if end else b""))
    for read in (Recipes, lambda path: unpack(path, "out.zarr")):
        with pytest.raises(UserError):
            read(file)


# Packs of recipes.


def recipes_of(manifest: bytes, table: bytes, digests: bytes, **header) -> bytes:
    """Return a pack of recipes of any parts."""
    identity = json.loads(manifest)["identity"]
    told = {"format": FORMAT, "version": VERSION, "identity": identity, "columns": list(COLUMNS)} | header
    files = {COPY: manifest, "recipes.json": to_bytes(seal(told)), "recipes.bin": table, "receipts.bin": digests}
    return zipped(bagged(files, "recipes"))


def encoded(rows: np.ndarray) -> bytes:
    content = encode_recipes(rows)
    return struct.pack("<Q", len(content)) + content


def try_recipes(file: Path, content: bytes, sources: Path) -> str:
    """Make a corpus from forged recipes; say what came of it."""
    file.write_bytes(content)
    _opened.cache_clear()  # a worker opens a pack once
    out = file.parent / "made.zarr"
    try:
        recipes = Recipes(file)
        for shard in range(min(2, recipes.manifest.shard_count)):
            check_rows(recipes.manifest, shard, recipes.rows(shard), str(file))
        outcome, found = rehydrate(file, sources, out, workers=0)
    except UserError as error:
        str(error).encode()
        return "refused"
    finally:
        shutil.rmtree(out, ignore_errors=True)
    for reason in outcome.failed.values():
        assert "Error" not in reason, reason
        assert str(file) in reason, f"refused by accident: {reason}"
    return "failed" if outcome.failed else "differs" if found.differing else "same"


def attack_recipes(folder: str) -> None:
    """Forge recipes: impossible numbers, settings that allow them, and parts that are not what they say."""
    path, rng = Path(folder), random.Random(0)
    sources, file = path / "sources.zarr", path / "forged.zip"
    corpus = Corpus(path / "layered.zarr")
    manifest, rows = corpus.manifest.files()[COPY], corpus.recipes
    digests = b"".join(
        bytes.fromhex(r.content) + hashlib.sha256(r.to_bytes()).digest() for _, r in sorted(corpus.receipts.items())
    )
    assert try_recipes(file, recipes_of(manifest, encoded(rows), digests), sources) == "same"

    for name in COLUMNS[1:]:
        for value in [-1, 0, 7, 2**31, 2**52] + [np.nan, np.inf, 1e308, -1e308, 5e-324] * (name not in WHOLE):
            changed = rows.copy()
            changed[2, COLUMNS.index(name)] = value
            came = try_recipes(file, recipes_of(manifest, encoded(changed), digests), sources)
            harmless = name == "tries" or (changed == rows).all()
            assert came in ("refused", "failed", "differs") or harmless, (name, value)

    whole = encoded(rows)
    for _ in range(60):
        table = attacked(whole, rng) if rng.random() < 0.5 else whole[:8] + attacked(whole[8:], rng)
        try_recipes(file, recipes_of(manifest, table, digests), sources)
    for table, sums in (
        (b"", digests), (whole, b""), (whole, digests[:-1]), (whole, digests * 2), (whole[:7], digests),
        (struct.pack("<Q", 2**64 - 1) + whole[8:], digests), (encoded(rows[:4]), digests),
        (encoded(np.tile(rows, (9, 1))), digests),
    ):  # fmt: skip
        assert try_recipes(file, recipes_of(manifest, table, sums), sources) == "refused" or sums is digests
    for header in ({"version": 3}, {"version": "\x1b"}, {"columns": []}, {"identity": 1}, {"format": None}):
        assert try_recipes(file, recipes_of(manifest, whole, digests, **header), sources) == "refused"

    limit_memory()
    content = json.loads(manifest)
    for change, numbers in (
        ({"shape": {"volume_mm3": [1, 1e8]}}, {"volume_mm3": 1e8, "drawn_volume_mm3": 1e8}),
        ({"shape": {"axis_ratio": [1e-300, 1]}}, {"axis_ratio": 1e-300}),
        ({"shape": {"axis_ratio": [1e-3, 1]}}, {"axis_ratio": 1e-3}),
        ({"blur": {"sigma_mm": [0, 100]}}, {"sigma_mm": 100}),
        (
            {"mask": {"least_kept": 1e-300}, "linear": {"reference": "mask"}},
            {"centre_z": 0, "centre_y": 0, "centre_x": 0},
        ),
        ({"elastic": {"mask": True, "max_displacement_mm": 1000}}, {"centre_z": 0}),
        ({"linear": {"ratio": [[-1e308, 1e308]]}}, {"ratio": 1e308}),
        ({"linear": {"ratio": [[-1e308, 1e308]]}}, {"ratio": -1e308}),
        ({"donor": {"shift": 1024}}, {"shift_z": -1024, "shift_y": 1024}),
        ({"mask": {"soft_mm": 100}}, {}),
        ({"shape": {"amplitude": 0.999999, "octaves": [1, 12]}}, {"octaves": 12, "volume_mm3": 0.0011}),
    ):
        forged = copy.deepcopy(content)
        for part, changes in change.items():
            forged["generations"][0]["settings"][part] |= changes
        changed = rows.copy()
        for name, value in numbers.items():
            changed[:, COLUMNS.index(name)] = value
        with np.errstate(all="ignore"), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            came = try_recipes(file, recipes_of(to_bytes(sealed_anew(forged)), encoded(changed), digests), sources)
        assert came in ("refused", "failed", "differs"), (change, came)
    for size, samples in ((1, 2**40), (3, 10**8), (2**16, 2**40)):
        forged = sealed_anew(
            content | {"shard_size": size, "blocks": [{"samples": samples, "draws": [[0, 0, samples]]}]}
        )
        assert try_recipes(file, recipes_of(to_bytes(forged), whole, digests), sources) == "refused"
    forged = sealed_anew(content | {"shard_size": 2**16, "blocks": [{"samples": 2**16, "draws": [[0, 2**63, 2**16]]}]})
    assert try_recipes(file, recipes_of(to_bytes(forged), whole, digests[:64]), sources) in ("refused", "failed")


def test_forged_recipes_are_refused_or_make_what_is_told_from_the_original(small, tmp_path):
    shutil.copytree(small, tmp_path / "lab")
    with nothing_beside(tmp_path, "lab"):
        in_a_process(attack_recipes, tmp_path / "lab")


def test_a_pack_of_recipes_of_an_earlier_form_is_refused_in_a_sentence(small, tmp_path):
    manifest = (small / "layered.zarr" / COPY).read_bytes()
    (tmp_path / "r.zip").write_bytes(recipes_of(manifest, b"", bytes(128), version=1))
    with pytest.raises(StoreError, match=r"holds recipes of version 1, this program reads 2; .* wrote them$"):
        Recipes(tmp_path / "r.zip")


def test_a_changed_byte_anywhere_in_a_pack_of_recipes_is_noticed(small, tmp_path):
    file = tmp_path / "r.zip"
    pack_recipes(small / "layered.zarr", file)
    content, rng = file.read_bytes(), random.Random(0)
    for place in [*range(0, len(content), 97), *rng.sample(range(len(content)), 100)]:
        changed = bytearray(content)
        changed[place] ^= 1 << rng.randrange(8)
        file.write_bytes(changed)
        with pytest.raises(UserError):
            Recipes(file)


def test_rows_are_checked_one_by_one(small):
    corpus = Corpus(small / "layered.zarr")
    assert len(list(check_rows(corpus.manifest, 0, corpus.recipes[:3], "here"))) == 3
    changed = corpus.recipes[:3].copy()
    changed[1, COLUMNS.index("alpha")] = 0.99
    with pytest.raises(StoreError, match=r"here: sample 1: .*alpha is out of range"):
        check_rows(corpus.manifest, 0, changed, "here")
    with pytest.raises(StoreError, match="here: sample 0: recipe: it is that of index 3, not 0"):
        check_rows(corpus.manifest, 0, corpus.recipes[3:6], "here")


def main() -> None:
    warnings.simplefilter("ignore", RuntimeWarning)
    os.fsync = lambda descriptor: None  # nothing here must outlive a crash
    if sys.argv[1] not in ("attack_with_bombs", "attack_with_many_members", "attack_recipes"):  # which limit themselves
        limit_memory()
    globals()[sys.argv[1]](*sys.argv[2:])
