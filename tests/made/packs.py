"""What a corpus holds, and the command in a process of its own."""

import subprocess
import sys
from pathlib import Path


def content_of(path: Path) -> dict[str, bytes]:
    """Return every file of a corpus."""
    return {str(f.relative_to(path)): f.read_bytes() for f in path.rglob("*") if f.is_file() and f.name != ".lock"}


def synth(*arguments, **keywords):
    command = [sys.executable, "-m", "synth.cli", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, encoding="utf-8", timeout=120, check=False, **keywords)
