"""What pyproject.toml cannot say: release and address, which scans/release.py says, and the page for an index.

A package index shows README.md away from the project: links within the project become links to its pages.
"""

import re
import runpy
from pathlib import Path

from setuptools import setup

ROOT = Path(__file__).parent
release = runpy.run_path(str(ROOT / "scans" / "release.py"))


def for_an_index(text: str) -> str:
    """Return a page of Markdown whose links and pictures within the project are addresses."""
    text = re.sub(r"(!\[[^\]]*\]\()(?!\w+:)([^)#\s]+)", lambda m: m[1] + release["picture"](m[2]), text)
    return re.sub(r"((?<!!)\[[^\]]*\]\()(?!\w+:)([^)#\s]+)", lambda m: m[1] + release["page"](m[2]), text)


setup(
    version=release["VERSION"],
    long_description=for_an_index((ROOT / "README.md").read_text(encoding="utf-8")),
    long_description_content_type="text/markdown",
    project_urls={
        "Source": release["URL"],
        "Documentation": release["page"]("docs/README.md"),
        "Changelog": release["page"]("CHANGELOG.md"),
        "Issues": f"{release['URL']}/issues",
    },
)
