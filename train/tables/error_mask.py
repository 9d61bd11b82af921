"""Masks of networks whose losses train none (Table VI, L0 and L0 + L1): a level on what their layers say.

The level is chosen on training composites alone, as the threshold row is, and never on a case that is scored.
"""

from dataclasses import replace
from pathlib import Path
from typing import Literal

import numpy as np
import torch

from scans.catalog.catalog import load_catalog
from scans.errors import CheckpointError
from train.cases.prepared import dataset_cases
from train.data.corpora import open_corpus
from train.data.split import evenly, split_by_source
from train.evaluation.evaluate import evaluate_cases
from train.evaluation.result import Evaluation
from train.evaluation.scores_file import write_scores
from train.inference.model import Model, load_model
from train.inference.reading import Asked
from train.network.dice import best_level
from train.network.unet import Layers, UNet
from train.settings import Pretrain, recorded
from train.stages.pretrain import BASELINE_SAMPLES

_SURE = 1e4  # logit a unit beyond the level: the mask is binary

Source = Literal["normal", "tumour"]


def error(scan: torch.Tensor, layers: Layers, source: Source) -> torch.Tensor:
    """Return how much speaks for a tumour, shape (N, 1, z, y, x), in network units; 0 outside the ROI.

    Parameters
    ----------
    scan : Tensor, shape (N, C, z, y, x)
    layers : Layers
    source : str
        ``normal``: distance of scan and predicted normal. ``tumour``: distance of the predicted tumour layer from 0.
        Both are means over modalities.
    """
    distance = (scan.float() - layers.normal if source == "normal" else layers.texture).abs()
    return distance.mean(dim=1, keepdim=True) * (scan != 0).any(dim=1, keepdim=True)


class ErrorMask(UNet):
    """A network whose mask is where `error` is a level or more; its layers are those of another.

    Parameters
    ----------
    network : UNet
    source : str
        As of `error`.
    level : float
    """

    def __init__(self, network: UNet, source: Source, level: float) -> None:
        super().__init__(network.settings)
        self.load_state_dict(network.state_dict())
        self.source, self.level = source, level

    def forward(self, scan: torch.Tensor) -> Layers:
        """Take scans of shape (N, C, z, y, x) apart."""
        layers = super().forward(scan)
        alone = scan[:, : self.settings.in_channels]  # without its mirror image
        return layers._replace(logits=(error(alone, layers, self.source) - self.level) * _SURE)


def evaluate_by_error(
    checkpoint: Path,
    corpus_path: Path,
    source: Source,
    catalog: Path,
    dataset_name: str,
    out: Path,
    device: str = "auto",
) -> Evaluation:
    """Score a network on all cases of a dataset, as ``train evaluate`` does, with the mask of `error`.

    ``scores.json`` names the source of the mask, its level, and its Dice where it was chosen.
    """
    from train.evaluation.report import write_report

    model = load_model(checkpoint, device, asked=Asked(read="plain"))
    level, there = level_for(model, corpus_path, source)
    assert isinstance(model.network, UNet)
    network = ErrorMask(model.network, source, level).eval()
    model.machine.place(network)
    model = replace(model, network=network)
    dataset, cases = dataset_cases(load_catalog(catalog), dataset_name, model.regions)
    results = list(evaluate_cases(model, cases, dataset, out / "masks"))
    evaluation = Evaluation(model, dataset_name, dataset, results, f"all {len(cases)} cases")
    write_scores(evaluation, out, mask_from={"source": source, "level": level, "dice": there})
    write_report(evaluation, out / "report.html")
    return evaluation


def level_for(model: Model, corpus_path: Path, source: Source) -> tuple[float, float]:
    """Choose the level on training composites of the corpus that the network was trained on.

    Raises
    ------
    CheckpointError
        If the corpus is another.
    """
    corpus = open_corpus(corpus_path)
    if corpus.content_hash != model.record.data.get("corpus"):
        raise CheckpointError(f"{model.path}: was not trained on {corpus_path}; give the corpus of its training")
    settings = recorded(Pretrain, model.record.settings, str(model.path))
    held_out = tuple(model.record.data.get("held_out", ()))
    split = split_by_source(corpus, held_out, settings.schedule.seed, settings.validation_samples)
    errors, truths = [], []
    for number in evenly(split.training, BASELINE_SAMPLES):
        sample = corpus[int(number)]
        scan = torch.from_numpy(np.array(sample.composite).reshape(1, -1, *sample.mask.shape)).to(model.machine.device)
        with torch.inference_mode(), model.machine.autocast():
            layers = model.network(scan)
        errors.append(error(scan, layers, source)[0, 0].cpu().numpy())
        truths.append(np.asarray(sample.mask).reshape(errors[-1].shape) != 0)
    return best_level(errors, truths)
