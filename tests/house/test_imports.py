"""Who may import whom: a cluster node needs no torch, a GPU node no Dask, Numba or SimpleITK."""

import ast
import subprocess
import sys

import pytest

from tests.made.fresh_process import ROOT, imported_after


def modules(package):
    return [
        ".".join(file.relative_to(ROOT).with_suffix("").parts)
        for file in sorted((ROOT / package).rglob("*.py"))
        if file.stem != "__main__"
    ]


def test_synth_and_scans_never_import_torch():
    code = "\n".join(f"import {name}" for name in modules("scans") + modules("synth"))
    imported_after(code, "torch", "tensorboard", "safetensors", "monai", "huggingface_hub")


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


def test_a_worker_starts_without_what_reads_scans_and_what_schedules_it():
    imported_after("import synth.generate.worker", "torch", "dask", "distributed", "SimpleITK", "nibabel", "matplotlib")


HEAVY = (
    "SimpleITK", "nibabel", "monai", "tensorboard", "dask", "distributed", "numba", "mlcroissant", "opensimplex",
    "s3fs", "huggingface_hub",
)  # fmt: skip
ONNX = ("onnx", "onnxruntime", "onnxscript")  # torch itself asks whether they are there, once it trains
DRAWING = ("matplotlib", "jinja2", "PIL", "contourpy")


def test_the_command_line_imports_no_torch():
    imported_after("import train.cli", "torch", "safetensors", "numpy", "scipy", *HEAVY, *ONNX, *DRAWING)


@pytest.mark.parametrize(
    ("command", "missing", "brings"),
    [
        (["train", "segment", "scan.nii.gz"], "torch", "layered-tumors[train]"),
        (["synth", "scan"], "SimpleITK", "layered-tumors"),
    ],
)
def test_what_is_not_installed_is_named_with_what_brings_it(command, missing, brings):
    without = f"import sys; sys.modules[{missing!r}] = None; sys.argv = {command!r}"
    code = f"{without}; from {command[0]}.cli import main; main()"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, encoding="utf-8", check=False)
    assert f"error: {missing} is not installed; pip install '{brings}' brings it" in done.stderr
    assert "Traceback" not in done.stderr
    assert done.returncode == 2


def test_what_trainings_import_beside_torch_is_what_reads_scans():
    reading = ("SimpleITK", "nibabel", "scipy")  # of scans, which adaptation and fine-tuning begin with
    imported_after(
        "import train.stages.pretrain, train.stages.adapt, train.stages.finetune",
        *DRAWING, *ONNX, *(name for name in HEAVY if name not in reading),
    )  # fmt: skip


@pytest.mark.parametrize("missing", [(), DRAWING])
def test_pretraining_imports_torch_and_little_else_and_needs_nothing_heavy_from_end_to_end(
    corpus_path, tmp_path, missing
):
    later = {"scipy", "zarr", "typer", "rich", "pandas", *DRAWING, *ONNX}
    code = (
        "from pathlib import Path; from train.stages.pretrain import pretrain; from train.settings import Pretrain\n"
        f"import sys; assert not {later!r} & set(sys.modules), {later!r} & set(sys.modules)\n"
        "schedule = {'steps': 2, 'checkpoint_every': 1, 'device': 'cpu'}\n"
        "settings = Pretrain(network={'width': 2}, schedule=schedule, validation_samples=2)\n"
        f"with open({str(tmp_path / 'said')!r}, 'w') as said:\n"
        f"    outcome = pretrain({str(corpus_path)!r}, Path({str(tmp_path / 'run')!r}), settings,\n"
        "        catalog=Path('data_catalog.yaml'), say=lambda line: print(line, file=said))\n"
        "assert outcome.step == 2\n"
    )
    imported_after(code, *HEAVY, *missing)
    said = (tmp_path / "said").read_text(encoding="utf-8").splitlines()
    assert (
        sum(line.startswith("no real cases are shown: ") and line.endswith(" is not installed") for line in said) == 1
    )
    assert sum(line.startswith("no curves for TensorBoard") for line in said) == 1
    for sentence in ("no pictures: matplotlib is", "no report.html: "):
        assert sum(line.startswith(sentence) for line in said) == bool(missing)
    left = {path.name for path in (tmp_path / "run").iterdir()}
    assert {"best.safetensors", "last.safetensors", "log.jsonl"} <= left
    assert ("report.html" in left) == (not missing)
    assert bool(list((tmp_path / "run" / "pictures").iterdir())) == (not missing)
