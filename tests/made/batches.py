"""Batches put together the slow way, to compare with."""

import numpy as np
import torch

from train.data.batch import Batch


def collate(samples):
    """Stack samples of one modality, (z, y, x), or of several, (C, z, y, x), into a batch."""

    def stack(name):
        volumes = [getattr(sample, name) for sample in samples]
        cube = volumes[0].shape[-3:]
        return torch.from_numpy(np.stack([v.reshape(-1, *cube) for v in volumes]).astype(np.float32))

    mask = torch.from_numpy(np.stack([sample.mask for sample in samples])[:, None].astype(np.uint8))
    alpha = torch.tensor([sample.alpha for sample in samples], dtype=torch.float32)
    return Batch(stack("composite"), stack("normal"), stack("texture"), mask, alpha)
