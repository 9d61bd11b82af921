"""The settings of synthesis: every default once, with its source; changed by region, recorded in a corpus."""

from typing import Any, Literal, TypeVar

import yaml
from pydantic import (
    Field,
    SerializationInfo,
    SerializerFunctionWrapHandler,
    ValidationError,
    model_serializer,
    model_validator,
)

from scans.catalog.settings import Interval, Strict, one_line
from scans.errors import CatalogError
from scans.yaml_text import parse_yaml

S = TypeVar("S", bound=Strict)

_EVERYTHING = {"everything": True}  # context of a dump that also has settings which are off


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


def override(settings: S, assignments: list[str]) -> S:
    """Apply ``--set key=value`` assignments, values in YAML, e.g. ``shape.volume_mm3=[7000,200000]``.

    Raises
    ------
    CatalogError
        For an unknown key, or a value that the setting does not allow.
    """
    tree: dict[str, Any] = settings.model_dump(context=_EVERYTHING)
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
        return type(settings).model_validate(tree)
    except ValidationError as error:
        raise CatalogError(f"--set: {one_line(error)}") from error
