"""The tutorial does what it says: its files are saved and its commands run, in their order, as a reader would."""

import atexit
import csv
import re
import shlex
import subprocess
import sys

import pytest

from tests.house.test_docs import ROOT
from tests.made.commands import finished
from tests.made.trainings import without_pictures

_BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
PAGE = (ROOT / "docs" / "tutorial.md").read_text(encoding="utf-8")


def undrawn():
    """Leave out charts of trainings and data cards, half of their time here; the page shows none of them."""
    left_out, patch = without_pictures(), pytest.MonkeyPatch()
    left_out.__enter__()
    atexit.register(left_out.__exit__, None, None, None)  # until the command ends
    patch.setattr("synth.report.distributions.distributions_png", lambda shown: b"")


@pytest.fixture(scope="module")
def said(tmp_path_factory):
    """Return a folder in which the page was followed, and what each command said, by its first words."""
    folder, said = tmp_path_factory.mktemp("tutorial"), {}
    for language, body in _BLOCK.findall(PAGE):
        if language:
            (folder / re.match(r"# (\S+)\n", body)[1]).write_text(body, encoding="utf-8")
        for line in [] if language else body.splitlines():
            program, *words = shlex.split(line)
            if program == "python":
                done = subprocess.run([sys.executable, *words], cwd=folder, capture_output=True, text=True, check=False)
            else:
                before = undrawn if words[0] in ("generate", "pretrain") else None
                done = finished(program, *words, cwd=folder, preexec_fn=before)
            assert done.returncode == 0, f"{line}\n{done.stderr}"
            said[f"{program} {words[0]}"] = done.stdout + done.stderr
    return folder, said


def test_the_tutorial_leads_from_nothing_to_a_mask_of_about_the_volume_it_tells(said):
    folder, _ = said
    with (folder / "masks" / "summary.csv").open(encoding="utf-8", newline="") as file:
        (row,) = csv.DictReader(file)
    told = float(re.search(r"about (\d+) ml", PAGE)[1])
    assert float(row["volume_ml"]) == pytest.approx(told, rel=0.25)
    assert (folder / "masks" / "patient_flair_mask.nii.gz").is_file()


def test_the_commands_say_what_the_tutorial_tells(said):
    folder, said = said
    assert len(re.findall("ready", said["synth scan"])) == 2
    assert "6 prepared, 0 kept, 0 left out" in said["synth prepare"]
    assert "sound" in said["synth verify"]
    for what in ("validation on", "threshold row", "where the time went", "masks are read"):
        assert what in said["train pretrain"]
    assert "does not beat the threshold row" in said["train evaluate"]
    assert {"samples.png", "evaluation"} <= {path.name for path in folder.iterdir()}
