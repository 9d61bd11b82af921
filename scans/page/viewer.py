"""A viewer: scenes as a part of a page, in which a person moves through the slices and switches the layers.

All of it lies in the page, so that it works from a disk, a mail or an archive. The page's security policy lets these
scripts run, no others, and asks nothing of any network.
"""

import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass
from importlib.resources import files
from typing import TYPE_CHECKING, Any

from scans.page.niivue import about, licences, niivue_gz, niivue_policy, source_hash
from scans.page.scene import size_of

if TYPE_CHECKING:
    from markupsafe import Markup

MOST_BYTES = 24_000_000  # of all scenes of a page: what a mail server still takes, and a browser opens at once


@dataclass(frozen=True)
class Viewer:
    """What a page needs to show scenes.

    Attributes
    ----------
    style : Markup
        For the page's head.
    body : Markup
        For where it is to stand; once in a page.
    policy : str
        Sources of scripts, for the page's Content Security Policy.
    names : tuple of str
        Of the scenes that are in it. A link with ``data-scene`` of such a name, and ``href="#look"``, shows that scene.
    left_out : tuple of str
        Of those that were too large.
    """

    style: "Markup"
    body: "Markup"
    policy: str
    names: tuple[str, ...]
    left_out: tuple[str, ...]


def viewer(scenes: Iterable[dict[str, Any]], most_bytes: int = MOST_BYTES) -> Viewer | None:
    """Return a viewer of packed scenes.

    Parameters
    ----------
    scenes : iterable of dict
        Of `scans.page.scene.pack`, the most telling first; no two have one name.
    most_bytes : int
        Of all of them together. What does not fit is named in the page, and left out.

    Returns
    -------
    Viewer or None
        None where no scene is given.
    """
    from jinja2 import Environment, PackageLoader, StrictUndefined
    from markupsafe import Markup

    shown: list[dict[str, Any]] = []
    left_out: list[str] = []
    for scene in scenes:
        if size_of(scene) + sum(map(size_of, shown)) <= most_bytes:
            shown.append(scene)
        else:
            left_out.append(scene["name"])
    if not shown and not left_out:
        return None
    script = _template("viewer.js")
    environment = Environment(
        loader=PackageLoader("scans"), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    body = environment.get_template("viewer.html").render(
        scenes=[(scene["name"], Markup(_inert(scene))) for scene in shown],
        left_out=left_out,
        most_mb=most_bytes // 1_000_000,
        niivue=niivue_gz() if shown else "",
        about=about(),
        licences=licences(),
        script=Markup(script),
    )
    own = source_hash(hashlib.sha256(script.encode()).digest())
    return Viewer(
        Markup(_template("viewer.css")),
        Markup(body),
        f"{own} {niivue_policy()}",
        tuple(scene["name"] for scene in shown),
        tuple(left_out),
    )


def _template(name: str) -> str:
    return (files("scans") / "templates" / name).read_text(encoding="utf-8")


def _inert(content: dict[str, Any]) -> str:
    """Return JSON that no reader of HTML takes for the end of its element, whatever names are in it."""
    return json.dumps(content, separators=(",", ":")).replace("<", "\\u003c").replace("&", "\\u0026")
