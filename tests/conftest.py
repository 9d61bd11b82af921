"""Small sources and a small corpus that many tests share.

The scans are made here: smooth noise in an ellipsoid, of three sizes. Tests that need real anatomy read the
folder named by DEV_DATA, where there is one.
"""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

from synth.sources.reader import SourceStore
from tests.made.brief import be_brief
from tests.made.longest_first import LongestFirst
from tests.made.real_scans import write_brats, write_case
from tests.made.sources import make_store
from tests.made.tables import CATALOG
from tests.made.trainings import without_pictures

settings.register_profile("untimed", deadline=None)  # machines are noisy, and no test here is of speed
settings.load_profile("untimed")


def pytest_configure(config: pytest.Config) -> None:
    be_brief()
    config.pluginmanager.register(LongestFirst(config))


@pytest.fixture(scope="session")
def kernels(tmp_path_factory) -> None:
    """Wait until kernels are compiled; for what calls them, here or in a process that it starts."""
    from tests.made.compiled import compile_once

    compile_once(tmp_path_factory.getbasetemp().parent)


@pytest.fixture(scope="session")
def sources_path(tmp_path_factory, kernels) -> Path:
    return make_store(tmp_path_factory.mktemp("sources") / "sources.zarr", 3)


@pytest.fixture(scope="session")
def sources(sources_path) -> SourceStore:
    return SourceStore(sources_path)


@pytest.fixture(scope="session")
def corpus_path(tmp_path_factory, sources, sources_path) -> Path:
    from synth.generate.plan import make_manifest
    from synth.generate.run import generate

    out = tmp_path_factory.mktemp("corpus") / "corpus.zarr"
    outcome = generate(make_manifest(sources, samples=22, seed=7, shard_size=8), sources_path, out, workers=0)
    assert not outcome.failed
    return out


@pytest.fixture(scope="session")
def dense_path(tmp_path_factory, sources, sources_path) -> Path:
    """Return the corpus of `corpus_path` in the other layout."""
    from synth.generate.plan import make_manifest
    from synth.generate.run import generate

    out = tmp_path_factory.mktemp("dense") / "corpus.zarr"
    manifest = make_manifest(sources, samples=22, seed=7, shard_size=8, layout="dense")
    assert not generate(manifest, sources_path, out, workers=0).failed
    return out


@pytest.fixture
def undrawn() -> Iterator[None]:
    """Leave out what trainings draw."""
    with without_pictures():
        yield


@pytest.fixture(scope="session")
def dev_data() -> Path:
    """Return the folder of real development scans, or skip."""
    root = os.environ.get("DEV_DATA")
    if not root or not Path(root).is_dir():
        pytest.skip("DEV_DATA names no folder of real scans")
    return Path(root)


@pytest.fixture(scope="module")
def catalog(tmp_path_factory):
    root = tmp_path_factory.mktemp("scans")
    for seed in range(3):
        write_case(root / "normal", f"n{seed}", seed=seed, spacing_mm=(3.0, 2.5, 2.5))
        write_case(root / "tumour", f"t{seed}", seed=10 + seed, spacing_mm=(3.0, 2.5, 2.5))
    write_brats(root / "brats")
    path = root / "catalog.yaml"
    path.write_text(CATALOG.replace("FOLDER", str(root)), encoding="utf-8")
    return path


@pytest.fixture
def hub(tmp_path_factory):
    """Run a new hub that this process, and those it starts, take for theirs; whoever is logged in may write."""
    import huggingface_hub.constants as constants
    from huggingface_hub import HfFileSystem

    from tests.made.hub import WRITER, StandIn

    stand_in, cache = StandIn(), tmp_path_factory.mktemp("cache")
    said = {"HF_ENDPOINT": stand_in.address, "HF_TOKEN": WRITER, "HF_HOME": str(cache), "HF_HUB_DISABLE_XET": "1"}
    # The client has read its environment already, if anything has imported it.
    known = {"HF_HUB_DISABLE_XET": True, "HF_HUB_CACHE": str(cache / "hub"), "HF_TOKEN_PATH": str(cache / "token")}
    with pytest.MonkeyPatch.context() as patch:
        for name, value in (said | {"HF_HUB_DISABLE_TELEMETRY": "1", "NO_PROXY": "127.0.0.1,localhost"}).items():
            patch.setenv(name, value)
        for name, value in known.items():
            patch.setattr(constants, name, value)
        HfFileSystem.clear_instance_cache()
        yield stand_in
    stand_in.shutdown()
    stand_in.server_close()
