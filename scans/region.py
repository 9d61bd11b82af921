"""A region: how its scans are prepared, and how tumours are drawn in it.

Every default of the synthesis stands here once, with its source. ``method`` is ``docs/method.md``;
``Zhang`` is Zhang et al., "Self-supervised Tumor Segmentation through Layer Decomposition", 2021.
A catalog overrides them per region, ``--set shape.axis_ratio=[0.7,1]`` per corpus.
"""

from typing import Annotated, Any, Literal

import yaml
from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    SerializationInfo,
    SerializerFunctionWrapHandler,
    ValidationError,
    model_serializer,
    model_validator,
)

from scans.errors import CatalogError, StoreError
from scans.yaml_text import parse_yaml

_MOST_TOLD = 12  # mistakes in one line
_EVERYTHING = {"everything": True}  # context of a dump that also has settings which are off


class Strict(BaseModel):
    """Settings that refuse unknown names and cannot be changed once made."""

    model_config = ConfigDict(extra="forbid", frozen=True)


def _ordered(interval: tuple[float, float]) -> tuple[float, float]:
    if interval[0] > interval[1]:
        raise ValueError(f"[{interval[0]}, {interval[1]}] must have its lower end first")
    return interval


Interval = Annotated[tuple[float, float], AfterValidator(_ordered)]


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


class Normalisation(Strict):
    """How raw intensities become the network's units.

    ``zscore``: each scan by its own mean and standard deviation over ROI voxels (brain).
    ``window``: clipped to percentiles of all sources' ROI voxels together, then by their common mean and
    standard deviation (liver CT). Both leave 0 outside the ROI.
    """

    kind: Literal["zscore", "window"] = "zscore"  # Zhang, Sec. IV-B
    percentiles: Interval = (0.5, 99.5)  # Zhang, Sec. IV-B (LTS); used by `window`
    raw_zero: float | None = None  # raw value that counts as zero intensity in Eq. 4 (CT: -1024 HU); None: 0 or below


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


class Shape(Strict):
    """The tumour's mask: a sphere displaced by simplex noise, scaled, rotated (Zhang, Sec. III-A)."""

    volume_mm3: Interval = (7_000.0, 200_000.0)  # method: brain
    volume_law: Literal["uniform", "log-uniform"] = "uniform"  # method: brain uniform, liver log-uniform
    octaves: tuple[int, int] = (4, 7)  # method: surface noise, both ends included
    amplitude: float = Field(0.5, ge=0, lt=1)  # method: displacement of the unit sphere
    axis_ratio: Interval = (0.8, 1.0)  # method: q in (r, r/q, r*q)

    @model_validator(mode="after")
    def _positive(self) -> "Shape":
        if not 0 < self.volume_mm3[0] <= self.volume_mm3[1] <= 1e8:
            raise ValueError("shape.volume_mm3 must be above 0 mm3, and 100 litres at the most")
        if not 1 <= self.octaves[0] <= self.octaves[1] <= 12:
            raise ValueError("shape.octaves must be two whole numbers from 1 to 12, the lower first")
        if not 0 < self.axis_ratio[0] <= self.axis_ratio[1] <= 1:
            raise ValueError("shape.axis_ratio must lie in (0, 1]")
        return self


class Linear(Strict):
    """Eq. 4: the donor's mean becomes r times the normal's."""

    enabled: bool = True
    ratio: tuple[Interval, ...] = ((1.0, 3.0),)  # method: brain FLAIR; several intervals are drawn by their length
    reference: Literal["roi", "mask"] = "roi"  # method, settled 3; `mask`: as the authors' code


class Blur(Strict):
    """Gaussian blur of the texture."""

    enabled: bool = True
    sigma_mm: Interval = (0.0, 2.0)  # method

    @model_validator(mode="after")
    def _within_reason(self) -> "Blur":
        if not 0 <= self.sigma_mm[0] <= self.sigma_mm[1] <= 100:
            raise ValueError("blur.sigma_mm must lie in [0, 100]")
        return self


class Elastic(Strict):
    """Cubic B-spline deformation of the donor."""

    enabled: bool = True
    control_points: int = Field(7, ge=5, le=16)  # method: control points an axis
    max_displacement_mm: float = Field(7.5, ge=0, le=1000)  # method
    locked_borders: Literal[0, 1, 2] = 2  # method: outer layers of control points that stay put
    mask: bool = False  # method, settled 5: warp the mask along


class Donor(Strict):
    """Which donor voxels correspond to the tumour's.

    Two organs never fill the same voxels. Where the donor has no tissue to lend (outside its ROI, inside a
    lesion) ``outside=mirror`` lends the tissue mirrored at the ROI's edge; ``zero`` lends the raw zero outside
    the organ, as the authors' code does.

    ``tumours`` names sources that were prepared with a tumour. Forms are then not drawn: a tumour is cut from one of
    them by its mask and laid over the normal as it is (Table V, real tumour). Empty, it is not recorded, so that
    corpora of all other kinds are what they were before there was such a setting.
    """

    shift: int = Field(0, ge=0, le=1024)  # method, settled 4: largest offset in voxels an axis; 0: by position
    outside: Literal["mirror", "zero"] = "mirror"
    tumours: tuple[str, ...] = ()  # Zhang, Table V; none: forms are drawn, healthy tissue is lent

    @model_serializer(mode="wrap")
    def _without_what_is_off(self, as_usual: SerializerFunctionWrapHandler, info: SerializationInfo) -> dict[str, Any]:
        content: dict[str, Any] = as_usual(self)
        if not self.tumours and info.context != _EVERYTHING:
            del content["tumours"]
        return content


class Mask(Strict):
    """The mask's edge and its fit into the ROI."""

    soft_mm: float = Field(0.0, ge=0, le=100)  # method, settled 6: edge blur, for the blend only
    least_kept: float = Field(0.5, gt=0, le=1)  # method, settled 7: share of the drawn volume left by the ROI
    centre_tries: int = Field(20, ge=1, le=10_000)  # method, settled 7: then a smaller volume


class Synthesis(Strict):
    """Every setting behind a sample."""

    shape: Shape = Shape()
    linear: Linear = Linear()
    blur: Blur = Blur()
    elastic: Elastic = Elastic()
    donor: Donor = Donor()
    mask: Mask = Mask()
    alpha: Interval = (0.2, 0.8)  # method
    texture_target: Literal["texture", "composite"] = "texture"  # method, settled 1

    @model_validator(mode="after")
    def _alpha_in_unit_interval(self) -> "Synthesis":
        if not 0 <= self.alpha[0] <= self.alpha[1] <= 1:
            raise ValueError("alpha must lie in [0, 1]")
        return self


class Region(Strict):
    """One organ in one modality."""

    name: str = ""
    modality: str
    orientation: str = Field("LPS", pattern="^[RL][AP][IS]$|^[RLAPIS]{3}$")  # axes x, y, z point there
    field_of_view: FieldOfView = FieldOfView()
    normalisation: Normalisation = Normalisation()
    roi: RoiRule = RoiRule()
    synthesis: Synthesis = Synthesis()


def override(synthesis: Synthesis, assignments: list[str]) -> Synthesis:
    """Apply ``--set key=value`` assignments, values in YAML, e.g. ``shape.volume_mm3=[7000,200000]``.

    Raises
    ------
    CatalogError
        For an unknown key, or a value that the setting does not allow.
    """
    tree: dict[str, Any] = synthesis.model_dump(context=_EVERYTHING)
    for assignment in assignments:
        key, equals, text = assignment.partition("=")
        if not equals:
            raise CatalogError(f"--set {assignment}: write it as key=value, e.g. shape.axis_ratio=[0.7,1]")
        *path, leaf = key.strip().split(".")
        node = tree
        for part in path:
            if not isinstance(node.get(part), dict):
                raise CatalogError(f"--set {key}: no such setting; there are {', '.join(sorted(node))}")
            node = node[part]
        if leaf not in node:
            raise CatalogError(f"--set {key}: no such setting; there are {', '.join(sorted(node))}")
        try:
            node[leaf] = parse_yaml(text)
        except yaml.YAMLError as error:
            raise CatalogError(f"--set {key}: {text!r} is not a YAML value") from error
    try:
        return Synthesis.model_validate(tree)
    except ValidationError as error:
        raise CatalogError(f"--set: {one_line(error)}") from error


def recorded(settings: dict[str, Any], where: str) -> Synthesis:
    """Return the settings of the synthesis that a file recorded.

    Raises
    ------
    StoreError
        If they are none that this release knows.
    """
    try:
        return Synthesis.model_validate(settings)
    except ValidationError as error:
        raise StoreError(
            f"{where}: its settings do not fit this release of layered-tumors ({one_line(error)})"
        ) from error


def one_line(error: ValidationError) -> str:
    """Say in one line what a validation found, as ``where: what; where: what``; of very many the first."""
    found = error.errors(include_url=False)
    said = [f"{'.'.join(map(str, item['loc']))}: {item['msg']}" if item["loc"] else item["msg"] for item in found]
    more = [f"and {len(said) - _MOST_TOLD} more"] if len(said) > _MOST_TOLD else []
    return "; ".join([*said[:_MOST_TOLD], *more])
