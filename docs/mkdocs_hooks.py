"""How MkDocs makes a site of these pages, which are written for the code host.

The menu is the index of README.md, said there once. The project's own README and its changelog, which lie outside of
docs/, become pages too; any other link that leaves docs/ leads to the file as it was in this release. A page whose
lists, tables or blocks would come out otherwise than on the code host fails the build.
"""

import logging
import os.path
import re
import runpy
from collections import Counter
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
ALSO = {"README.md": "project.md", "CHANGELOG.md": "changelog.md"}  # files of the project that are pages of the site
RELEASE = runpy.run_path(str(ROOT / "scans" / "release.py"))

_GROUP = re.compile(r"^\*\*(.+)\*\*$")
_ROW = re.compile(r"^\| (?P<question>[^|]+?) \| \[[^\]]+\]\((?P<link>[^)\s]+)\)")
_BLOCK = re.compile(r"<(li|pre|table|tr|h[1-6]|blockquote|img)\b")
_REFERENCE = re.compile(r"^::: ", re.MULTILINE)  # docstrings, which the code host does not show
_log = logging.getLogger("mkdocs.hooks.pages")


def menu(index: str) -> dict[str, list[tuple[str, str]]]:
    """Return what an index of questions has: by group, (question, link) in their order.

    Parameters
    ----------
    index : str
        Markdown. A line in bold names a group; a row of a table has a question, then a link.
    """
    groups: dict[str, list[tuple[str, str]]] = {}
    for line in index.splitlines():
        if group := _GROUP.match(line):
            rows = groups.setdefault(group[1], [])
        elif groups and (row := _ROW.match(line)):
            rows.append((row["question"], row["link"]))
    return groups


def target(link: str, folder: str) -> str:
    """Return the path, from the project's root, that a link in a file of a folder leads to; without its anchor."""
    return os.path.normpath(os.path.join(folder, link.partition("#")[0]))


def page_of(path: str) -> str | None:
    """Return what a file of the project is called among the site's pages, from docs/ on; None if it is none of them."""
    if path in ALSO:
        return ALSO[path]
    return path.removeprefix("docs/") if path.startswith("docs/") else None


def navigation(index: str) -> list[dict[str, Any]]:
    """Return the menu as MkDocs takes it: each page once, under the first question that it answers."""
    shown = {"README.md"}
    groups: list[dict[str, Any]] = [{"Overview": "README.md"}]
    for name, rows in menu(index).items():
        pages = []
        for question, link in rows:
            page = page_of(target(link, "docs"))
            if page and page not in shown:
                shown.add(page)
                pages.append({question: page})
        groups.append({name: pages})
    return groups


def on_config(config: Any) -> Any:
    """Make the menu, and let Markdown and the foot of each page be as they should."""
    from markdown.extensions import Extension

    class AsOnTheCodeHost(Extension):
        """What is indented by two or three spaces belongs to an item of a list, as in CommonMark."""

        def extendMarkdown(self, md: Any) -> None:  # noqa: N802
            md.tab_length = 2

    config.nav = navigation((ROOT / "docs" / "README.md").read_text(encoding="utf-8"))
    config.copyright = f'Release {RELEASE["VERSION"]} · Apache-2.0 · <a href="{RELEASE["URL"]}">source</a>'
    config.markdown_extensions.append(AsOnTheCodeHost())
    return config


def on_files(files: Any, config: Any) -> Any:
    """Add the pages that lie outside of docs/."""
    from mkdocs.structure.files import File

    for path, page in ALSO.items():
        files.append(File.generated(config, page, abs_src_path=str(ROOT / path)))
    return files


def on_page_markdown(markdown: str, page: Any, config: Any, files: Any) -> str:
    """Lead links of a page that leave docs/ to the site's page of that file, or to the file in this release."""
    own = next((path for path, name in ALSO.items() if name == page.file.src_uri), f"docs/{page.file.src_uri}")
    folder = os.path.dirname(own)
    if page.is_homepage:
        page.meta["hide"] = ["navigation", "toc"]  # it is a menu itself

    def lead(link: str, picture: bool) -> str:
        path, anchor = target(link, folder), link.partition("#")[1:]
        if name := page_of(path):
            return os.path.relpath(name, os.path.dirname(page.file.src_uri) or ".") + "".join(anchor)
        if not (ROOT / path).exists():
            _log.warning("%s links to %s, which is not there", own, link)
        return RELEASE["picture" if picture else "page"](path + "".join(anchor))

    return RELEASE["led_elsewhere"](markdown, lead)


def on_page_content(html: str, page: Any, config: Any, files: Any) -> str:
    """Hold a page against what the code host would make of it."""
    from markdown_it import MarkdownIt

    if not _REFERENCE.search(page.markdown):
        as_there = MarkdownIt("gfm-like", {"linkify": False}).render(page.markdown)
        here, there = (Counter(_BLOCK.findall(text)) for text in (html, as_there))
        if here != there:
            more = f"there with {dict(there - here)} more, here with {dict(here - there)}"
            mend = "leave an empty line before and after what is indented, and before a list"
            _log.warning("%s comes out otherwise than on the code host, %s: %s", page.file.src_uri, more, mend)
    return html
