"""A corpus in memory: bright balls in noise, from three sources; the interface of ``synth.corpus.Corpus``."""

from dataclasses import replace

import numpy as np

from synth.corpus import Sample


class TinyCorpus:
    def __init__(self, path=None, size=16, samples=24, sources=3):
        self.size = size
        self.seed = 0
        self.content_hash = f"tiny-{size}-{samples}-{sources}"
        self.statistics = None
        self.region = {"name": "brain", "modality": "FLAIR"}
        self.channels = [{"region": self.region, "statistics": None}]
        self.sources = [
            {"name": f"set--{n}", "dataset": "set", "licence": "CC0", "terms": "none", "spacing_mm": [2, 2, 2]}
            for n in range(sources)
        ]
        self.normal = np.arange(samples) % sources
        self.donor = (self.normal + 1 + (np.arange(samples) // sources) % max(1, sources - 1)) % sources

    def __len__(self):
        return len(self.normal)

    def spacing_mm(self, index):
        return (2.0, 2.0, 2.0)

    layout = "dense"
    where = "tiny"

    @property
    def shards(self):
        return np.arange(len(self)) // 8

    def recipe(self, index):
        return {"index": float(index)}

    def read(self, index, out):
        sample = self[index]
        for name in ("composite", "normal", "texture", "mask"):
            np.copyto(getattr(out, name), getattr(sample, name))
        return replace(out, alpha=sample.alpha)

    def __getitem__(self, index):
        side = self.size
        noise = np.random.default_rng(int(self.normal[index])).normal(size=(side,) * 3)
        z, y, x = np.indices((side,) * 3) - (side - 1) / 2
        roi = z**2 + y**2 + x**2 < (0.48 * side) ** 2
        normal = np.where(roi, noise, 0).astype(np.float32)
        draw = np.random.default_rng(1000 + index)
        cz, cy, cx = draw.uniform(-side / 5, side / 5, 3)
        ball = ((z - cz) ** 2 + (y - cy) ** 2 + (x - cx) ** 2 < (0.2 * side) ** 2) & roi
        texture = np.where(ball, 4 + 0.3 * noise, 0).astype(np.float32)
        alpha = float(np.float32(draw.uniform(0.5, 0.9)))
        composite = np.where(ball, normal + np.float32(alpha) * (texture - normal), normal).astype(np.float32)
        return Sample(composite, normal, texture, ball.astype(np.uint8), alpha)
