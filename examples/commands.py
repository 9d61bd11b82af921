"""Commands of a script: those a user would type, printed and run."""

import os
import shlex
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

BIN = Path(sys.executable).parent


def run(*command: str, without: str, unless: Sequence[int] = (0,), **environment: str) -> None:
    """Print a command and run it; stop where it stops, and say what there is not `without` it.

    Parameters
    ----------
    *command : str
        Of the environment that runs the script.
    without : str
        The end of the sentence.
    unless : sequence of int
        Exit codes with which the script goes on.
    **environment : str
        Variables that the command sees beside all others.
    """
    print(f"\n$ {shlex.join(command)}", flush=True)
    finished = subprocess.run([str(BIN / command[0]), *command[1:]], check=False, env={**os.environ, **environment})
    if finished.returncode not in unless:
        sys.exit(f"error: {command[0]} {command[1]} ended with {finished.returncode}; {without}")
