"""A region: how its scans are prepared, and how tumours are drawn in it.

Every default of the synthesis stands here once, with its source. ``method`` is ``docs/method.md``;
``Zhang`` is Zhang et al., "Self-supervised Tumor Segmentation through Layer Decomposition", 2021.
A catalog overrides them per region, ``--set shape.axis_ratio=[0.7,1]`` per corpus.
"""

from typing import Any, Literal

from pydantic import Field, SerializerFunctionWrapHandler, model_serializer, model_validator

from scans.catalog.mask_command import MaskCommand
from scans.catalog.settings import Interval, Strict
from scans.catalog.synthesis import Synthesis

# Fields of a region that say what is done with its scans once they are prepared.
LATER = ("symmetric", "patches", "synthesis", "generator", "generators")
TUMOUR_SHARE = 2 / 3  # of patches around a tumour, if nothing else is said; nnU-Net has a third
REFERENCE_SIZE = 128  # the size that FieldOfView.spacing_mm is stated for


class FieldOfView(Strict):
    """How the region of interest becomes a cube of ``size`` voxels a side.

    ``resize``: the bounding box of the ROI is stretched to the cube; voxels may be anisotropic (brain).
    ``spacing``: isotropic voxels of ``spacing_mm * 128 / size``, centred on the ROI, cropped or padded (liver).
    """

    kind: Literal["resize", "spacing"] = "resize"  # method: field of view
    spacing_mm: float | None = Field(None, gt=0)  # voxel side at size 128

    @model_validator(mode="after")
    def _spacing_where_needed(self) -> "FieldOfView":
        if (self.kind == "spacing") != (self.spacing_mm is not None):
            raise ValueError("field_of_view needs spacing_mm exactly when its kind is 'spacing'")
        return self


_KIND_OF = {"limits": "window", "scale": "zscore"}  # settings of one kind of normalisation alone


class Normalisation(Strict):
    """How raw intensities become the network's units.

    ``zscore``: each scan by its own mean and standard deviation over ROI voxels (brain).
    ``window``: clipped to percentiles of all sources' ROI voxels together, or to ``limits`` in raw units, then by
    their common mean and standard deviation (Zhang's liver CT). Both leave 0 outside the ROI.
    With ``scale``, ``zscore`` takes each scan's own mean and this many raw units for one of the network's: where
    contrasts are physical, as HU are, the noise of a scan must not change them.
    """

    kind: Literal["zscore", "window"] = "zscore"  # Zhang, Sec. IV-B
    percentiles: Interval = (0.5, 99.5)  # Zhang, Sec. IV-B (LTS); used by `window`
    limits: Interval | None = None  # of `window`, raw units, in place of percentiles; of liver CT: -21 to 189 HU
    scale: float | None = Field(None, gt=0)  # of `zscore`, raw units; None: the scan's own standard deviation
    raw_zero: float | None = None  # raw value that counts as zero intensity in Eq. 4 (CT: -1024 HU); None: 0 or below

    @model_validator(mode="after")
    def _each_with_its_kind(self) -> "Normalisation":
        for name, kind in _KIND_OF.items():
            if getattr(self, name) is not None and self.kind != kind:
                raise ValueError(f"normalisation.{name} goes with kind '{kind}'")
        return self

    @model_serializer(mode="wrap")
    def _as_before(self, dump: SerializerFunctionWrapHandler) -> dict[str, Any]:
        content: dict[str, Any] = dump(self)
        for name in _KIND_OF:
            if content[name] is None:  # stores from before there was one are prepared alike
                del content[name]
        return content


class RoiRule(Strict):
    """Where a tumour centre may lie, and where a tumour may be visible.

    ``foreground``: voxels that differ from the constant background left by skull stripping.
    ``label``: voxels of the ROI file with one of ``values`` (None: any non-zero value).
    A dataset that has ROI files uses them whatever the kind; ``label`` insists on one. A foreground of more than
    ``most_ml`` is refused: zeros around a head are no sign of skull stripping.
    """

    kind: Literal["foreground", "label"] = "foreground"
    values: tuple[int, ...] | None = None
    most_ml: float | None = Field(None, gt=0)  # a larger foreground still wears its skull; None: no bound


class Patches(Strict):
    """Networks of a region are shown patches of its prepared cubes, at the scale of its tumours.

    A liver's tumours of 5 to 10 mm are a voxel or two where the whole organ fills the network's cube.
    """

    cube: int = Field(192, ge=16, le=512, multiple_of=8)  # voxels along each side that scans are prepared with
    side: int = Field(64, ge=16, le=512, multiple_of=8)  # of a patch; in proportion where a cube has other voxels
    tumour_share: float = Field(TUMOUR_SHARE, ge=0, le=1)  # the other patches are around any voxel of the ROI

    @model_validator(mode="after")
    def _within_the_cube(self) -> "Patches":
        if self.side > self.cube:
            raise ValueError("patches.side must not exceed patches.cube")
        return self


class Region(Strict):
    """One organ in one modality.

    ``brain_mask_with`` is a catalog's own: it is never recorded, and counts in no region that a corpus or a checkpoint
    records. Neither may choose what is run on a machine.
    """

    name: str = ""
    modality: str
    orientation: str = Field("LPS", pattern="^[RL][AP][IS]$|^[RLAPIS]{3}$")  # axes x, y, z point there
    field_of_view: FieldOfView = FieldOfView()
    normalisation: Normalisation = Normalisation()
    roi: RoiRule = RoiRule()
    brain_mask_with: MaskCommand = Field(None, exclude=True)  # of datasets that do not say another; docs/skulls.md
    patches: Patches | None = None  # that networks are shown; None: whole cubes
    symmetric: bool = False  # left and right are alike: a network may compare them; see train.network.symmetry
    synthesis: Synthesis = Synthesis()  # of the generator `layers`
    generator: str = "layers"  # that `synth generate` takes if none is named; see synth.generators
    generators: dict[str, dict[str, Any]] = Field(default_factory=dict)  # settings of the others, by name

    @property
    def cube(self) -> int:
        """Voxels along each side that its scans are prepared with, if nothing else is said."""
        return REFERENCE_SIZE if self.patches is None else self.patches.cube

    @property
    def mirror_axis(self) -> Literal["x", "y", "z"]:
        """The axis of a prepared scan that goes from one side of the body to the other."""
        axes: tuple[Literal["x", "y", "z"], ...] = ("x", "y", "z")
        return next(axis for axis, letter in zip(axes, self.orientation, strict=True) if letter in "LR")

    @model_validator(mode="after")
    def _two_sides(self) -> "Region":
        if self.symmetric and not set(self.orientation) & set("LR"):
            raise ValueError(f"a symmetric region needs L or R in its orientation, not {self.orientation} alone")
        return self

    def preparation(self) -> dict[str, Any]:
        """Return what decides how its scans are prepared, as JSON values."""
        return self.model_dump(mode="json", exclude=set(LATER))
