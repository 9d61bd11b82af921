"""The settings of `compound`: each ingredient of a tumour's look once, with its default for FLAIR and its source."""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from scans.catalog.settings import Interval, Strict

Share = Annotated[float, Field(ge=0, le=1)]  # a probability; 0 switches its ingredient off, all other choices stay
Millimetres = Annotated[float, Field(ge=0, le=100)]


def _spans(interval: Interval, name: str, low: float, high: float) -> None:
    if not low <= interval[0] <= interval[1] <= high:
        raise ValueError(f"{name} must lie in [{low:g}, {high:g}]")


class Shape(Strict):
    """A tumour's form: a sphere displaced by simplex noise, scaled, rotated (Zhang et al. 2021, Sec. III-A).

    A tumour of one side ends at the cube's middle plane between left and right, unless less than half would be left.
    """

    volume_mm3: Interval = (2_000.0, 200_000.0)  # method: to 200 ml; ours: from 2 ml on, early gliomas are small
    volume_law: Literal["uniform", "log-uniform"] = "log-uniform"  # ours: small tumours are as hard as large ones
    octaves: tuple[int, int] = (3, 5)  # ours: the method's 6 and 7 displace by less than a hundredth of the radius
    amplitude: float = Field(0.5, ge=0, lt=1)  # method
    one_side: Share = 0.7  # measured: most gliomas end at the falx; 0 where the cube has no plane between two halves
    axis_ratio: Interval = (0.7, 1.0)  # method has 0.8; ours: tracts and the skull flatten large gliomas further

    @model_validator(mode="after")
    def _positive(self) -> "Shape":
        _spans(self.volume_mm3, "shape.volume_mm3", 1.0, 1e7)
        _spans(self.axis_ratio, "shape.axis_ratio", 0.05, 1.0)
        if not 1 <= self.octaves[0] <= self.octaves[1] <= 12:
            raise ValueError("shape.octaves must be two whole numbers from 1 to 12, the lower first")
        return self


class Contrast(Strict):
    """What is seen of a tumour: the mean of the composite inside it less the normal's around it.

    The law is that of the tumour's main part, so that a cavity does not undo its floor. Around is what lies within 6 mm
    of its surface and is no fluid.
    """

    strength: Interval = (0.5, 3.5)  # measured: 1.1 to 2.7; ours: from what is seen only beside the other hemisphere
    law: Literal["uniform", "log-uniform"] = "log-uniform"  # ours: faint ones are the hard ones
    unit: Literal["sd", "raw"] = "sd"  # of the normal's tissue; or the scan's own unit, HU of a CT
    darker: Share = 0.0  # clinical: gliomas are bright in FLAIR

    @model_validator(mode="after")
    def _visible(self) -> "Contrast":
        _spans(self.strength, "contrast.strength", 1e-6, 1e4)
        return self


class Parts(Strict):
    """A second part inside a tumour; contrasts are to what lies around the tumour, in the unit of `Contrast`."""

    core: Share = 0.15  # SynthTumour 2025: one in ten has a core that is nearly as bright as the tissue around
    cavity: Share = 0.20  # measured: half of two of nine gliomas is a dark cavity
    ring: Share = 0.15  # clinical: a necrotic centre within a bright ring, as in glioblastoma
    volume: Interval = (0.05, 0.5)  # of the tumour's; clinical: cavities fill up to half
    rim_mm: Interval = (2.0, 6.0)  # ours: what is left of the main part all around
    core_contrast: Interval = (-0.3, 0.3)  # SynthTumour 2025: nearly none
    cavity_contrast: Interval = (-3.0, -0.7)  # measured: to that of ventricles, 3 below the tissue around
    necrosis_contrast: Interval = (-1.0, 0.5)  # clinical: fluid rich in protein is not as dark
    ring_mm: Interval = (2.0, 5.0)  # clinical
    ring_gain: Interval = (0.2, 0.8)  # ours: brighter than the main part by this share of its contrast
    border_mm: Millimetres = 4.0  # measured: 4 to 6; over which one part passes into the next

    @model_validator(mode="after")
    def _one_of_them(self) -> "Parts":
        if self.core + self.cavity + self.ring > 1:
            raise ValueError("parts.core, parts.cavity and parts.ring must not add up to more than 1")
        _spans(self.volume, "parts.volume", 0.001, 0.9)
        _spans(self.rim_mm, "parts.rim_mm", 0.0, 50.0)
        _spans(self.ring_mm, "parts.ring_mm", 0.1, 50.0)
        _spans(self.ring_gain, "parts.ring_gain", -2.0, 10.0)
        for name in ("core_contrast", "cavity_contrast", "necrosis_contrast"):
            _spans(getattr(self, name), f"parts.{name}", -1e4, 1e4)
        return self


class Edge(Strict):
    """The blend's edge: half of its strength at the tumour's surface, where the mask ends.

    It is no wider than the tumour's least radius, nor its diffuse side than twice that.

    A tumour that spares fluid ends where the smoothed normal falls below ``fluid``, and its mask with it, unless less
    than half of it would be left.
    """

    width_mm: Interval = (
        1.5,
        5.0,
    )  # SynthTumour 2025 blurs by 1 to 2 voxels: twice the deviation of a blur is its width
    diffuse: Share = 0.35  # clinical: gliomas infiltrate, most of them to one side
    diffuse_mm: Interval = (5.0, 20.0)  # ours: width of the edge on that side
    spared: Share = 0.6  # clinical: gliomas end at ventricles and sulci; the others push them aside
    follow_mm: Interval = (
        0.0,
        5.0,
    )  # clinical: oedema runs along white matter, darker in FLAIR than the cortex it spares

    @model_validator(mode="after")
    def _some(self) -> "Edge":
        _spans(self.width_mm, "edge.width_mm", 0.01, 50.0)
        _spans(self.diffuse_mm, "edge.diffuse_mm", 0.01, 100.0)
        _spans(self.follow_mm, "edge.follow_mm", -20.0, 20.0)
        return self


class Tissue(Strict):
    """What fills a tumour above its mean: structure of the donor's or of the normal's own tissue, and its grain.

    The grain, what a light blur takes from the normal, is added to the tissue, so that a composite is as noisy inside
    as outside: two independent fields averaged are quieter, a cue that no real tumour gives.
    """

    own: Share = 0.5  # SynthTumour 2025: the tissue's own, blurred, keeps the anatomy under an infiltration
    heterogeneity: Interval = (0.2, 1.3)  # ours: how much of the structure is kept; 1 all of it
    fade: Interval = (-0.2, 0.8)  # measured: most real gliomas are brightest within; 0 as bright to the surface
    sigma_mm: Interval = (1.5, 4.0)  # ours: blur of a donor's structure, coarser than the grain
    grain_mm: float = Field(1.5, gt=0, le=20)  # ours: blur that tells structure from grain
    max_displacement_mm: Millimetres = 7.5  # method: elastic deformation of the donor, 7 control points an axis

    @model_validator(mode="after")
    def _within_reason(self) -> "Tissue":
        _spans(self.sigma_mm, "tissue.sigma_mm", 0.0, 50.0)
        _spans(self.heterogeneity, "tissue.heterogeneity", 0.0, 10.0)
        _spans(self.fade, "tissue.fade", -0.9, 0.9)
        return self


class Foci(Strict):
    """Further tumours of the same kind beside the first, smaller than it; small ones are kept."""

    several: Share = 0.1  # clinical: one glioma in ten has satellites
    most: int = Field(4, ge=1, le=32)  # tumours in all, of a scan with several: from 2 to this, all as likely
    volume_mm3: Interval = (150.0, 4_000.0)  # ours: satellites of 3 to 10 mm
    spread_mm: float = Field(40.0, gt=0, le=1000)  # along each axis from the first one's centre

    @model_validator(mode="after")
    def _positive(self) -> "Foci":
        _spans(self.volume_mm3, "foci.volume_mm3", 1.0, 1e7)
        return self


class Distractors(Strict):
    """What is laid into the scan and labelled background, so that brightness alone is no tumour.

    A shade over the whole volume is not among them: it would be a layer as large as the organ, and a training's
    variation (bias field) makes one for every sample without a byte.
    """

    spots: Share = 0.33  # clinical: small white-matter lesions
    most_spots: int = Field(4, ge=1, le=64)
    spot_mm: Interval = (2.0, 5.0)  # clinical: radius at the foot, half of it is seen
    spot_contrast: Interval = (0.7, 3.0)
    caps: Share = 0.2  # clinical: bright caps at the horns of the ventricles
    most_caps: int = Field(3, ge=1, le=16)
    cap_mm: Interval = (4.0, 8.0)
    cap_contrast: Interval = (0.5, 2.0)

    @model_validator(mode="after")
    def _positive(self) -> "Distractors":
        for name in ("spot_mm", "cap_mm"):
            _spans(getattr(self, name), f"distractors.{name}", 0.1, 50.0)
        for name in ("spot_contrast", "cap_contrast"):
            _spans(getattr(self, name), f"distractors.{name}", -1e4, 1e4)
        return self


class Compound(Strict):
    """Every setting behind a sample of `compound`.

    The defaults have every ingredient on. A region may switch some off: that of FLAIR brains leaves the law of contrast
    alone, since no other one earned its place there (docs/results.md).

    "measured" and "ours" are of this project's development scans; "SynthTumour 2025" is Medical Image Analysis 2025.
    """

    shape: Shape = Shape()
    contrast: Contrast = Contrast()
    parts: Parts = Parts()
    edge: Edge = Edge()
    tissue: Tissue = Tissue()
    foci: Foci = Foci()
    distractors: Distractors = Distractors()
    empty: Share = 0.05  # ours: scans without a tumour
    fluid: (
        float | None
    ) = -1.2  # ours: network units below which tissue is fluid, of ventricles and sulci; null: none is
    alpha: Interval = (0.6, 1.0)  # SynthTumour 2025 is opaque, the method blends; contrast does not depend on it
    least_kept: float = Field(0.5, gt=0, le=1)  # method, settled 7: share of the form that the ROI leaves
    centre_tries: int = Field(20, ge=1, le=10_000)  # method, settled 7: then a smaller volume

    @model_validator(mode="after")
    def _alpha_in_unit_interval(self) -> "Compound":
        _spans(self.alpha, "alpha", 0.01, 1.0)
        return self
