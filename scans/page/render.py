"""A page: a template, filled, every value escaped, complete in itself."""

from pathlib import Path
from typing import Any

from scans.durable import write_atomically
from scans.page.viewer import Viewer


def render(package: str, template: str, *, viewer: Viewer | None = None, **content: Any) -> str:
    """Fill a template of a package's folder ``templates``.

    Parameters
    ----------
    package : {"synth", "train"}
    template : str
        Name of the file; where it ends with ``.html``, every value is escaped that is no `markupsafe.Markup`.
    viewer : Viewer, optional
        That the page is to hold; its scripts are the only ones which the page's ``policy`` lets run.
    **content
        What the template names.
    """
    from jinja2 import Environment, PackageLoader, StrictUndefined, select_autoescape

    # Names of files and cases are not to be trusted.
    environment = Environment(
        loader=PackageLoader(package), autoescape=select_autoescape(), undefined=StrictUndefined,
        trim_blocks=True, lstrip_blocks=True,
    )  # fmt: skip
    return environment.get_template(template).render(viewer=viewer, policy=policy(viewer), **content)


def policy(viewer: Viewer | None) -> str:
    """Return a page's Content Security Policy: nothing is fetched, and no script runs but the viewer's."""
    scripts = "'none'" if viewer is None else viewer.policy
    return (
        f"default-src 'none'; script-src {scripts}; style-src 'unsafe-inline'; img-src data: blob:; connect-src data:; "
        "base-uri 'none'; form-action 'none'"
    )


def write_page(template: str, path: Path, content: dict[str, Any], viewer: Viewer | None = None) -> None:
    """Render a template of ``train/templates`` into `path`.

    Raises
    ------
    CheckpointError
        If it cannot be written.
    """
    write_atomically(path, render("train", template, viewer=viewer, **content).encode())
