"""Pages that a person looks at: one file each, complete in itself, every value escaped."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from scans.durable import write_atomically


def write_page(template: str, path: Path, content: Mapping[str, Any]) -> None:
    """Render a template of ``train/templates`` into `path`.

    Raises
    ------
    CheckpointError
        If it cannot be written.
    """
    from jinja2 import Environment, PackageLoader, StrictUndefined

    # Names of files and cases are not to be trusted.
    environment = Environment(
        loader=PackageLoader("train"), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    write_atomically(path, environment.get_template(template).render(**content).encode())
