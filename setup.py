"""What pyproject.toml cannot say: release and address, which scans/release.py says, and the page for an index.

A package index shows README.md away from the project: links within the project become links to its pages.
"""

import runpy
from pathlib import Path

from setuptools import setup

ROOT = Path(__file__).parent
release = runpy.run_path(str(ROOT / "scans" / "release.py"))


def for_an_index(target: str, picture: bool) -> str:
    """Return the address of what a page of Markdown links to within the project."""
    return release["picture" if picture else "page"](target)


setup(
    version=release["VERSION"],
    long_description=release["led_elsewhere"]((ROOT / "README.md").read_text(encoding="utf-8"), for_an_index),
    long_description_content_type="text/markdown",
    project_urls={
        "Source": release["URL"],
        "Documentation": release["page"]("docs/README.md"),
        "Changelog": release["page"]("CHANGELOG.md"),
        "Issues": f"{release['URL']}/issues",
    },
)
