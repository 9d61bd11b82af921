"""The recipe of `compound`: every random choice behind one of its samples, as plain numbers."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from synth.tumour.number import HIGH, INDEX, TRIES, VOLUME, WORD, described
from synth.tumour.recipe import Numbers

NO_PART, CORE, CAVITY, RING = range(4)


_FLAG: Callable[[Any], Sequence[tuple[float, float]]] = lambda settings: ((0, 1),)  # noqa: E731


def _has_parts(settings: Any) -> bool:
    return bool(settings.parts.core + settings.parts.cavity + settings.parts.ring)


def _part_contrasts(settings: Any) -> Sequence[tuple[float, float]]:
    parts = settings.parts
    return parts.core_contrast, parts.cavity_contrast, parts.necrosis_contrast


@dataclass(frozen=True)
class CompoundRecipe(Numbers):
    """What makes sample `index` of a corpus.

    Attributes
    ----------
    index : int
    normal, donor : int
        Positions in the corpus's list of sources.
    centre_z, centre_y, centre_x : int
        Centre voxel of the first tumour; with `foci` 0, where it would have been.
    drawn_volume_mm3, volume_mm3 : float
        Of the first tumour: drawn, and used: smaller if no centre left enough of the drawn one.
    axis_ratio : float
        q of the semi-axes (r, r/q, r*q).
    rotation_w, rotation_x, rotation_y, rotation_z : float
        Unit quaternion.
    one_side : int
        1 if the tumour ends at the cube's middle plane between left and right, else 0.
    octaves : int
    noise_high, noise_low : int
        Upper 31 and lower 32 bits of the noise's seed.
    tries : int
        Centres tried.
    kept : float
        Share of the first form's voxels that the ROI left.
    foci : int
        Tumours asked for; 0 for a scan without any. Where there is no room, fewer are laid.
    foci_high, foci_low : int
        Upper and lower 32 bits of the seed that their places and forms come from.
    contrast : float
        What is seen of the main part: its mean less that of the normal around it, in the settings' unit.
    darker : int
        1 if it is darker than what lies around, else 0.
    part : int
        0 none, 1 a core, 2 a cavity, 3 a necrotic centre in a bright ring.
    part_volume : float
        Of the part's form over the tumour's; the rim takes away what would touch the surface.
    part_contrast : float
        To what lies around the tumour, in the settings' unit.
    rim_mm, ring_mm, ring_gain : float
        Least depth of a part; width of a ring, and its contrast over the main part's, less 1.
    part_high, part_low : int
        Upper and lower 32 bits of the seed of the part's form and place.
    edge_mm : float
        Over which the blend rises from nothing to its full strength, on the sharp side.
    diffuse : int
        1 if the other side is diffuse, else 0.
    diffuse_mm : float
        Width of the edge there.
    diffuse_high, diffuse_low : int
        Upper and lower 32 bits of the seed of its direction.
    spared : int
        1 if the tumour ends at fluid, 0 if it lies over it.
    follow_mm : float
        How far the surface moves outward where the tissue is darker by one unit of the network.
    own : int
        1 if the tissue's structure is the normal's own, 0 if it is the donor's.
    heterogeneity : float
        Share of that structure which is kept.
    fade : float
        Contrast in the middle over the mean, less 1; at the surface as much below it.
    sigma_mm : float
        Of the blur of a donor's structure.
    elastic_high, elastic_low : int
        Upper and lower 32 bits of the seed of the donor's elastic deformation.
    spots, caps : int
        Bright spots, and caps of ventricles, that are no tumours.
    distractor_high, distractor_low : int
        Upper and lower 32 bits of the seed that these come from.
    alpha : float
    """

    index: int = field(metadata=INDEX)
    normal: int
    donor: int
    centre_z: int
    centre_y: int
    centre_x: int
    drawn_volume_mm3: float = field(metadata=described(
        lambda settings: (settings.shape.volume_mm3,), words="volume of the form as drawn, in mm3",
        name="volume drawn", unit="ml", per_unit=1000, section="Volume", drawn=True,
        log=lambda settings: settings.shape.volume_law == "log-uniform",
    ))  # fmt: skip
    volume_mm3: float = field(metadata=VOLUME)
    axis_ratio: float = field(metadata=described(
        lambda settings: (settings.shape.axis_ratio,), words="q of the form's semi-axes r, r/q, r*q",
        name="axis ratio q", short="q {:.2f}", section="Shape", drawn=True,
    ))  # fmt: skip
    rotation_w: float
    rotation_x: float
    rotation_y: float
    rotation_z: float
    one_side: int = field(metadata=described(
        _FLAG, words="1 if the tumour ends at the plane between left and right, else 0",
        used=lambda settings: settings.shape.one_side > 0,
    ))  # fmt: skip
    octaves: int = field(metadata=described(
        lambda settings: (settings.shape.octaves,), words="octaves of the form's surface noise",
        name="octaves of surface noise", short="octaves {:.0f}", section="Shape", drawn=True,
    ))  # fmt: skip
    noise_high: int = field(metadata=HIGH)
    noise_low: int = field(metadata=WORD)
    tries: int = field(metadata=TRIES)
    kept: float = field(metadata=described(
        lambda settings: ((settings.least_kept, math.inf),), name="share kept by the ROI",
        words="share of the form's voxels that the region of interest left",
    ))  # fmt: skip
    foci: int = field(metadata=described(
        lambda settings: ((0, max(1, settings.foci.most)),), words="tumours in the scan; 0: a scan without a tumour",
        name="tumours in the scan", short="{:.0f} foci", section="Choice",
    ))  # fmt: skip
    foci_high: int = field(metadata=WORD)
    foci_low: int = field(metadata=WORD)
    contrast: float = field(metadata=described(
        lambda settings: (settings.contrast.strength,), name="contrast drawn", short="contrast {:.2f}",
        words="visible contrast of the main part to the tissue around it, without its sign", section="Contrast",
        drawn=True, log=lambda settings: settings.contrast.law == "log-uniform",
    ))  # fmt: skip
    darker: int = field(
        metadata=described(_FLAG, words="1 if the tumour is darker than the tissue around it, 0 if brighter")
    )
    part: int = field(metadata=described(
        lambda settings: ((0, 3),), words="second part: 0 none, 1 core, 2 cavity, 3 necrotic centre in a bright ring",
        name="second part", short="part {:.0f}", section="Shape", used=_has_parts,
    ))  # fmt: skip
    part_volume: float = field(metadata=described(
        lambda settings: (settings.parts.volume,), words="volume of the part's form over the tumour's",
        name="volume of the part over the tumour's", section="Shape", drawn=True, log=lambda settings: True,
        used=_has_parts,
    ))  # fmt: skip
    part_contrast: float = field(metadata=described(
        _part_contrasts, words="contrast of the second part to the tissue around the tumour", used=_has_parts,
    ))  # fmt: skip
    rim_mm: float = field(metadata=described(
        lambda settings: (settings.parts.rim_mm,), words="least depth of a second part below the surface, in mm",
        name="rim around a part", unit="mm", section="Shape", drawn=True, used=_has_parts,
    ))  # fmt: skip
    ring_mm: float = field(metadata=described(
        lambda settings: (settings.parts.ring_mm,), words="width of the bright ring, in mm",
        name="width of a ring", unit="mm", section="Shape", drawn=True, used=lambda settings: settings.parts.ring > 0,
    ))  # fmt: skip
    ring_gain: float = field(metadata=described(
        lambda settings: (settings.parts.ring_gain,), words="contrast of the bright ring over the tumour's, less 1",
        name="gain of a ring", section="Contrast", drawn=True, used=lambda settings: settings.parts.ring > 0,
    ))  # fmt: skip
    part_high: int = field(metadata=WORD)
    part_low: int = field(metadata=WORD)
    edge_mm: float = field(metadata=described(
        lambda settings: (settings.edge.width_mm,), words="width of the soft edge, in mm",
        name="width of the edge", unit="mm", short="edge {:.1f} mm", section="Contrast", drawn=True,
    ))  # fmt: skip
    diffuse: int = field(metadata=described(
        _FLAG, words="1 if one side of the edge is diffuse, else 0", used=lambda settings: settings.edge.diffuse > 0,
    ))  # fmt: skip
    diffuse_mm: float = field(metadata=described(
        lambda settings: (settings.edge.diffuse_mm,), words="width of the edge on the diffuse side, in mm",
        name="width of a diffuse edge", unit="mm", section="Contrast", drawn=True,
        used=lambda settings: settings.edge.diffuse > 0,
    ))  # fmt: skip
    diffuse_high: int = field(metadata=WORD)
    diffuse_low: int = field(metadata=WORD)
    spared: int = field(metadata=described(
        _FLAG, words="1 if the tumour ends at fluid, 0 if it lies over it",
        used=lambda settings: settings.edge.spared > 0 and settings.fluid is not None,
    ))  # fmt: skip
    follow_mm: float = field(metadata=described(
        lambda settings: (settings.edge.follow_mm,), words="how far the surface moves into darker tissue, in mm",
        name="surface into darker tissue", unit="mm", section="Shape", drawn=True,
    ))  # fmt: skip
    own: int = field(metadata=described(_FLAG, words="1 if the texture is the normal's own tissue, 0 if the donor's"))
    heterogeneity: float = field(metadata=described(
        lambda settings: (settings.tissue.heterogeneity,), words="share of the tissue's structure that is kept",
        name="heterogeneity", short="heterogeneity {:.2f}", section="Contrast", drawn=True,
    ))  # fmt: skip
    fade: float = field(metadata=described(
        lambda settings: (settings.tissue.fade,), words="contrast in the middle over the mean, less 1",
        name="fade to the surface", short="fade {:.2f}", section="Contrast", drawn=True,
    ))  # fmt: skip
    sigma_mm: float = field(metadata=described(
        lambda settings: (settings.tissue.sigma_mm,), name="blur σ", unit="mm", short="blur {:.1f} mm",
        words="standard deviation of the Gaussian blur of a donor's tissue, in mm", section="Contrast", drawn=True,
        used=lambda settings: settings.tissue.own < 1,
    ))  # fmt: skip
    elastic_high: int = field(metadata=WORD)
    elastic_low: int = field(metadata=WORD)
    spots: int = field(metadata=described(
        lambda settings: ((0, settings.distractors.most_spots),), words="bright spots that are no tumours",
        name="spots", section="Choice", used=lambda settings: settings.distractors.spots > 0,
    ))  # fmt: skip
    caps: int = field(metadata=described(
        lambda settings: ((0, settings.distractors.most_caps),), words="bright caps of ventricles that are no tumours",
        name="caps of ventricles", section="Choice", used=lambda settings: settings.distractors.caps > 0,
    ))  # fmt: skip
    distractor_high: int = field(metadata=WORD)
    distractor_low: int = field(metadata=WORD)
    alpha: float = field(metadata=described(
        lambda settings: (settings.alpha,), words="blending strength, 0 to 1", name="alpha", short="alpha {:.2f}",
        section="Contrast", drawn=True,
    ))  # fmt: skip
