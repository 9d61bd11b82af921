"""Export: a network as a folder to hand on, whole or not there at all.

It holds the weights with their record (one safetensors file, all that ``train segment`` needs), the record as JSON for
people, a model card, ONNX and weights for nnU-Net where asked for, and checksums. The same checkpoint gives the same
bytes.
"""

import contextlib
import re
import shutil
import uuid
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from scans.durable import locked, new_folder, sha256, sync, write_atomically
from scans.errors import CheckpointError
from scans.markdown import Markdown, clean
from scans.writing import writing
from train.architectures.plans import CONFIGURATION, read_plan
from train.cases.classes import recorded_classes
from train.evaluation.scores_file import read_evaluation
from train.network.checkpoint import save_checkpoint
from train.network.data_terms import real_datasets, scans_of, sources_of, trained_on, unclear
from train.network.record import Record
from train.proxies.recorded import load_unet
from train.settings import SettingsError
from train.share.shareable import shareable

SUMS = "SHA256SUMS"
_LOCK = ".lock"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
_LICENCE = re.compile(r"[A-Za-z0-9][A-Za-z0-9.+-]{0,59}")


@dataclass(frozen=True)
class Exported:
    """A folder that was written.

    Attributes
    ----------
    folder : Path
    weights : Path
        The file that ``train segment`` takes.
    files : tuple of str
        All files, by name.
    differences : dict of str to float
        Of each ONNX file: its largest difference from torch.
    notes : tuple of str
        Sentences about what nnU-Net does not take over.
    unclear : tuple of str
        Sentences about terms that may forbid to pass the weights on.
    named : int
        Scans and cases that the record names.
    new : bool
        False if the same was there already.
    """

    folder: Path
    weights: Path
    files: tuple[str, ...]
    differences: dict[str, float]
    notes: tuple[str, ...]
    unclear: tuple[str, ...]
    named: int
    new: bool


def export(
    checkpoint: Path,
    out: Path,
    *,
    name: str = "",
    evaluations: Sequence[Path] = (),
    onnx: bool = False,
    onnx_raw: bool = False,
    nnunet: bool = False,
    plans: Path | None = None,
    configuration: str = CONFIGURATION,
    licence: str = "",
    anonymous: bool = False,
    force: bool = False,
) -> Exported:
    """Write a network to a folder of its own.

    Parameters
    ----------
    checkpoint : Path
    out : Path
        The folder to make.
    name : str
        Of the files; that of the region if empty.
    evaluations : sequence of Path
        Folders that ``train evaluate`` wrote for this checkpoint.
    onnx, onnx_raw : bool
        Add ``NAME.onnx``, ``NAME-raw.onnx``; see ``train.share.onnx_file``.
    nnunet : bool
        Add ``NAME-nnunet.pth`` and ``NAME-nnunet.json``; see ``train.share.nnunet_file``.
    plans : Path, optional
        The plan of nnU-Net's that these weights are for.
    configuration : str
        Of that plan.
    licence : str
        SPDX identifier of what the weights are given under.
    anonymous : bool
        Number scans and cases instead of naming them.
    force : bool
        Replace what an earlier export left in `out`.

    Raises
    ------
    UserError
        If checkpoint, evaluation or plan cannot be used, ONNX differs from torch, or something else is at `out`.
    """
    from train.share.model_card import Graph, model_card
    from train.share.nnunet_file import to_nnunet
    from train.share.onnx_file import check_packages, to_onnx

    if onnx or onnx_raw:
        check_packages()
    if licence and not _LICENCE.fullmatch(licence):
        raise SettingsError(f"--licence {licence!a}: give an SPDX identifier, e.g. CC-BY-4.0")
    loaded, network = load_unet(checkpoint)
    recorded_classes(loaded.network, loaded.data, str(checkpoint))
    if plans is not None and not nnunet:
        raise SettingsError(f"--plans {plans}: says which plan weights for nnU-Net fit; add --nnunet, or leave it out")
    for_nnunet = None
    if nnunet:
        plan = None if plans is None else read_plan(plans, configuration)
        for_nnunet = to_nnunet(network, loaded.size, plan)
    name = _checked(name) if name else _default_name(loaded)
    scored = [read_evaluation(folder, loaded, network) for folder in evaluations]
    record = shareable(loaded, anonymous=anonymous)

    _check_target(out)
    _sweep(out)
    with _staged(out) as folder:
        save_checkpoint(folder / f"{name}.safetensors", record, network)
        graphs, differences = [], {}
        for file, raw in ((f"{name}.onnx", False), (f"{name}-raw.onnx", True)):
            if onnx_raw if raw else onnx:
                graph = to_onnx(network, record, raw=raw)
                write_atomically(folder / file, graph.content)
                graphs.append(Graph(Markdown(file), raw))
                differences[file] = graph.difference
        if for_nnunet is not None:
            write_atomically(folder / f"{name}-nnunet.pth", for_nnunet.content)
            write_atomically(folder / f"{name}-nnunet.json", for_nnunet.configuration)
        notes = () if for_nnunet is None else for_nnunet.notes
        write_atomically(folder / "README.md", model_card(record, name, scored, graphs, licence, notes).encode())
        files = sorted(path.name for path in folder.iterdir() if path.name != _LOCK)
        sums = "".join(f"{sha256(folder / file)}  {file}\n" for file in files)
        write_atomically(folder / SUMS, sums.encode())
        new = not _holds(out, sums)
        if new and not force and _listed(out):
            raise CheckpointError(
                f"{out}: holds another export already; add --force to replace it, or choose another --out"
            )
        if new:
            _put(folder, out)
    return Exported(
        out,
        out / f"{name}.safetensors",
        (*files, SUMS),
        differences,
        notes,
        tuple(unclear(trained_on(record.data))),
        0 if anonymous else _named(record),
        new,
    )


def listed_in(folder: Path) -> dict[str, str]:
    """Return the files that an export lists, but for the list, and their SHA-256; empty where there is no export."""
    try:
        lines = (folder / SUMS).read_text(encoding="utf-8").splitlines()
    except (OSError, ValueError):
        return {}
    return digests_in(lines)


def digests_in(lines: Iterable[str]) -> dict[str, str]:
    """Return the files and SHA-256 of a list as ``sha256sum`` writes and checks it."""
    return {line[66:]: line[:64] for line in lines if len(line) > 66}


def _checked(name: str) -> str:
    if not _NAME.fullmatch(name):
        raise SettingsError(f"--name {name!a}: use letters, digits, dots, hyphens and underscores, a hundred at most")
    return name


def _default_name(record: Record) -> str:
    words = re.sub(r"[^a-z0-9]+", "-", clean(record.region.get("name", "")).lower()).strip("-")
    return f"layered-tumors-{words[:80]}".rstrip("-")


def _named(record: Record) -> int:
    lists = [record.data.get(key) for key in ("scans", "training", "validation", "test")]
    cases = {str(name) for names in lists if isinstance(names, list) for name in names}
    cases |= {name for each in real_datasets(record.data) for name in scans_of(each)}
    return len(sources_of(record.data)) + len(cases)


def _check_target(out: Path) -> None:
    """Stop where something is in the way that an export did not leave."""
    if not out.exists() and not out.is_symlink():
        return
    if out.is_symlink() or not out.is_dir():
        raise CheckpointError(f"{out}: is no folder; choose another --out")
    if foreign := sorted({path.name for path in out.iterdir()} - _listed(out)):
        raise CheckpointError(f"{out}: holds {foreign[0]!a}, which is no part of an export; choose another --out")


def _listed(folder: Path) -> set[str]:
    """Return the files that an export says it left; none where there is no export."""
    return {*listed_in(folder), SUMS} if (folder / SUMS).is_file() else set()


def _holds(out: Path, sums: str) -> bool:
    """Whether the same files are at `out` already, byte for byte."""
    lines = [line.split("  ", 1) for line in sums.splitlines()]
    try:
        same = (out / SUMS).read_bytes() == sums.encode()
        return same and all(sha256(out / file) == digest for digest, file in lines)
    except OSError:
        return False


@contextlib.contextmanager
def _staged(out: Path) -> Iterator[Path]:
    """Make a folder beside `out`, and lock it: who gets the lock later may sweep the folder."""
    with contextlib.ExitStack() as stack:
        with writing(out, CheckpointError):
            out.parent.mkdir(parents=True, exist_ok=True)
            folder = stack.enter_context(new_folder(out))
            stack.enter_context(locked(folder / _LOCK, "w"))
        yield folder


def _sweep(out: Path) -> None:
    """Remove what exports to `out` left beside it that were killed."""
    left = re.compile(rf"\.{re.escape(out.name[:100])}\.[0-9a-f]{{32}}\.(tmp|old)")
    with contextlib.suppress(OSError):  # it is only for tidiness
        for path in out.parent.iterdir():
            found = left.fullmatch(path.name)
            # While nothing is at `out`, what was there before may have to be put back.
            if found and (out.exists() if found[1] == "old" else _abandoned(path)):
                shutil.rmtree(path, ignore_errors=True)


def _abandoned(folder: Path) -> bool:
    """Whether the process that was writing a folder is gone."""
    try:
        locked(folder / _LOCK, "r+").close()
    except OSError:  # it is held, or about to be there, or gone because the folder is whole
        return False
    return True


def _put(folder: Path, out: Path) -> None:
    """Rename a whole folder to its name; what was there goes once the new one is in its place."""
    (folder / _LOCK).unlink()
    sync(folder)
    before = out.parent / f".{out.name[:100]}.{uuid.uuid4().hex}.old"
    replaced = out.exists()
    if replaced:
        out.rename(before)
    try:
        folder.rename(out)
    except OSError:
        if replaced:
            before.rename(out)
        raise
    sync(out.parent)
    shutil.rmtree(before, ignore_errors=True)
