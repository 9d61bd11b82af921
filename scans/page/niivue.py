"""NiiVue, the viewer that pages carry: a copy lies in the package, so that a page needs no network."""

import base64
import functools
import gzip
import hashlib
import json
from importlib.resources import files

from scans.errors import UserError


class ViewerError(UserError):
    """The copy of NiiVue is not the one that was packaged."""


@functools.cache
def niivue_gz() -> str:
    """Return NiiVue's script, packed by gzip, in base64.

    Raises
    ------
    ViewerError
        If its checksum is not the recorded one.
    """
    packed = (files("scans") / "vendored" / "niivue.umd.js.gz").read_bytes()
    if hashlib.sha256(gzip.decompress(packed)).hexdigest() != about()["script_sha256"]:
        raise ViewerError("scans/vendored/niivue.umd.js.gz: is damaged; install the package again")
    return base64.b64encode(packed).decode()


@functools.cache
def about() -> dict[str, str]:
    """Return name, release, licence, origin and checksums, as ``scans/vendored/niivue.json`` has them."""
    known: dict[str, str] = json.loads((files("scans") / "vendored" / "niivue.json").read_bytes())
    return known


@functools.cache
def licences() -> str:
    """Return the licences of NiiVue and its parts, which ask to be with every copy, and so in every page."""
    texts = (files("scans") / "vendored" / name for name in ("niivue-licence.txt", "niivue-parts.txt"))
    return "\n\n".join(each.read_text(encoding="utf-8") for each in texts)


def niivue_policy() -> str:
    """Return what a page's security policy must allow to run the script: its hash."""
    return source_hash(bytes.fromhex(about()["script_sha256"]))


def source_hash(sha256: bytes) -> str:
    """Return a script's SHA-256 as a Content Security Policy names it."""
    return f"'sha256-{base64.b64encode(sha256).decode()}'"
