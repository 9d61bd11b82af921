"""A generator of another package: installed from a folder, it makes, verifies, packs and rehydrates a corpus."""

import os
import subprocess
import sys

import pytest

from tests.made.commands import finished

MODULE = '''
"""Balls of the normal's own tissue, brighter."""

from dataclasses import dataclass

import numpy as np
from pydantic import Field

from scans.catalog.settings import Strict
from synth.generators.facts import Facts
from synth.tumour.recipe import Numbers
from synth.tumour.sample import Layer


class Settings(Strict):
    radius: int = Field(4, ge=1, le=30)  # voxels


@dataclass(frozen=True)
class Recipe(Numbers):
    index: int
    normal: int
    donor: int
    centre_z: int
    centre_y: int
    centre_x: int
    volume_mm3: float
    kept: float
    gain: float
    alpha: float


class Balls:
    """Balls."""

    name, version, settings, recipe = "balls", 1, Settings, Recipe

    def facts(self, settings):
        return Facts()

    def draw(self, draw, normal, donor, settings):
        stream = draw.stream(8)
        z, y, x = normal.centres[stream.below(len(normal.centres))]
        volume = 4.0 * settings.radius**3 * normal.spacing_mm[0] * normal.spacing_mm[1] * normal.spacing_mm[2]
        return Recipe(draw.index, draw.normal, draw.donor, z, y, x, volume, 1.0, stream.uniform(1.0, 2.0), 1.0)

    def make(self, recipe, normal, donor, settings):
        centre, r, size = (recipe.centre_z, recipe.centre_y, recipe.centre_x), settings.radius, normal.roi.shape[0]
        box = tuple(slice(max(c - r, 0), min(c + r + 1, size)) for c in centre)
        away = np.ogrid[box]
        form = sum((a - c) ** 2 for a, c in zip(away, centre)) <= r * r
        return Layer(box, form, normal.to_network(normal.intensity[box][form] * np.float32(recipe.gain)))

    def check(self, recipe, settings, size):
        return [] if 1 <= recipe.gain <= 2 else ["gain"]


BALLS = Balls()
'''
PROJECT = """
[build-system]
requires = ["setuptools"]
build-backend = "setuptools.build_meta"
[project]
name = "layered-tumors-balls"
version = "1.0"
[project.entry-points."layered_tumors.generators"]
balls = "balls:BALLS"
broken = "balls:Settings"
[tool.setuptools]
py-modules = ["balls"]
"""


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    folder = tmp_path_factory.mktemp("balls")
    (folder / "balls.py").write_text(MODULE)
    (folder / "pyproject.toml").write_text(PROJECT)
    where = folder / "site"
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-index", "--no-deps", "--no-build-isolation"]
    subprocess.run([*pip, "--disable-pip-version-check", "--target", where, folder], check=True, timeout=300)
    return where


def synth(installed, *arguments):
    path = os.pathsep.join([str(installed), *filter(None, [os.environ.get("PYTHONPATH")])])
    return finished("synth", *arguments, env={**os.environ, "PYTHONPATH": path})


def test_it_makes_verifies_packs_and_rehydrates_a_corpus(installed, sources_path, tmp_path):
    corpus, pack, again = tmp_path / "c", tmp_path / "r.zip", tmp_path / "again"
    for arguments in (
        ("generate", "--sources", sources_path, "--out", corpus, "-n", 6, "--generator", "balls", "--workers", 0,
         "--set", "radius=5"),
        ("verify", corpus),
        ("pack", corpus, "--recipes", "--out", pack),
        ("rehydrate", pack, "--sources", sources_path, "--out", again, "--workers", 0),
    ):  # fmt: skip
        done = synth(installed, *arguments)
        assert done.returncode == 0, done.stdout + done.stderr
    one, other = (synth(installed, "info", path).stdout for path in (corpus, again))
    assert one.replace(str(corpus), "") == other.replace(str(again), "")


def test_without_the_package_a_reader_opens_it_and_the_others_say_what_is_missing(installed, sources_path, tmp_path):
    from scans.errors import StoreError
    from synth.corpus import Corpus
    from synth.corpus.verify import verify

    out = tmp_path / "c"
    made = synth(
        installed, "generate", "--sources", sources_path, "--out", out, "-n", 4, "--generator", "balls", "--workers", 0
    )
    assert made.returncode == 0, made.stderr
    corpus = Corpus(out)
    assert (corpus.generation(0).generator, corpus.generation(0).version) == ("balls", 1)
    assert corpus[3].mask.any()
    assert 1 <= corpus.recipe(2)["gain"] <= 2
    with pytest.raises(StoreError, match=r"no generator is called 'balls'.*Install the package"):
        verify(out)


def test_an_object_that_is_no_generator_is_named(installed, sources_path, tmp_path):
    done = synth(
        installed, "generate", "--sources", sources_path, "--out", tmp_path / "c", "-n", 4, "--generator", "broken"
    )
    assert done.returncode == 2
    assert "generator broken: balls:Settings is no generator, it lacks" in " ".join(done.stderr.split())
