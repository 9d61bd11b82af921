"""Catalogs as people write them: whatever the editor, the encoding, the anchors."""

import tracemalloc

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from scans.catalog.catalog import load_catalog
from scans.catalog.synthesis import Synthesis, override
from scans.errors import CatalogError
from scans.yaml_text import parse_yaml, read_yaml
from tests.made.catalogs import ENTRY, make

TEXT = "obtain: Frag Jürgen in Köln nach den Aufnahmen.\n"


def refusal(path):
    with pytest.raises(CatalogError) as caught:
        read_yaml(path)
    assert "\n" not in str(caught.value)
    assert str(path) in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize(
    ("encoding", "told"),
    [
        ("utf-16", "is in UTF-16; save it as UTF-8"),
        ("utf-16-le", "is in UTF-16 without a byte order mark; save it as UTF-8"),
        ("utf-16-be", "is in UTF-16 without a byte order mark; save it as UTF-8"),
        ("utf-32", "is in UTF-32; save it as UTF-8"),
        ("utf-32-le", "is in UTF-32 without a byte order mark; save it as UTF-8"),
        ("latin-1", "likely in Latin-1 (line 1 would have 'ü'); save it as UTF-8"),
    ],
)
def test_a_file_in_another_encoding_is_told_which_and_what_to_do(tmp_path, encoding, told):
    path = tmp_path / "catalog.yaml"
    path.write_bytes(TEXT.encode(encoding))
    assert told in refusal(path)
    with pytest.raises(CatalogError, match="save it as UTF-8"):
        load_catalog(path)


def test_letters_that_windows_alone_has_are_told_so(tmp_path):
    path = tmp_path / "catalog.yaml"
    path.write_bytes("a: 1\nobtain: “ask”\n".encode("cp1252"))
    assert "likely in Windows-1252 (line 2 would have '“')" in refusal(path)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig"])
def test_utf8_is_read_with_a_mark_and_without(tmp_path, encoding):
    path = tmp_path / "catalog.yaml"
    path.write_bytes(TEXT.encode(encoding))
    assert read_yaml(path) == yaml.safe_load(TEXT)


MERGED = """
one: &one {a: 1, b: 2}
two: &two {b: 3, c: 4}
single: {<<: *one, b: 9}
before: {b: 9, <<: *one}
both: {<<: [*one, *two]}
nested: {<<: *two, d: {<<: *one, a: 7}}
"""


def test_merge_keys_are_read_as_everywhere_and_what_stands_beside_them_counts():
    read = parse_yaml(MERGED)
    assert read == yaml.safe_load(MERGED)
    assert read["single"] == read["before"] == {"a": 1, "b": 9}
    assert read["both"] == {"a": 1, "b": 2, "c": 4}, "of a list the first counts"
    assert read["nested"] == {"b": 3, "c": 4, "d": {"a": 7, "b": 2}}


@pytest.mark.parametrize("text", [
    "{a: 1, a: 2}", "{a: 1, 'a': 2}", "{1: x, 0x1: y}", "x: {<<: {a: 1}, b: 1, b: 2}",
    "x: &x {a: 1, a: 1}\ny: {<<: *x}",
    "a: &a {k: 1}\nb: &b {k: 2}\nx: {<<: *a, <<: *b}",
])  # fmt: skip
def test_a_key_given_twice_is_refused_also_beside_a_merge(text):
    with pytest.raises(yaml.YAMLError, match="is given twice"):
        parse_yaml(text)


KEYS = st.sampled_from("abcd")


@given(st.lists(st.dictionaries(KEYS, st.integers(0, 9)), min_size=1, max_size=4), st.dictionaries(KEYS, st.integers()))
@settings(max_examples=100, deadline=None)
def test_a_merge_equals_filling_in_what_is_lacking(merged, own):
    anchors = "".join(f"m{n}: &m{n} {each}\n" for n, each in enumerate(merged))
    beside = "".join(f"  {key}: {value}\n" for key, value in own.items())
    text = f"{anchors}x:\n  <<: [{', '.join(f'*m{n}' for n in range(len(merged)))}]\n{beside}"
    expected = dict(own)
    for each in merged:
        expected = {**each, **expected}
    assert parse_yaml(text.replace("'", ""))["x"] == expected


def test_a_dataset_may_be_told_by_how_it_differs_from_another(tmp_path):
    entry = ENTRY.replace("  mine:\n", "  mine: &mine\n")
    other = '  other:\n    <<: *mine\n    role: tumour\n    layout: {image: "{case}_t1.nii.gz"}\nregions:'
    path = tmp_path / "catalog.yaml"
    path.write_text((entry % (tmp_path, 'image: "{case}.nii.gz"')).replace("regions:", other))
    mine, other = load_catalog(path).datasets.values()
    assert (mine.role, other.role) == ("normal", "tumour")
    assert mine.citation == other.citation


@pytest.mark.parametrize("text", [
    "a: !!python/object/apply:os.getcwd []", "a: !mine b", "\tb: 1", "a:\n\t- b", "a: 2001-13-45", "a: !!bool maybe",
    "a: !!timestamp soon", "a: !!int x", "a: *nowhere", "a: [", "[" * 3000, "a: 'b", "a: b: c", "? [a]\n: b", "\x00",
    "a\x07",
    "a: 1\n---\nb: 2", f"a: {'9' * 5000}", "a: {<<: 3}", "a: {<<: [3]}", "%TAG ! x\n---\n!a b",
])  # fmt: skip
def test_whatever_is_wrong_is_one_sentence_with_the_file(tmp_path, text):
    path = tmp_path / "catalog.yaml"
    path.write_bytes(text.encode())
    assert "is not valid YAML" in refusal(path)


def test_tabs_are_told_to_be_spaces(tmp_path):
    path = tmp_path / "catalog.yaml"
    path.write_text("a:\n\t- b\n")
    told = refusal(path)
    assert "line 2: " in told
    assert told.endswith("indent with spaces, not tabs")


@pytest.mark.parametrize("form", ["{<<: [%s]}", "[%s]", "{%s}"])
def test_aliases_that_would_grow_without_bound_cost_nothing(tmp_path, form):
    lines = ["a0: &a0 {k: v}"]
    for n in range(1, 30):
        each = [f"*a{n - 1}"] * 10
        inner = ", ".join(f"k{i}: {one}" for i, one in enumerate(each)) if form == "{%s}" else ", ".join(each)
        lines.append(f"a{n}: &a{n} {form % inner}")
    text = "\n".join(lines)
    tracemalloc.start()
    assert len(parse_yaml(text)) == 30
    assert tracemalloc.get_traced_memory()[1] < 50e6
    tracemalloc.stop()
    path = tmp_path / "catalog.yaml"
    indented = "\n".join(f"  {line}" for line in lines)
    path.write_text(f"regions:\n{indented}\ndatasets: {{}}\n")
    with pytest.raises(CatalogError) as caught:
        load_catalog(path)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 20_000


def test_an_alias_of_what_it_stands_in_is_refused_in_a_sentence(tmp_path):
    path = make(tmp_path, extra="tasks: &t {loop: *t}\n")
    with pytest.raises(CatalogError) as caught:
        load_catalog(path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("value", ["2001-13-45", "!!bool maybe", "[" * 3000, "{a: 1, a: 2}"])
def test_a_setting_of_a_wrong_form_is_refused_in_a_sentence(value):
    with pytest.raises(CatalogError, match="--set alpha"):
        override(Synthesis(), [f"alpha={value}"])
