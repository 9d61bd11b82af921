"""What a corpus holds."""

from pathlib import Path


def content_of(path: Path) -> dict[str, bytes]:
    """Return every file of a corpus."""
    return {str(f.relative_to(path)): f.read_bytes() for f in path.rglob("*") if f.is_file() and f.name != ".lock"}
