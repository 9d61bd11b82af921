"""The corpus: its format on disk, written, read and verified; of synth, all that `train` may import."""

from scans.image.box import Box
from synth.corpus.reader import Corpus
from synth.corpus.recombine import Recombination, Recombine
from synth.tumour.blend import paste
from synth.tumour.sample import Layer, Normal, Sample, Tumour, Voxels

__all__ = ["Box", "Corpus", "Layer", "Normal", "Recombination", "Recombine", "Sample", "Tumour", "Voxels", "paste"]
