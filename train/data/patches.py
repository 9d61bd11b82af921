"""Patches: parts of samples at the scale of an organ's tumours, some around a tumour, some around any of the organ."""

from collections.abc import Callable, Sequence

from scans.image.box import Box
from synth.corpus import Corpus, Normal, Sample, Tumour, Voxels, paste
from train.data.corpora import Corpora
from train.data.random_bits import Draws
from train.settings import SettingsError

_STREAM = 2**61  # streams of random bits beside the order of samples and their variation
_MARGIN = 4  # a quarter of a patch: what it is around lies no nearer to its faces


class Patches:
    """Patches of a corpus's samples, each a pure function of (seed, number).

    A share of them is around a voxel of a tumour, so that a network sees as many as it takes to learn them, though they
    fill a thousandth of the organ. The others are around any voxel of the ROI: healthy tissue, its surface, a tumour.

    Parameters
    ----------
    corpus : Corpus
    side : int
        Voxels along each side of a patch.
    tumour_share : float
        Of patches around a tumour. A sample without one has patches of the other kind.
    seed : int
    tumour : callable
        Returns the position of a sample's normal and its tumour, by the patch's number.
    """

    def __init__(
        self,
        corpus: Corpus,
        side: int,
        tumour_share: float,
        seed: int,
        tumour: Callable[[int], tuple[int, Tumour]],
    ) -> None:
        self.corpus, self.side, self.tumour_share, self.seed = corpus, side, tumour_share, seed
        self._tumour = tumour

    def read(self, number: int, out: Sample) -> Sample:
        """Write a patch into arrays that are there, of its sides; see `synth.corpus.Corpus.read`."""
        position, tumour = self._tumour(number)
        normal = self.corpus.source(position)
        window = self._window(number, normal, tumour)
        return paste(normal.voxels[window], tumour.within(window), out)

    def window(self, number: int) -> Box:
        """Return where a patch lies in its sample's cube (z, y, x)."""
        position, tumour = self._tumour(number)
        return self._window(number, self.corpus.source(position), tumour)

    def _window(self, number: int, normal: Normal, tumour: Tumour) -> Box:
        inside, corner = Voxels(tumour.mask != 0), [part.start for part in tumour.box]
        shape = normal.voxels.shape
        return patch_window(shape, self.side, self.tumour_share, self.seed, number, normal.centres, inside, corner)


def patch_window(
    shape: Sequence[int],
    side: int,
    tumour_share: float,
    seed: int,
    number: int,
    organ: Voxels,
    tumour: Voxels,
    corner: Sequence[int] = (0, 0, 0),
) -> Box:
    """Draw where a patch lies in a scan.

    Parameters
    ----------
    shape : sequence of int
        Of the scan (z, y, x).
    side : int
    tumour_share : float
        As of `Patches`.
    seed, number : int
        What is drawn is a function of them.
    organ, tumour : Voxels
        What patches are around: one of all its voxels, each as likely.
    corner : sequence of int
        Where the tumour's voxels are counted from (z, y, x).
    """
    wanted, which, *places = Draws(seed, _STREAM + number).uniforms(5).tolist()
    if wanted < tumour_share and len(tumour):
        centre = [c + v for c, v in zip(corner, tumour[int(which * len(tumour))], strict=True)]
    elif len(organ):
        centre = list(organ[int(which * len(organ))])
    else:
        centre = [length // 2 for length in shape]
    margin = side // _MARGIN
    starts = [c - margin - int(u * (side - 2 * margin)) for c, u in zip(centre, places, strict=True)]
    z, y, x = (min(max(s, 0), length - side) for s, length in zip(starts, shape, strict=True))
    return slice(z, z + side), slice(y, y + side), slice(x, x + side)


def patchable(corpus: Corpus | Corpora) -> Corpus:
    """Return a corpus that patches can be cut from.

    Raises
    ------
    SettingsError
        If it is of several modalities, or dense.
    """
    if isinstance(corpus, Corpora):
        raise SettingsError(f"{corpus.where}: patches are cut of one modality; train on one, or with --patch whole")
    if corpus.layout != "layered":
        raise SettingsError(
            f"{corpus.where}: patches are cut from a layered corpus, and this one is dense; "
            "make it with --layout layered, or train with --patch whole"
        )
    return corpus
