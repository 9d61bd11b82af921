"""What to segment of a BIDS dataset: its scans, with the brain masks of its derivatives."""

from collections.abc import Callable, Sequence
from pathlib import Path, PurePosixPath

from scans.catalog.bids_dataset import check_bids
from scans.catalog.layout import checked_names
from scans.file_names import in_utf8
from scans.formats.bids import BRAIN, FoundScan, find_scans, name_of_modality
from train.inference.model import wanted
from train.segmentation.inputs import Input
from train.segmentation.search import counted
from train.settings import SettingsError


def find_bids_inputs(
    root: Path,
    modalities: Sequence[str],
    *,
    suffixes: Sequence[str] = (),
    pipelines: Sequence[str] = (),
    say: Callable[[str], None] = lambda sentence: None,
) -> list[Input]:
    """Find the scans of a BIDS dataset that a network takes.

    Parameters
    ----------
    root : Path
        Folder that holds ``sub-*``.
    modalities : sequence of str
        What the network takes, in its order.
    suffixes : sequence of str
        How each is called, such as ``FLAIR`` or ``acq-3D_T1w``; what BIDS calls it if none is given.
    pipelines : sequence of str
        Folders below ``derivatives`` to take brain masks of; all but our own if none is given.
    say : callable
        Told what was found.

    Returns
    -------
    list of Input
        Each case is called ``sub-01/anat/sub-01``: where its derivatives lie, and how their names begin.

    Raises
    ------
    UserError
        If it is no BIDS dataset, has no such scan, or the names do not fit the network.
    """
    check_bids(root)
    if suffixes and len(suffixes) != len(modalities):
        raise SettingsError(f"{len(suffixes)} --suffix; {wanted(modalities)}, so give one for each")
    names = checked_names(suffixes or [name_of_modality(modality) for modality in modalities], "--suffix")
    images = {modality: [name] for modality, name in zip(modalities, names, strict=True)}
    scans = find_scans(root, images, {"roi": BRAIN}, pipelines)
    if not scans:
        raise SettingsError(
            f"--bids {root}: no scan in its anat folders is called {' or '.join(names)}; say with --suffix what is"
        )
    masked = sum("roi" in scan.masks for scan in scans)
    say(f"{root}: {counted(len(scans), 'scan')}, {masked} of them with a brain mask")
    return [_input(scan) for scan in scans]


def _input(found: FoundScan) -> Input:
    folder = PurePosixPath(found.images[0].place).parent
    roi = found.masks.get("roi")
    scans = tuple(scan.path for scan in found.images)
    return Input(in_utf8(str(folder / found.name)), scans, roi.path if roi else None, found.problem)
