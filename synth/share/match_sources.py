"""Match: which sources of a corpus a store here holds, and what is wrong with each of the others."""

import re
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError

from scans.catalog.region import Region
from scans.catalog.settings import one_line
from scans.errors import StoreError
from synth.corpus.manifest import Manifest
from synth.corpus.manifest_checks import STEERING
from synth.sources.format import settings_sha256
from synth.sources.reader import SourceStore

_NOT_SHOWN = re.compile(rf"[\t\n{STEERING}\ud800-\udfff]")  # what a terminal would obey, or cannot show


@dataclass(frozen=True)
class Unmatched:
    """A source of the corpus that the store here does not hold.

    Attributes
    ----------
    name : str
        In the corpus.
    outcome : {"differs", "lacks"}
        Something like it is there, or nothing.
    reason : str
        In a sentence.
    """

    name: str
    outcome: str
    reason: str


def unmatched(manifest: Manifest, store: SourceStore) -> list[Unmatched]:
    """Say which sources of a corpus a store does not hold, whatever it calls them, and what is wrong with each."""
    entries = [store.provenance(name) for name in store.names]
    by_scan = {digest: entry for entry in entries for role, _, digest in _files(entry) if role == "image"}
    by_case = {(entry["dataset"], entry["case"]): entry for entry in entries}
    missing = []
    for source in manifest.sources:
        if store.named(source["content_sha256"]) is not None:
            continue
        files = _files(source)
        same_scan = next((by_scan[digest] for role, _, digest in files if role == "image" and digest in by_scan), None)
        same_case = by_case.get((source["dataset"], source["case"]))
        name = str(source["name"])
        if same_scan is not None:
            why = _prepared_otherwise(manifest, store, same_scan, files)
            missing.append(Unmatched(name, "differs", f"the scan is there as {same_scan['name']}, {why}"))
        elif same_case is not None:
            missing.append(Unmatched(name, "differs", _another_scan(same_case, files)))
        else:
            said = "; ".join(f"{role} {file}, SHA-256 {digest}" for role, file, digest in files) or "files not recorded"
            reason = f"nothing like it is in {store.path}: dataset {source['dataset']}, case {source['case']} ({said})"
            missing.append(Unmatched(name, "lacks", _printable(reason)))
    return missing


def _prepared_otherwise(
    manifest: Manifest, store: SourceStore, entry: dict[str, Any], files: list[tuple[str, str, str]]
) -> str:
    if store.size != manifest.size:
        return f"but prepared to {store.size} voxels a side, not {manifest.size}; prepare it with the pack's settings"
    if masks := sorted(role for role, _, _ in set(files) ^ set(_files(entry)) if role != "image"):
        return _printable(f"but its {masks[0]} mask is another file; take the one of the corpus")
    if entry.get("settings_sha256") != settings_sha256(region_of(manifest), manifest.size):
        return "but prepared with other settings of the region; prepare it with the pack's"
    return "prepared with the same settings, but its voxels differ: another version of SimpleITK, or another machine"


def _another_scan(entry: dict[str, Any], files: list[tuple[str, str, str]]) -> str:
    here = {role: digest for role, _, digest in _files(entry)}
    for role, name, digest in files:
        if role == "image" and role in here:
            said = f"{entry['name']} is there, but made of another scan: its file has SHA-256 {here[role]}, "
            return _printable(f"{said}that of the corpus ({name}) {digest}")
    return f"{entry['name']} is there, but its content differs; where it came from is not recorded"


def _files(entry: dict[str, Any]) -> list[tuple[str, str, str]]:
    """Return (role, name, SHA-256) of the files a source was made of, as far as they are recorded."""
    listed = entry.get("files")
    found = []
    for file in listed if isinstance(listed, list) else []:
        told = tuple(file.get(key) if isinstance(file, dict) else None for key in ("role", "name", "sha256"))
        if all(isinstance(text, str) for text in told):
            found.append((_printable(str(told[0])), _printable(str(told[1])), str(told[2])))
    return found


def _printable(text: str) -> str:
    """Return a stranger's text without what would steer a terminal."""
    return _NOT_SHOWN.sub("?", text)


def region_of(manifest: Manifest) -> Region:
    """Return the region that a manifest records.

    Raises
    ------
    StoreError
        If it is none that this release knows.
    """
    try:
        return Region.model_validate(manifest.region)
    except ValidationError as error:
        told = one_line(error)[:300]
        raise StoreError(f"the corpus's region does not fit this release of layered-tumors ({told})") from error
