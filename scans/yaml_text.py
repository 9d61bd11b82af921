"""YAML that people write: in any encoding that can be told, with merge keys, and without a key given twice."""

import codecs
from collections.abc import Hashable
from pathlib import Path
from typing import Any

import yaml

from scans.errors import CatalogError

_MERGE = "tag:yaml.org,2002:merge"
_MARKS = (  # the longer ones first: UTF-32's begins like UTF-16's
    *((codecs.BOM_UTF32_LE, "UTF-32"), (codecs.BOM_UTF32_BE, "UTF-32")),
    *((codecs.BOM_UTF16_LE, "UTF-16"), (codecs.BOM_UTF16_BE, "UTF-16")),
)
# What a value of a wrong form raises beside YAMLError: 2001-13-45, !!bool maybe, brackets a thousand deep.
_ODD_VALUES = (ValueError, TypeError, AttributeError, KeyError, RecursionError)


def read_yaml(path: Path) -> Any:
    """Read a YAML file.

    Raises
    ------
    CatalogError
        If it is no text in UTF-8, or no valid YAML.
    OSError
        If it cannot be read.
    """
    text = _decoded(path.read_bytes(), path)
    try:
        return parse_yaml(text)
    except yaml.YAMLError as error:
        raise CatalogError(f"{path} is not valid YAML: {_said(error)}") from error


def _said(error: yaml.YAMLError) -> str:
    """Say in one line what is wrong, and in which line of the file."""
    mark = getattr(error, "problem_mark", None) or getattr(error, "context_mark", None)
    problem = getattr(error, "problem", None) or str(error).split("\n")[0]
    where = f"line {mark.line + 1}: " if mark else ""
    indent = "; indent with spaces, not tabs" if "'\\t'" in problem else ""
    return f"{where}{' '.join(problem.split())}{indent}"


def parse_yaml(text: str) -> Any:
    """Return what YAML says: plain values, lists, dictionaries.

    Raises
    ------
    YAMLError
        If it is not valid, names a type that is not plain, or gives a key twice.
    """
    try:
        return yaml.load(text, _Loader)
    except _ODD_VALUES as error:
        what = "it is nested too deep" if isinstance(error, RecursionError) else f"a value of a wrong form, {error}"
        raise yaml.YAMLError(what) from error


class _Loader(yaml.SafeLoader):
    """The safe loader, which also refuses a key given twice.

    A key beside a merge (``<<: *other``) that the merged mapping has as well is no doubling: it takes precedence.
    """

    def compose_mapping_node(self, anchor: Any) -> yaml.MappingNode:
        # Looked at before merges are put in, which repeat keys.
        node: yaml.MappingNode = super().compose_mapping_node(anchor)
        seen: set[Hashable] = set()
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode):
                continue
            name = key.value if key.tag == _MERGE else self.construct_object(key, deep=True)
            if name in seen:
                how = "; merge several as a list, <<: [*one, *two]" if key.tag == _MERGE else ""
                raise yaml.MarkedYAMLError(problem=f"{name!r} is given twice{how}", problem_mark=key.start_mark)
            seen.add(name)
        return node

    def flatten_mapping(self, node: yaml.MappingNode) -> None:
        super().flatten_mapping(node)
        # Each key once, the last to count: lists of merges of lists of merges would fill any memory.
        unique = {(k.tag, k.value) if isinstance(k, yaml.ScalarNode) else id(k): (k, v) for k, v in node.value}
        node.value = list(unique.values())


def _decoded(content: bytes, path: Path) -> str:
    """Return the text of a file in UTF-8, with or without a mark at its beginning."""
    encoding = next((name for mark, name in _MARKS if content.startswith(mark)), None) or _unmarked(content)
    if encoding:
        raise CatalogError(f"{path} is in {encoding}; save it as UTF-8")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        byte = content[error.start]
        if b"\0" in content:
            raise CatalogError(f"{path} is no text but a binary file; give a YAML file") from error
        likely = "Latin-1" if byte >= 0xA0 else "Windows-1252"  # which is Latin-1 with letters where that has none
        letter = bytes([byte]).decode("cp1252", "replace")
        raise CatalogError(
            f"{path} is not in UTF-8 but likely in {likely} (line {line} would have {letter!r}); save it as UTF-8"
        ) from error


def _unmarked(content: bytes) -> str | None:
    """Tell UTF-16 and UTF-32 without a mark by the zeros that make Latin letters of them."""
    start = content[: 2**12]
    quarter = len(start) // 4
    zeros = [start[place::4].count(0) > quarter * 0.7 for place in range(4)]
    if len(start) < 8 or not any(zeros):
        return None
    if zeros in ([True, True, True, False], [False, True, True, True]):
        return "UTF-32 without a byte order mark"
    if zeros in ([True, False, True, False], [False, True, False, True]):
        return "UTF-16 without a byte order mark"
    return None
