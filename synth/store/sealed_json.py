"""Sealed JSON: a description that carries the SHA-256 of itself, so that one flipped bit of it is seen."""

import hashlib
import json
from typing import Any

from scans.errors import StoreError

SEAL = "seal"
MOST_BYTES = 2**28  # of a file that is parsed as a whole
_MOST_DEEP = 50  # levels; a manifest has 8


def digest(content: Any) -> str:
    """Return the SHA-256 of a JSON value: keys sorted, no white space, ASCII."""
    return hashlib.sha256(json.dumps(content, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def seal(content: dict[str, Any]) -> dict[str, Any]:
    """Return the content with its seal: the digest of all the rest."""
    rest = {key: value for key, value in content.items() if key != SEAL}
    return {**rest, SEAL: digest(rest)}


def to_bytes(content: dict[str, Any]) -> bytes:
    """Return a JSON file, indented for people; seal what is to be sealed first."""
    return (json.dumps(content, indent=1, sort_keys=True) + "\n").encode()


def parse(content: bytes, where: str) -> dict[str, Any]:
    """Parse a JSON object from an untrusted file.

    Raises
    ------
    StoreError
        If it is no JSON object.
    """
    try:
        value = json.loads(content.decode(), parse_constant=_refuse)
        _check(value)
    except (ValueError, RecursionError) as error:
        raise StoreError(f"{where} is damaged: it is no JSON") from error
    if not isinstance(value, dict):
        raise StoreError(f"{where} is damaged: it is no JSON object")
    return value


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is no JSON")


def _check(value: Any) -> None:
    """Raise ValueError for what others would stumble over: depth, and lone surrogates, which no terminal takes."""
    level, depth = [value], 0
    while level:
        below: list[Any] = []
        for node in level:
            if isinstance(node, str):
                if not node.isascii():
                    node.encode()
            elif isinstance(node, dict):
                below += node.keys()
                below += node.values()
            elif isinstance(node, list):
                below += node
        level, depth = below, depth + 1
        if depth > _MOST_DEEP:
            raise ValueError("it is too deep")


def check_seal(content: dict[str, Any], where: str) -> dict[str, Any]:
    """Return what a sealed object holds, without the seal.

    Raises
    ------
    StoreError
        If the seal is missing or does not fit.
    """
    rest = {key: value for key, value in content.items() if key != SEAL}
    try:
        sound = content.get(SEAL) == digest(rest)
    except (ValueError, RecursionError):  # e.g. a lone surrogate
        sound = False
    if not sound:
        raise StoreError(f"{where} is damaged or was edited: its seal does not fit what it holds")
    return rest
