"""The site of the pages: what its menu has, and where links lead. `make docs` builds it, and fails on broken links."""

import re
import runpy
from types import SimpleNamespace

from tests.house.test_docs import ROOT

HOOKS = runpy.run_path(str(ROOT / "docs" / "mkdocs_hooks.py"))
INDEX = (ROOT / "docs" / "README.md").read_text(encoding="utf-8")


def on_site(markdown, page="speed.md"):
    shown = SimpleNamespace(file=SimpleNamespace(src_uri=page), is_homepage=page == "README.md", meta={})
    return HOOKS["on_page_markdown"](markdown, shown, config=None, files=None)


def test_every_page_is_on_the_index_which_is_the_menu():
    told = [page for group in HOOKS["navigation"](INDEX) for rows in group.values() for page in _pages(rows)]
    there = {path.relative_to(ROOT / "docs").as_posix() for path in (ROOT / "docs").rglob("*.md")}
    assert sorted(told) == sorted(there | set(HOOKS["ALSO"].values())), "docs/README.md has a row for each page"


def _pages(rows):
    return [rows] if isinstance(rows, str) else [page for row in rows for page in row.values()]


def test_the_menu_has_seven_groups_of_questions_at_the_most():
    groups = HOOKS["menu"](INDEX)
    assert 1 < len(groups) <= 7
    for rows in groups.values():
        assert 1 < len(rows) <= 13
        assert all(re.search(r"[?]$", question) for question, _ in rows)


def test_a_link_that_leaves_the_pages_leads_to_the_file_as_it_was_in_this_release():
    release = HOOKS["RELEASE"]
    assert on_site("[net](../train/network/unet.py#L3)") == f"[net]({release['page']('train/network/unet.py#L3')})"
    assert on_site("![x](../docs/samples.png)") == "![x](samples.png)"


def test_pages_of_the_project_beside_docs_are_pages_of_the_site_too():
    assert on_site("[own](../README.md#your-own-scans)") == "[own](project.md#your-own-scans)"
    assert on_site("[own](../../README.md)", page="api/corpus.md") == "[own](../project.md)"
    assert on_site("[a](docs/api/corpus.md), [b](#more)", page="project.md") == "[a](api/corpus.md), [b](#more)"


def test_what_looks_like_a_link_in_code_and_what_leads_elsewhere_stay():
    text = "`[a](../b.py)`\n\n   ```\n   [a](../b.py)\n   ```\n[c](https://example.org) [`d`](resuming.md#a-b)"
    assert on_site(text) == text
