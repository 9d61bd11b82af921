"""Caveats: what a corpus is for, what its tumours lack, and what it may teach wrongly, in plain sentences.

One text for all who ask: the data card shows it to people, the Croissant metadata to programs.
"""

from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from scans.catalog.synthesis import Synthesis
from scans.markdown import clean
from synth.generators.way import Way

if TYPE_CHECKING:
    from synth.corpus import Corpus


PAPER = """@article{zhang2021layerdecomposition,
  title   = {Self-supervised Tumor Segmentation through Layer Decomposition},
  author  = {Zhang, Xiaoman and Xie, Weidi and Huang, Chaoqin and Zhang, Ya and Wang, Yanfeng},
  journal = {arXiv},
  year    = {2021}
}"""
METHOD = (
    "A form is drawn, an ellipsoid displaced by simplex noise, placed at random in the region of interest of a healthy "
    "scan (the normal) and cut to that region.",
    "Healthy tissue of another scan (the donor) is scaled in brightness, blurred and warped, and becomes the tumour's "
    "texture.",
    "Texture and normal are blended with a random strength alpha inside the form, so that every sample comes with the "
    "layers that it was made of and with an exact mask.",
)
REAL = (
    "The tumour of a real scan is cut out by its mask, drawn by an annotator or by a network, tissue and all, and "
    "placed at random in the region of interest of a healthy scan, in units of the deviation of either's healthy "
    "tissue.",
)
USES = (
    "Pretraining of networks that segment tumours, before they see real ones.",
    "Development and tests of segmentation methods where the exact answer must be known.",
)
NOT_FOR = (
    "Clinical use: nothing here shows a patient's disease.",
    "Saying how well a network segments real tumours; that takes real, annotated scans.",
    "Statistics of disease: sizes, places and contrasts follow laws that were chosen, not measured.",
)
PRIVACY = (
    "The scans show people. Only the region of interest is kept, voxels outside it are 0; names of cases and of input "
    "files stand in zarr.json as their datasets give them.",
    "The shape of an organ may tell whose it is. Nobody should try to find out; where the terms of a dataset forbid "
    "it, they hold for what is made from its scans too.",
)
SOCIAL_IMPACT = (
    "Less annotation by hand, and fewer scans of patients that must be passed around. A network trained on artificial "
    "tumours alone can be sure and wrong, most where real tumours differ from them: test it on real, local scans."
)


def method(ways: Sequence[Way]) -> tuple[str, ...]:
    """Say how the samples were made."""
    settings = _of_layers(ways)
    real = [bool(each.donor.tumours) for each in settings]
    others = {way.name: " ".join((way.generator.__doc__ or "").split()) for way in ways if way.name != "layers"}
    said = [f"Generator {name}, version {_version(ways, name)}: {words}" for name, words in others.items()]
    if settings:
        said += [*(() if all(real) else METHOD[:-1]), *(REAL if any(real) else ())]
    return (*said, METHOD[-1])


def _of_layers(ways: Sequence[Way]) -> list[Synthesis]:
    return [way.settings for way in ways if way.name == "layers"]


def _version(ways: Sequence[Way], name: str) -> int:
    return max(way.generator.version for way in ways if way.name == name)


def limitations(ways: Sequence[Way]) -> list[str]:
    """Say what the tumours of a corpus lack.

    Parameters
    ----------
    ways : sequence of Way
        Of each generation of the corpus.
    """
    settings = _of_layers(ways)
    others = [
        "Centres and volumes follow the laws set; real tumours keep to neither, and push aside what is around them.",
        "Tumours are of one modality, and look as their generator's laws have it: what those leave out is not learned.",
    ]
    if not settings:
        return others
    soft = max(each.mask.soft_mm for each in settings)
    drawn = [each for each in settings if not each.donor.tumours]
    beyond = f" but for a soft edge (a blur of {soft:g} mm)" if soft else ", voxel by voxel"
    healthy = (
        "A tumour is healthy tissue in another brightness: no necrosis, no enhancing rim, no haemorrhage, no "
        "calcification, no infiltration and no oedema around it."
    )
    few = "Real tumours are those of a few scans alone, and lie where they would not grow."
    return [
        *([healthy] if drawn else []),
        *([few] if len(drawn) < len(settings) else []),
        f"Nothing is pushed aside: around the mask the normal is unchanged{beyond}.",
        *([_contrast(drawn)] if drawn else []),
        "Centres are uniform over the region of interest, volumes follow the law set; real tumours keep to neither."
        if drawn
        else "Centres are uniform over the region of interest; tumours where they grew are not.",
        "One tumour a sample, in one modality.",
        *(others if len(settings) < len(ways) else []),
        "Alpha and brightness are drawn without a look at the place, so some tumours cannot be seen in the composite.",
    ]


def biases(corpus: "Corpus") -> list[str]:
    """Say what a corpus shows too often, and whom it may not show at all."""
    sources = corpus.sources
    count, samples = len(sources), np.bincount(corpus.normal, minlength=len(sources)).tolist()
    datasets: Counter[str] = Counter()
    for source, times in zip(sources, samples, strict=True):
        datasets[clean(source["dataset"])] += times
    dataset, share = datasets.most_common(1)[0]
    sentences = [
        f"{len(corpus):,} samples share {count:,} scan{'s' * (count > 1)}, the same anatomy up to {max(samples):,} "
        "times: split training and validation by scan, not by sample.",
        "Who is rare in the source datasets is rare here: age, sex, origin, scanner and protocol are theirs, and the "
        "corpus records none of them.",
        "Scans count as healthy because their datasets say so; what is wrong in them and not marked as a lesion is "
        "taught as normal.",
    ]
    if len(datasets) > 1:
        sentences.append(f"{share / len(corpus):.0%} of the normals are from one dataset, {dataset}.")
    if count == 1:
        sentences.append("The only scan lends its own texture: normal and donor are the same.")
    if corpus.region.get("field_of_view", {}).get("kind") == "resize":
        sentences.append(
            "The box around each organ is stretched to the cube: voxels are not cubic, and not the same in all scans."
        )
    return sentences


def _contrast(settings: Sequence[Synthesis]) -> str:
    if not any(each.linear.enabled for each in settings):
        return "The donor's brightness is left as it is, so tumours differ from the normal only as two scans do."
    spans = [span for each in settings if each.linear.enabled for span in each.linear.ratio]
    low, high = min(low for low, _ in spans), max(high for _, high in spans)
    if low >= 1:
        kind = "never darker than"
    elif high <= 1:
        kind = "never brighter than"
    else:
        kind = "darker or brighter than"
    return (
        f"The donor's mean becomes r times the normal's, r from {low:g} to {high:g}: tumours are on average {kind} "
        "normal tissue, and of one brightness throughout but for the donor's own structure."
    )
