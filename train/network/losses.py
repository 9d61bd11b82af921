"""The losses of layer decomposition (Zhang et al. 2021, Eqs. 6 to 10, with Eq. 9 as its Eq. 5 asks for).

Everything is computed in float32, whatever precision the network ran in. Scans and layers have shape
(N, C, z, y, x) for C modalities, masks and logits (N, 1, z, y, x).
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch.nn import functional

from train.data.batch import Batch
from train.network.dice import soft_dice
from train.network.unet import Layers
from train.settings import Loss


@dataclass(frozen=True)
class Term:
    """A term of the loss of layer decomposition; its weight has its name in `train.settings.Loss`.

    Attributes
    ----------
    meaning : str
        What it is of, for a report.
    of : callable
        Computes it, unweighted, from the layers, the batch, and the settings of the loss.
    trains_mask : bool
        Whether it trains the mask by itself.
    """

    meaning: str
    of: Callable[[Layers, Batch, Loss], torch.Tensor]
    trains_mask: bool = False


TERMS = {
    "l0": Term(
        "normal tissue, L0",
        lambda found, true, how: layer_loss(found.normal, true.normal, true.mask, how.form == "emphasised"),
    ),
    "l1": Term(
        "tumour tissue, L1",
        lambda found, true, how: layer_loss(found.texture, true.texture, true.mask, how.form == "emphasised"),
    ),
    "l2": Term("mask, soft Dice, L2", lambda found, true, _: dice_loss(found.logits, true.mask), trains_mask=True),
    "l3": Term("layers put together, L3", lambda found, true, _: composition_loss(found, true.composite, true.alpha)),
    "cross_entropy": Term(
        "mask, cross-entropy",
        lambda found, true, how: cross_entropy(found.logits, true.mask, how.entropy == "balanced"),
        trains_mask=True,
    ),
}
MEANINGS = {  # of every loss that a training logs, beside its total
    **{name: term.meaning for name, term in TERMS.items()},
    "real_l3": "real scans put together, L3",
    "self_training": "real scans, what is sure",
}


def decomposition_loss(layers: Layers, batch: Batch, weights: Loss) -> dict[str, torch.Tensor]:
    """Return each term by name, unweighted, and their weighted sum as ``total`` (Eq. 10).

    A term of weight 0 is not computed: an ablation by weight costs no time.
    """
    terms = {name: term.of(layers, batch, weights) for name, term in TERMS.items() if getattr(weights, name)}
    total = torch.zeros((), device=batch.composite.device)
    for name, value in terms.items():
        total = total + getattr(weights, name) * value
    return {**terms, "total": total}


def mask_is_trained(weights: Mapping[str, Any]) -> bool:
    """Whether any term trains the mask by itself, of weights as a run's settings have them."""
    return any(weights.get(name, 1) for name, term in TERMS.items() if term.trains_mask)


def layer_loss(predicted: torch.Tensor, truth: torch.Tensor, mask: torch.Tensor, emphasised: bool) -> torch.Tensor:
    """Mean L1 distance of a layer (Eqs. 6 and 7).

    A tumour fills about one voxel in a hundred, so a plain mean is nearly minimised by a tumour layer of
    zeros. The emphasised form adds the mean over the voxels inside the mask, sample by sample.
    """
    distance = (predicted.float() - truth.float()).abs()
    loss = distance.mean()
    if emphasised:
        inside = mask.float()
        spatial = tuple(range(1, distance.ndim))
        voxels = distance.shape[1] * inside.sum(spatial)
        per_sample = (distance * inside).sum(spatial) / voxels.clamp(min=1.0)
        loss = loss + per_sample.mean()
    return loss


def dice_loss(logits: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """Soft Dice loss (Eq. 8), averaged over samples and classes: a small tumour counts as much as a large one.

    Parameters
    ----------
    logits, mask : Tensor, shape (N, K, z, y, x)
        Of K classes.
    """
    return (1.0 - soft_dice(logits.float().sigmoid(), mask.float())).mean()


def cross_entropy(logits: torch.Tensor, mask: torch.Tensor, balanced: bool = False) -> torch.Tensor:
    """Mean cross-entropy of the mask's voxels, not in the paper.

    Parameters
    ----------
    logits, mask : Tensor, shape (N, 1, z, y, x)
    balanced : bool
        All tumour voxels of a batch count as much as all others: of a mean over voxels, one in a hundred of which is
        tumour, little is left to lose once nothing is found.
    """
    truth = mask.float()
    if not balanced:
        return functional.binary_cross_entropy_with_logits(logits.float(), truth)
    entropy = functional.binary_cross_entropy_with_logits(logits.float(), truth, reduction="none")
    inside, outside = ((entropy * where).sum() / where.sum().clamp(min=1.0) for where in (truth, 1.0 - truth))
    return (inside + outside) / 2.0


def composition_loss(layers: Layers, composite: torch.Tensor, alpha: torch.Tensor) -> torch.Tensor:
    """L1 distance between the scan and its predicted layers put together again.

    Eq. 9 is printed with its layers swapped; Eq. 5 gives ``(1 - α·m̂)·x̂ + α·m̂·ŝ``.

    Parameters
    ----------
    layers : Layers
    composite : Tensor, shape (N, C, z, y, x)
        The scan; real ones have ``alpha`` 1.
    alpha : Tensor, shape (N,)
        Blending strength of each sample.
    """
    blend = alpha.float().view(-1, 1, 1, 1, 1) * layers.logits.float().sigmoid()
    together = layers.normal.float() + blend * (layers.texture.float() - layers.normal.float())
    return (together - composite.float()).abs().mean()


def pseudo_label_loss(logits: torch.Tensor, sure: torch.Tensor) -> torch.Tensor:
    """Soft Dice and cross-entropy of a mask, over the voxels whose label is sure; 0 where none is.

    Parameters
    ----------
    logits : Tensor, shape (N, 1, z, y, x)
    sure : Tensor of uint8, same shape
        0: background, 1: tumour, 2: left out.
    """
    known = (sure != 2).float()
    truth = (sure == 1).float()
    spatial = tuple(range(1, logits.ndim))
    entropy = functional.binary_cross_entropy_with_logits(logits.float(), truth, reduction="none")
    per_sample = (entropy * known).sum(spatial) / known.sum(spatial).clamp(min=1.0)
    # A logit far below 0 leaves a voxel that is not sure out of both sums of Eq. 8.
    overlap = dice_loss(logits.float().masked_fill(known == 0, -1e4), truth)
    return per_sample.mean() + overlap
