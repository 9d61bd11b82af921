"""The ``train`` command: parses, calls, prints."""

import os

from scans.terminal import out, run
from train.cli import label, learn, look, plan, share, table, use
from train.cli.application import app

__all__ = ["app", "label", "learn", "look", "main", "plan", "share", "table", "use"]


def main() -> None:
    """Run the command line; of several processes that train together the first alone prints what is not an error."""
    out.quiet = os.environ.get("RANK", "0") != "0"
    run(app, "stopped")
