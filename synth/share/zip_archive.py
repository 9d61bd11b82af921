"""Archive: many files in one, none compressed: ZIP with 64-bit sizes, in the one form that is written here.

Of a member only its name, size and checksum are believed. Every other byte of an archive follows from these and is
compared, so members cannot overlap, hide behind each other, be links or compressed, or share a name.
"""

import contextlib
import hashlib
import os
import re
import stat
import struct
import uuid
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from scans.durable import sync
from scans.errors import StoreError
from synth.store.base import check_key
from synth.store.folder import Opened

_PART = 2**24  # bytes of a member in memory at once
_FULL = 2**32 - 1  # of a 32-bit field whose number stands in a 64-bit one
_MANY = 2**16 - 1  # likewise, of the number of members
_DATE = 1 << 5 | 1  # the first day that a ZIP knows, so that equal files make equal archives
_MODE = (stat.S_IFREG | 0o644) << 16
_VERSION = 45  # of the form that knows 64-bit sizes
_HEAD = struct.Struct("<4s6H3I5H2I")  # of an entry of the table of contents
_END = struct.Struct("<4s4H2IH")
_WIDE_END, _LOCATOR = struct.Struct("<4sQ2H2I4Q"), struct.Struct("<4sIQI")
_MOST_MEMBERS = 2**24
_LONGEST_NAME = 1024
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._+-]*(/[A-Za-z0-9_][A-Za-z0-9._+-]*)*")


@dataclass(frozen=True)
class Member:
    """One file of an archive: where its bytes begin, how many there are, and their CRC-32."""

    start: int
    size: int
    crc: int


class Packing:
    """Writes an archive under a temporary name; use as a context, which leaves nothing behind if it fails.

    Parameters
    ----------
    path : Path
        Local.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._temporary = path.with_name(f".{path.name[:100]}.{uuid.uuid4().hex}.tmp")
        self._file = self._temporary.open("wb")
        self._members: list[tuple[str, Member, int]] = []  # with where the member's header begins
        self._at = 0

    def __enter__(self) -> "Packing":
        return self

    def __exit__(self, *_: object) -> None:
        """Remove what was not committed."""
        with contextlib.suppress(OSError):  # on a full disk, closing fails too
            self._file.close()
        with contextlib.suppress(OSError):
            self._temporary.unlink()

    def add(self, name: str, size: int, parts: Iterable[bytes]) -> str:
        """Append a file; names come in order.

        Parameters
        ----------
        name : str
        size : int
            Of the whole file.
        parts : iterable of bytes

        Returns
        -------
        str
            Its SHA-256, as hexadecimal digits.

        Raises
        ------
        StoreError
            If the parts are not of that size.
        """
        assert _NAME.fullmatch(name)
        assert not self._members or self._members[-1][0] < name
        header, digest, crc, written = self._at, hashlib.sha256(), 0, 0
        self._append(_local(name, size, 0))
        start = self._at
        for part in parts:
            self._append(part)
            digest.update(part)
            crc, written = zlib.crc32(part, crc), written + len(part)
        if written != size:
            raise StoreError(f"{name} changed while it was packed; run the command again")
        self._file.seek(header)
        self._file.write(_local(name, size, crc))
        self._file.seek(self._at)
        self._members.append((name, Member(start, size, crc), header))
        return digest.hexdigest()

    def finish(self) -> Path:
        """Write the table of contents; return the temporary file, to be looked at before it is committed."""
        contents = self._at
        for name, member, header in self._members:
            self._append(_entry(name, member.size, member.crc, header))
        self._append(_end(len(self._members), self._at - contents, contents))
        self._file.flush()
        return self._temporary

    def commit(self) -> None:
        """Give the archive its name, once it is safely on disk."""
        os.fsync(self._file.fileno())
        self._temporary.replace(self._path)
        sync(self._path.parent)

    def _append(self, content: bytes) -> None:
        self._at += self._file.write(content)


class Archive:
    """Reads an untrusted archive; thread-safe.

    Attributes
    ----------
    members : dict of str to Member
        By name, in order.

    Raises
    ------
    StoreError
        If it is not one that `Packing` wrote, byte by byte but for what the files hold.
    FileNotFoundError
        If nothing is there.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file = Opened(os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK))  # a pipe would wait
        if not self._file.is_file:
            raise self._refused("it is no file")
        self.members = self._contents(*self._find_contents(self._file.size))

    def read(self, name: str, most: int) -> bytes:
        """Return a member, checked against its CRC-32; StoreError if it is larger than `most`."""
        if self.members[name].size > most:
            raise self._refused(f"{name} is larger than {most} bytes")
        return b"".join(self.parts(name))

    def read_part(self, name: str, start: int, length: int) -> bytes:
        """Return bytes ``start`` to ``start + length`` of a member, unchecked; fewer at its end."""
        member = self.members[name]
        length = max(0, min(length, member.size - start))
        return self._bytes(member.start + start, length)

    def parts(self, name: str) -> Iterator[bytes]:
        """Yield a member piece by piece; StoreError at the end if its CRC-32 differs."""
        member, crc = self.members[name], 0
        for start in range(0, member.size, _PART):
            part = self.read_part(name, start, _PART)
            crc = zlib.crc32(part, crc)
            yield part
        if crc != member.crc:
            raise StoreError(f"{self.path}: {name} is damaged; get the file again from where it came from")

    def _bytes(self, start: int, length: int) -> bytes:
        content = self._file.part(start, length)
        if len(content) < length:
            raise self._refused("it became shorter")
        return content

    def _find_contents(self, size: int) -> tuple[int, int, int]:
        """Return how many members the end announces, and where their table begins and ends."""
        if size < _END.size:
            raise self._refused("it is too short")
        count, length, offset = _END.unpack(self._bytes(size - _END.size, _END.size))[4:7]
        wide = size - _END.size - _LOCATOR.size - _WIDE_END.size
        if wide >= 0 and (count == _MANY or _FULL in (length, offset)):
            count, length, offset = _WIDE_END.unpack(self._bytes(wide, _WIDE_END.size))[-3:]
        end = _end(count, length, offset) if max(count, length, offset) < 2**63 else b""
        if not end or offset + length + len(end) != size or self._bytes(offset + length, len(end)) != end:
            raise self._refused("it does not end as a pack does, and may be cut short")
        if count > _MOST_MEMBERS:
            raise self._refused(f"it holds more than {_MOST_MEMBERS} files")
        return count, offset, offset + length

    def _contents(self, count: int, start: int, stop: int) -> dict[str, Member]:
        """Read the table of contents; each member must lie where the one before it ends, and the table behind all."""
        members: dict[str, Member] = {}
        lower: set[str] = set()
        at, before = 0, ""
        with open(self._file.fileno(), "rb", closefd=False) as table:
            table.seek(start)
            for _ in range(count):
                head = table.read(_HEAD.size)
                if len(head) < _HEAD.size:
                    raise self._refused("its table of contents is cut short")
                fields = _HEAD.unpack(head)
                crc, packed, size, of_name, of_extra = fields[7:12]
                name = self._name(table.read(of_name))
                extra = table.read(of_extra)
                if fields[4] or packed != size:
                    raise self._refused(f"{name} is compressed")
                if stat.S_IFMT(fields[15] >> 16) not in (0, stat.S_IFREG):
                    raise self._refused(f"{name} is a link, and no file")
                if size == _FULL and len(extra) >= 20:
                    size = int.from_bytes(extra[4:12], "little")
                local = _local(name, size, crc)
                if head + name.encode() + extra != _entry(name, size, crc, at) or at + len(local) + size > start:
                    raise self._refused(f"{name} does not lie where it must")
                if self._bytes(at, len(local)) != local:
                    raise self._refused(f"{name} is called otherwise in its own place")
                if name <= before or name.lower() in lower:
                    raise self._refused(f"{name} stands there twice")
                members[name] = Member(at + len(local), size, crc)
                lower.add(name.lower())
                at, before = at + len(local) + size, name
            if at != start or table.tell() != stop:
                raise self._refused("it holds bytes that belong to no file")
        return members

    def _name(self, raw: bytes) -> str:
        """Return a member's name, if it leads nowhere but down, on any system."""
        name = raw.decode("ascii", "replace")
        if len(raw) > _LONGEST_NAME or not _NAME.fullmatch(name):
            raise self._refused(f"{name[:80]!r} is no name of a file in a pack")
        check_key(name)
        return name

    def _refused(self, what: str) -> StoreError:
        return StoreError(f"{self.path} is not a pack as synth pack writes it: {what}; get it again, as it was made")


def archive_bytes(files: Iterable[tuple[str, int]]) -> int:
    """Return the size of an archive of files, given by name and size."""
    at = contents = count = 0
    for name, size in files:
        contents += len(_entry(name, size, 0, at))
        at += len(_local(name, size, 0)) + size
        count += 1
    return at + contents + len(_end(count, contents, at))


def _local(name: str, size: int, crc: int) -> bytes:
    """Return what stands before a member (APPNOTE 4.3.7)."""
    extra = struct.pack("<2H2Q", 1, 16, size, size) if size >= _FULL else b""
    narrow = min(size, _FULL)
    head = struct.pack("<4s5H3I2H", b"PK\3\4", _VERSION, 0, 0, 0, _DATE, crc, narrow, narrow, len(name), len(extra))
    return head + name.encode() + extra


def _entry(name: str, size: int, crc: int, header: int) -> bytes:
    """Return a member's entry in the table of contents (APPNOTE 4.3.12); its header begins at `header`."""
    wide = ([size, size] if size >= _FULL else []) + ([header] if header >= _FULL else [])
    extra = struct.pack(f"<2H{len(wide)}Q", 1, 8 * len(wide), *wide) if wide else b""
    narrow = min(size, _FULL)
    head = _HEAD.pack(
        b"PK\1\2", 3 << 8 | _VERSION, _VERSION, 0, 0, 0, _DATE, crc, narrow, narrow, len(name), len(extra), 0, 0, 0,
        _MODE, min(header, _FULL),
    )  # fmt: skip
    return head + name.encode() + extra


def _end(count: int, length: int, contents: int) -> bytes:
    """Return what stands behind the table of contents (APPNOTE 4.3.14 to 4.3.16)."""
    narrow = min(count, _MANY)
    end = _END.pack(b"PK\5\6", 0, 0, narrow, narrow, min(length, _FULL), min(contents, _FULL), 0)
    if count < _MANY and length < _FULL and contents < _FULL:
        return end
    wide = _WIDE_END.pack(b"PK\6\6", 44, 3 << 8 | _VERSION, _VERSION, 0, 0, count, count, length, contents)
    return wide + _LOCATOR.pack(b"PK\6\7", 0, contents + length, 1) + end
