"""Who may import whom: a cluster node needs no torch, a GPU node no Dask, Numba or SimpleITK."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


def modules(package):
    return [
        ".".join(file.relative_to(ROOT).with_suffix("").parts)
        for file in sorted((ROOT / package).rglob("*.py"))
        if file.stem != "__main__"
    ]


def imported_after(code, *blocked):
    """Run code in a fresh process in which importing a blocked package fails; return its loaded modules."""
    guard = (
        "import sys\n"
        "class Guard:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        f"        if name.split('.')[0] in {blocked!r}: raise ImportError('blocked: ' + name)\n"
        "sys.meta_path.insert(0, Guard())\n"
    )
    result = subprocess.run(
        [sys.executable, "-c", guard + code + "\nprint('\\n'.join(sys.modules))"],
        capture_output=True,
        encoding="utf-8",
        cwd=ROOT,
        check=False,
    )
    assert result.returncode == 0, result.stderr[-2000:]
    return set(result.stdout.split())


def test_synth_and_scans_never_import_torch():
    code = "\n".join(f"import {name}" for name in modules("scans") + modules("synth"))
    imported_after(code, "torch", "tensorboard", "safetensors", "monai")


def test_train_imports_of_synth_only_the_corpus_reader():
    for file in (ROOT / "train").rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            names = [a.name for a in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            for name in names:
                assert name.split(".")[0] != "synth" or name == "synth.corpus", f"{file.name} imports {name}"


def test_the_corpus_reader_needs_numpy_and_the_codecs_of_zarr_alone():
    imported_after(
        "import synth.corpus", "torch", "dask", "distributed", "numba", "SimpleITK", "scipy", "matplotlib", "pydantic",
        "zarr", "fsspec", "yaml", "typer",
    )  # fmt: skip


@pytest.mark.parametrize("module", ["train.pretrain", "train.cli"])
def test_pretraining_needs_no_dask_numba_or_simpleitk(module):
    imported_after(f"import {module}", "dask", "distributed", "numba", "SimpleITK", "opensimplex", "nibabel")


def test_lower_modules_of_synth_know_no_files_and_no_cluster():
    for name in ("shape", "texture", "place", "recipe", "draw", "blend", "compose"):
        imported_after(f"import synth.{name}", "zarr", "numcodecs", "dask", "distributed", "SimpleITK", "yaml_")
