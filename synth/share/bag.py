"""Bags: files with a checksum each, in one archive that repositories take and check (BagIt 1.0, RFC 8493).

The archive holds one folder, the bag: its payload below ``data/``, and four tag files that say what a bag is
(``bagit.txt``), what this one holds (``bag-info.txt``), and the SHA-256 of every file (``manifest-sha256.txt``,
``tagmanifest-sha256.txt``). Nothing in it depends on the day or the machine: equal payloads make equal archives.
"""

import filecmp
import hashlib
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from scans.errors import StoreError
from scans.writing import no_folder_for
from synth.share.zip_archive import Archive, Packing, archive_bytes
from synth.store.base import Readable, check_part, too_large

CORPUS, RECIPES = "corpus", "recipes"  # the bag's folder says what is in it
PAYLOAD = {CORPUS: "data/corpus.zarr/", RECIPES: "data/"}
_BAGIT = b"BagIt-Version: 1.0\nTag-File-Character-Encoding: UTF-8\n"
_INFO, _DECLARATION, _SUMS, _TAG_SUMS = "bag-info.txt", "bagit.txt", "manifest-sha256.txt", "tagmanifest-sha256.txt"
_LINE = re.compile(r"([0-9a-f]{64})  (\S+)")
_MOST_LISTED = 2**31  # bytes of the list of checksums: more files than any archive may hold
_MOST_INFO = 2**16


@dataclass(frozen=True)
class Item:
    """A file to be packed.

    Attributes
    ----------
    key : str
        Within the payload.
    size : int
    parts : callable
        Yields its content.
    sha256 : str or None
        What a receipt says of it.
    """

    key: str
    size: int
    parts: Callable[[], Iterable[bytes]]
    sha256: str | None = None


def item_of(key: str, content: bytes) -> Item:
    """Return a file that is in memory."""
    return Item(key, len(content), lambda: (content,))


def write_bag(
    path: Path, kind: str, items: Iterable[Item], info: dict[str, str], progress: Callable[[int, int], None]
) -> bool:
    """Write a bag.

    Parameters
    ----------
    path : Path
        Local. If a file is there, it must be this very bag.
    kind : {"corpus", "recipes"}
    items : iterable of Item
    info : dict of str to str
        What ``bag-info.txt`` says beside the payload's size.
    progress : callable
        Called with (files just packed, files in all).

    Returns
    -------
    bool
        False if it was there already.

    Raises
    ------
    StoreError
        If something else is there, or an item is not what its receipt says.
    OSError
        E.g. when the disk is full; nothing is left behind.
    """
    ordered = sorted(items, key=lambda item: item.key)
    listed = [f"{PAYLOAD[kind]}{item.key}" for item in ordered]
    oxum = f"{sum(item.size for item in ordered)}.{len(ordered)}"
    told = "".join(f"{name}: {value}\n" for name, value in sorted({**info, "Payload-Oxum": oxum}.items())).encode()
    sums = {_INFO: hashlib.sha256(told).hexdigest(), _DECLARATION: hashlib.sha256(_BAGIT).hexdigest()}
    sizes = [
        (_INFO, len(told)), (_DECLARATION, len(_BAGIT)), *((n, i.size) for n, i in zip(listed, ordered, strict=True)),
        (_SUMS, len(_list(dict.fromkeys(listed, "0" * 64)))),
        (_TAG_SUMS, len(_list(dict.fromkeys([*sums, _SUMS], "0" * 64)))),
    ]  # fmt: skip
    if path.exists() and (
        not path.is_file() or path.stat().st_size != archive_bytes((f"{kind}/{n}", s) for n, s in sizes)
    ):
        raise _in_the_way(path)
    if not path.parent.is_dir():
        raise StoreError(f"--out {no_folder_for(path)}")
    with Packing(path) as archive:
        archive.add(f"{kind}/{_INFO}", len(told), (told,))
        archive.add(f"{kind}/{_DECLARATION}", len(_BAGIT), (_BAGIT,))
        payload = {}
        progress(0, len(ordered))
        for name, item in zip(listed, ordered, strict=True):
            payload[name] = archive.add(f"{kind}/{name}", item.size, item.parts())
            if item.sha256 not in (None, payload[name]):
                raise StoreError(f"{item.key} is damaged: its SHA-256 differs from the receipt; run synth verify")
            progress(1, len(ordered))
        listing = _list(payload)
        sums[_SUMS] = archive.add(f"{kind}/{_SUMS}", len(listing), (listing,))
        tags = _list(sums)
        archive.add(f"{kind}/{_TAG_SUMS}", len(tags), (tags,))
        written = archive.finish()
        if path.exists():
            if not filecmp.cmp(written, path, shallow=False):
                raise _in_the_way(path)
            return False
        archive.commit()
    return True


def _in_the_way(path: Path) -> StoreError:
    return StoreError(f"--out {path} is there, and is not this pack; choose another name, or remove it")


def _list(sums: dict[str, str]) -> bytes:
    return "".join(f"{sums[name]}  {name}\n" for name in sorted(sums)).encode()


class Bag(Readable):
    """The payload of an untrusted bag, as a store that is only read.

    Attributes
    ----------
    kind : {"corpus", "recipes"}
    sums : dict of str to str
        What the bag says is the SHA-256 of each file, by key.

    Raises
    ------
    StoreError
        If it is no bag as `write_bag` writes it.
    """

    def __init__(self, path: str | Path) -> None:
        self.where = str(path)
        self._archive = Archive(Path(path))
        first = next(iter(self._archive.members), "")
        self.kind = first.partition("/")[0]
        if self.kind not in PAYLOAD:
            raise StoreError(f"{path} is no pack of a corpus or of recipes; give a file made by synth pack")
        self._folder = f"{self.kind}/{PAYLOAD[self.kind]}"
        self._sound: dict[str, str] = {}  # by key: SHA-256, of files seen whole
        self.sums = self._check_tags()

    def _check_tags(self) -> dict[str, str]:
        """Check all that stands beside the payload; return the checksums it announces."""
        beside = {name: f"{self.kind}/{name}" for name in (_DECLARATION, _INFO, _SUMS, _TAG_SUMS)}
        payload = [name for name in self._archive.members if name.startswith(self._folder)]
        if set(self._archive.members) != {*payload, *beside.values()}:
            raise self._refused("it lacks a file of a bag, or holds others")
        most = {_SUMS: _MOST_LISTED}
        tags = {name: self._archive.read(place, most.get(name, _MOST_INFO)) for name, place in beside.items()}
        if tags[_DECLARATION] != _BAGIT:
            raise self._refused(f"{_DECLARATION} does not say so")
        sums = {name: hashlib.sha256(content).hexdigest() for name, content in tags.items() if name != _TAG_SUMS}
        if _list(sums) != tags[_TAG_SUMS]:
            raise self._refused(f"{_TAG_SUMS} does not fit the files beside it")
        said = {found[2]: found[1] for found in _LINE.finditer(tags[_SUMS].decode("ascii", "replace"))}
        if _list(said) != tags[_SUMS] or [f"{self.kind}/{name}" for name in said] != payload:
            raise self._refused(f"{_SUMS} does not list the files that are there")
        return {f"{self.kind}/{name}".removeprefix(self._folder): digest for name, digest in said.items()}

    def _refused(self, what: str) -> StoreError:
        return StoreError(f"{self.where} is not a bag as synth pack makes it: {what}; get it again, as it was made")

    def parts(self, key: str) -> Iterator[bytes]:
        """Yield a file piece by piece; FileNotFoundError if it is absent."""
        return self._archive.parts(self._member(key))

    def read(self, key: str, most: int | None = None) -> bytes:
        member = self._member(key)
        size = self._archive.members[member].size
        if most is not None and size > most:
            raise too_large(self.where, key, most)
        return self._archive.read(member, size)

    def read_part(self, key: str, start: int, length: int) -> bytes:
        check_part(self.where, key, start, length)
        return self._archive.read_part(self._member(key), start, length)

    def read_many(self, keys: Iterable[str], most: int | None = None) -> dict[str, bytes]:
        return {key: self.read(key, most) for key in keys if key in self.sums}

    def size(self, key: str) -> int:
        return self._archive.members[self._member(key)].size if key in self.sums else -1

    def sizes(self, prefix: str = "") -> dict[str, int]:
        return {key: self.size(key) for key in self.sums if not prefix or f"{key}/".startswith(f"{prefix}/")}

    def sha256(self, key: str) -> str:
        """Return a file's SHA-256; StoreError if it is not the bag's."""
        if key not in self._sound:
            digest = hashlib.sha256()
            for part in self.parts(key):
                digest.update(part)
            if digest.hexdigest() != self.sums[key]:
                raise StoreError(f"{self.where}: {key} is damaged; get the file again from where it came from")
            self._sound[key] = digest.hexdigest()
        return self._sound[key]

    def _member(self, key: str) -> str:
        if key not in self.sums:
            raise FileNotFoundError(2, "no such file in the pack", key)
        return f"{self._folder}{key}"
