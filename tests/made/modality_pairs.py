"""Scans of two modalities on one grid, and a network that looks at one of them."""

from pathlib import Path

import numpy as np
import torch

from scans.image.volume import write_volume
from tests.made.real_scans import head
from tests.made.tiny_checkpoint import REGION, bright_network
from train.network.checkpoint import save_checkpoint
from train.network.record import Record
from train.network.unet import UNet
from train.settings import Network

CATALOG = """
regions:
  brain: {modality: FLAIR}
datasets:
  heads:
    role: tumour
    region: brain
    modality: [FLAIR, T1]
    licence: CC0
    terms: none
    redistribute_derived: true
    citation: nobody
    obtain: made here
    root: {path: FOLDER}
    layout:
      image: {FLAIR: "{case}_flair.nii.gz", T1: "{case}_t1.nii.gz"}
      label: "{case}_seg.nii.gz"
"""


def write_pair(folder: Path, name: str, **made) -> None:
    """Write a FLAIR scan with a bright tumour, and a T1 scan of the same head in which it is dark."""
    folder.mkdir(parents=True, exist_ok=True)
    flair, tumour, brain = head(**made)
    t1 = flair.with_array(np.where(brain.array > 0, 300 - flair.array, 0).astype(np.float32))
    for volume, what in ((flair, "flair"), (t1, "t1"), (tumour, "seg")):
        write_volume(volume, folder / f"{name}_{what}.nii.gz")


def write_pairs_catalog(path: Path, folder: Path) -> Path:
    path.write_text(CATALOG.replace("FOLDER", str(folder)), encoding="utf-8")
    return path


def channel(modality: str) -> dict:
    return {"region": {**REGION, "modality": modality}, "statistics": None}


def save_looking_at(path: Path, seen: str, modalities: tuple[str, ...], size: int = 48, **changed) -> Path:
    """Save a checkpoint whose network finds what is bright in one of its modalities, whatever the others show."""
    one, many = bright_network(), UNet(Network(width=2, in_channels=len(modalities)))
    weights = one.state_dict()
    first, head_weight, head_bias = (weights.pop(n) for n in ("encoder.levels.0.0.weight", "head.weight", "head.bias"))
    here, count = modalities.index(seen), len(modalities)
    wider = {name: torch.zeros_like(tensor) for name, tensor in many.state_dict().items()} | weights
    wider["encoder.levels.0.0.weight"][:, here] = first[:, 0]
    for old, new in ((0, here), (1, count + here), (2, 2 * count)):
        wider["head.weight"][new], wider["head.bias"][new] = head_weight[old], head_bias[old]
    many.load_state_dict(wider)
    values = {
        "stage": "pretrain", "step": 1, "settings": {}, "network": {"width": 2, "in_channels": count},
        "channels": [channel(modality) for modality in modalities], "size": size,
        "data": {"corpus": "ab" * 32, "corpus_samples": 5, "split": "none", "sources": []},
        "threshold": {"sigma_mm": 1.0, "level": 1.0, "side": "above", "dice": 0.5},
    }  # fmt: skip
    save_checkpoint(path, Record(**{**values, **changed}), many)
    return path
