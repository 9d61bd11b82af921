"""Receipts: what was written for one shard. A shard without a valid receipt does not exist."""

import contextlib
import hashlib
import re
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from scans.errors import StoreError
from scans.image.box import ends_of, tight_box
from synth.corpus.codec import index_bytes
from synth.corpus.layout import sample_arrays
from synth.corpus.manifest import Manifest
from synth.store.base import Readable
from synth.store.sealed_json import MOST_BYTES, check_seal, parse, seal, to_bytes
from synth.tumour.sample import Tumour

FOLDER = "receipts"
SOURCES = f"{FOLDER}/sources.json"
CARD = f"{FOLDER}/card.json"
_MOST_BYTES = 2**20
_KEY = re.compile(rf"{FOLDER}/([0-9]{{6,18}})\.json")
_SHA256 = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True)
class Receipt:
    """What was written for one shard; it exists only once every file of the shard is safely in the store.

    Attributes
    ----------
    shard : int
        Number of the shard.
    samples : int
    identity : str
        Hash of what decides its samples, see `Manifest.shard_identity`.
    files : dict
        ``{key inside the store: {"bytes": int, "sha256": str}}``.
    content : str
        SHA-256 over what the samples hold, whatever the layout and a compressor's version.
    """

    shard: int
    samples: int
    identity: str
    files: dict[str, dict[str, Any]]
    content: str

    def to_bytes(self) -> bytes:
        """Return the receipt as a sealed JSON file."""
        return to_bytes(seal(asdict(self)))

    @classmethod
    def from_bytes(cls, content: bytes, where: str) -> "Receipt":
        """Read a receipt; raise StoreError if it is not what `to_bytes` writes."""
        fields = check_seal(parse(content, where), where)
        try:
            receipt = cls(**fields)
            numbers = (receipt.shard, receipt.samples)
            texts = (receipt.identity, receipt.content)
            sound = all(isinstance(n, int) for n in numbers) and all(map(_SHA256.fullmatch, texts))
            sound = sound and is_file_list(receipt.files)
        except (TypeError, AttributeError):
            sound = False
        if not sound:
            raise StoreError(f"{where} is no receipt")
        return receipt


def is_file_list(files: Any) -> bool:
    """Say whether a value maps keys to sizes and checksums."""
    return isinstance(files, dict) and all(
        isinstance(entry, dict)
        and set(entry) == {"bytes", "sha256"}
        and isinstance(entry["bytes"], int)
        and 0 <= entry["bytes"] < 2**50
        and isinstance(entry["sha256"], str)
        and _SHA256.fullmatch(entry["sha256"]) is not None
        for entry in files.values()
    )


def is_own(manifest: Manifest, receipt: Receipt) -> bool:
    """Say whether a receipt is of the shard that a manifest describes, and names its files and no others."""
    arrays = {array.key(receipt.shard): array for array in sample_arrays(manifest, receipt.shard).values()}
    count = len(manifest.indices(receipt.shard))
    identity = manifest.shard_identity(receipt.shard)
    if (receipt.identity, receipt.samples, set(receipt.files)) != (identity, count, set(arrays)):
        return False
    # No file is shorter than its index, so that what a corpus announces costs those who announce it.
    return all(receipt.files[key]["bytes"] >= index_bytes(a) for key, a in arrays.items() if a.sharded)


def bytes_of(receipt: Receipt) -> int:
    """Return the bytes of a shard's files."""
    return sum(int(entry["bytes"]) for entry in receipt.files.values())


def content_hash(identity: str, receipts: Mapping[int, Receipt]) -> str:
    """Return the SHA-256 over a corpus's identity and the content of each of its shards that is there."""
    digest = hashlib.sha256(identity.encode())
    for shard in sorted(receipts):
        digest.update(receipts[shard].content.encode())
    return digest.hexdigest()


def receipt_key(shard: int) -> str:
    """Return where the receipt of a shard lies in the store."""
    return f"{FOLDER}/{shard:06d}.json"


def read_receipt(store: Readable, manifest: Manifest, shard: int) -> Receipt | None:
    """Read the receipt of one shard; None if it is missing, damaged or of another."""
    key = receipt_key(shard)
    try:
        receipt = Receipt.from_bytes(store.read(key, _MOST_BYTES), key)
    except (FileNotFoundError, StoreError):
        return None
    return receipt if receipt.shard == shard and is_own(manifest, receipt) else None


def read_receipts(store: Readable, shards: Iterable[int]) -> dict[int, Receipt]:
    """Read receipts of a corpus; one that is missing, damaged or of another shard counts as absent."""
    wanted = shards if isinstance(shards, range) else set(shards)
    keys = {}
    for key in store.sizes(FOLDER):  # a manifest may announce more shards than anyone has made
        number = _KEY.fullmatch(key)
        if number is not None and receipt_key(shard := int(number[1])) == key and shard in wanted:
            keys[key] = shard
    receipts = {}
    for key, content in store.read_many(keys, _MOST_BYTES).items():
        try:
            receipt = Receipt.from_bytes(content, key)
        except StoreError:
            continue
        if receipt.shard == keys[key]:
            receipts[receipt.shard] = receipt
    return receipts


def sample_digest(normal: bytes, before: np.ndarray, tumour: Tumour) -> bytes:
    """Return the SHA-256 of a sample's content, whatever box its tumour is given in.

    Over the digest of its normal, and over the smallest box that holds the mask and each voxel whose bits differ
    between composite and normal: its six ends (z, y, x; first, one past the last; int32), then composite, texture
    and mask in it, all C order and little endian. Nothing but the normal if there is no such voxel.

    Parameters
    ----------
    normal : bytes
        SHA-256 of the whole normal, float16, C order.
    before : ndarray of float16
        The normal in the tumour's box.
    tumour : Tumour
    """
    changed = (tumour.composite.view(np.uint16) != before.view(np.uint16)).view(np.uint8) | tumour.mask
    digest = hashlib.sha256(normal)
    if not changed.any():
        return digest.digest()
    tight = tight_box(changed)
    z, y, x = (slice(i.start + o.start, i.stop + o.start) for i, o in zip(tight, tumour.box, strict=True))
    digest.update(ends_of((z, y, x)).astype("<i4").tobytes())
    for values in (tumour.composite, tumour.texture, tumour.mask):
        digest.update(np.ascontiguousarray(values[tight]).data)
    return digest.digest()


Sums = dict[str, dict[str, dict[str, int | str]]]  # by a source's position: by key: bytes and sha256


def sources_receipt(manifest: Manifest, sums: Sums) -> bytes:
    """Return the receipt of the sources: sizes and checksums of the files of each position."""
    return to_bytes(seal({"identity": manifest.sources_identity, "files": sums}))


def source_sums(store: Readable, manifest: Manifest) -> Sums:
    """Read the receipt of the sources.

    Raises
    ------
    StoreError
        If it is missing, damaged or of another corpus.
    """
    where = f"{store}/{SOURCES}"
    try:
        content = check_seal(parse(store.read(SOURCES, MOST_BYTES), where), where)
    except FileNotFoundError as error:
        raise StoreError(f"{where} is missing; synth repair writes it again") from error
    files = content.get("files")
    if not isinstance(files, dict) or not all(map(is_file_list, files.values())):
        raise StoreError(f"{where} is no receipt; synth repair writes it again")
    if content.get("identity") != manifest.sources_identity:
        raise StoreError(f"{where} belongs to another corpus; synth repair writes it again")
    return files


def known_files(store: Readable, manifest: Manifest, receipts: Mapping[int, Receipt]) -> dict[str, dict[str, Any]]:
    """Return what each file of a corpus must be; a file that no receipt knows is left out."""
    known: dict[str, dict[str, Any]] = {}
    with contextlib.suppress(StoreError):
        for files in source_sums(store, manifest).values():
            known |= files
    for receipt in receipts.values():
        known |= receipt.files
    return known


def check_sizes(store: Readable, receipts: Mapping[int, Receipt]) -> None:
    """Stop at a missing or truncated file: Zarr itself would read it as zeros, without an error."""
    sizes = store.sizes()
    for receipt in receipts.values():
        for key, entry in receipt.files.items():
            if sizes.get(key, -1) != entry["bytes"]:
                found = f"has {sizes[key]} bytes instead of {entry['bytes']}" if key in sizes else "is missing"
                raise StoreError(f"{store}/{key} {found}; the command that made it, run again, mends it")


def sum_of(content: bytes) -> dict[str, int | str]:
    """Return what a receipt says of a file."""
    return {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
