"""Which release this is, where its pages are, and what to install for what is missing."""

import re
from collections.abc import Callable

NAME = "layered-tumors"  # as pip knows it
VERSION = "0.1.0"  # semantic: https://semver.org; a release is the tag of this, v0.1.0
# No public home is known yet: the name of the organisation is a placeholder.
URL = "https://github.com/layered-tumors/layered-tumors"

_CODE_OR_LINK = re.compile(
    r"^ *```.*?^ *```$|(?P<label>!?\[[^\]]*\])\((?P<target>[^)\s]+)\)|`[^`\n]+`", re.MULTILINE | re.DOTALL
)


def page(path: str) -> str:
    """Return the address of a file of this project, as it was in this release.

    Parameters
    ----------
    path : str
        From the project's root, such as ``docs/cluster.md``.
    """
    return f"{URL}/blob/v{VERSION}/{path}"


def picture(path: str) -> str:
    """Return the address of a picture itself, of which `page` is the page around it."""
    return f"{URL}/raw/v{VERSION}/{path}"


def led_elsewhere(text: str, lead: Callable[[str, bool], str]) -> str:
    """Return a page of Markdown with other targets for the links and pictures that stay within the project.

    Parameters
    ----------
    text : str
        Links in its code are none.
    lead : callable
        Takes a target as it is written, with its anchor, and whether it is a picture; returns the new one.
    """

    def one(found: re.Match[str]) -> str:
        target = found["target"]
        if target is None or re.match(r"#|\w+:", target):
            return found[0]
        return f"{found['label']}({lead(target, found[0].startswith('!'))})"

    return _CODE_OR_LINK.sub(one, text)


def installed_with(module: str) -> str | None:
    """Return what to tell pip to install for a module that is missing; None if it is nothing that this software needs.

    Parameters
    ----------
    module : str
        As it is imported, such as ``torch``.

    Returns
    -------
    str or None
        This software, with the extra that brings the module: ``layered-tumors[train]``.
    """
    from importlib.metadata import PackageNotFoundError, requires

    try:
        needed = requires(NAME) or []
    except PackageNotFoundError:
        return None
    for line in needed:  # such as: torch>=2.11; extra == "train"
        package = re.match(r"[\w.-]+", line)
        if package and re.sub(r"[-.]", "_", package[0]).lower() == module.partition(".")[0].lower():
            extra = re.search(r"extra == [\"'](\w+)", line)
            return f"{NAME}[{extra[1]}]" if extra else NAME
    return None
