"""Heads with a skull, and a stand-in for the tools that strip them: a script that does, well or badly, what they do."""

import shlex
import sys

import numpy as np

from scans.image.grid import Grid
from tests.made.scan_files import brain

GRID = Grid((16, 18, 14), (8.5, 8.5, 9.0), (-60.0, 40.0, 15.0), (1, 0, 0, 0, 1, 0, 0, 0, 1))
_TOOL = """
import array, gzip, os, signal, struct, sys

how, scan, mask = sys.argv[1:4]
with open(__file__ + ".runs", "a") as runs:
    runs.write(os.path.basename(scan) + "\\n")
content = gzip.open(scan).read()
first = int(struct.unpack("<f", content[108:112])[0])
header, values = bytearray(content[:first]), array.array("f", content[first:])
found = array.array("f", [value > 50 for value in values])
print("looked at", scan)
if how == "fails":
    sys.exit("no model weights\\nset WEIGHTS to their folder")
if how == "fails silently":
    os._exit(3)
if how == "nothing":
    sys.exit()
if how == "shifted":
    struct.pack_into("<f", header, 268, 500.0), struct.pack_into("<f", header, 292, 500.0)
if how == "smaller":
    struct.pack_into("<h", header, 46, 8)
    found = found[: len(found) // 2]
if how == "empty":
    found = array.array("f", [0] * len(found))
if how == "everything":
    found = array.array("f", [1] * len(found))
if how == "speck":
    found = array.array("f", [number == 0 for number in range(len(found))])
if how == "intensities":
    found = array.array("f", [value / 3 for value in values])
if how == "like bet":
    mask = mask.replace("mask.nii.gz", "mask_mask.nii.gz")
made = gzip.compress(bytes(header) + found.tobytes())
with open(mask, "wb") as file:
    file.write(made[: len(made) // 2])
    file.flush()
    if how == "killed":
        os.kill(os.getpid(), signal.SIGKILL)
    if how != "half":
        file.write(made[len(made) // 2 :])
if how == "two":
    os.link(mask, mask.replace("mask.nii.gz", "a.nii.gz"))
    os.rename(mask, mask.replace("mask.nii.gz", "b.nii.gz"))
"""


class Tool:
    """The script in a folder, how to call it, and how often it ran."""

    def __init__(self, folder):
        self.path = folder / "strip tool.py"
        self.path.write_text(_TOOL, encoding="utf-8")

    def command(self, how="well"):
        return f"{shlex.quote(sys.executable)} -I -S {shlex.quote(str(self.path))} '{how}' {{scan}} {{mask}}"

    @property
    def runs(self):
        log = self.path.with_name(f"{self.path.name}.runs")
        return len(log.read_text(encoding="utf-8").splitlines()) if log.exists() else 0


def with_skull(stripped, seed=0):
    """Return a stripped scan in a head that fills the picture: no background is constant."""
    outside = np.random.default_rng(seed).uniform(1, 30, stripped.array.shape).astype(np.float32)
    return stripped.with_array(np.where(stripped.array > 0, stripped.array, outside))


def head(grid=GRID, seed=0):
    """Make a brain of about 700 ml in a head."""
    return with_skull(brain(grid, seed), seed)
