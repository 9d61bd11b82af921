"""Pages that a person looks at: one file each, complete in itself, every value escaped."""

from pathlib import Path
from typing import Any

from scans.durable import write_atomically


def render(package: str, template: str, **content: Any) -> str:
    """Fill a template of a package's folder ``templates``.

    Parameters
    ----------
    package : {"synth", "train"}
    template : str
        Name of the file; where it ends with ``.html``, every value is escaped that is no `markupsafe.Markup`.
    **content
        What the template names.
    """
    from jinja2 import Environment, PackageLoader, StrictUndefined, select_autoescape

    # Names of files and cases are not to be trusted.
    environment = Environment(
        loader=PackageLoader(package), autoescape=select_autoescape(), undefined=StrictUndefined,
        trim_blocks=True, lstrip_blocks=True,
    )  # fmt: skip
    return environment.get_template(template).render(**content)


def write_page(template: str, path: Path, content: dict[str, Any]) -> None:
    """Render a template of ``train/templates`` into `path`.

    Raises
    ------
    CheckpointError
        If it cannot be written.
    """
    write_atomically(path, render("train", template, **content).encode())
