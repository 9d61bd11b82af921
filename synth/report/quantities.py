"""Quantities: what the statistics page shows, each with its law."""

from dataclasses import dataclass

import numpy as np

from synth.report.laws import Law, Steps, chance, law_of, one_of, uniform
from synth.report.stats import ENOUGH_VOXELS, PLACED, Measurement

SECTIONS = {
    "Volume": "A form is drawn with a volume and cut to the ROI, so that tumours at the ROI's surface become smaller.",
    "Shape": "An ellipsoid displaced by noise, then cut to the ROI. No law is set for its sphericity.",
    "Contrast": "The texture's mean becomes r times the normal's, alpha blends it in; what shows depends on the place.",
    "Position": "A centre is drawn uniformly over the ROI's voxels, and drawn again where too little of the form would "
    "be left: centres lie deeper than the ROI's voxels do.",
    "Choice": "Which scan receives the tumour, and which lends its texture.",
}
_OPPOSITE = {"L": "right", "R": "left", "A": "back", "P": "front", "S": "bottom", "I": "top"}
_NAMED = {"L": "left", "R": "right", "A": "front", "P": "back", "S": "top", "I": "bottom"}


@dataclass(frozen=True)
class Quantity:
    """One number of every sample.

    Attributes
    ----------
    section, name, unit : str
    values : ndarray of float64, shape (n,)
        NaN where it cannot be measured.
    law : Law or None
        What it is held against.
    drawn : bool
        The law is the one that the recipe draws from, so that only chance may tell them apart. Otherwise the distance
        says what scans and ROI make of it.
    note : str
        What a reader must know; may be empty.
    marks : dict of float to str
        Values worth a line.
    log : bool
        Shown on a logarithmic axis.
    column : str
        Of the recipe; empty if it was measured.
    """

    section: str
    name: str
    unit: str
    values: np.ndarray
    law: Law | None = None
    drawn: bool = False
    note: str = ""
    marks: tuple[tuple[float, str], ...] = ()
    log: bool = False
    column: str = ""

    @property
    def measured(self) -> np.ndarray:
        """The values without NaN."""
        return self.values[~np.isnan(self.values)]

    @property
    def distance(self) -> float | None:
        """Kolmogorov-Smirnov distance from the law, None without one."""
        return self.law.distance(self.measured) if self.law and self.measured.size else None

    @property
    def strange(self) -> bool:
        """Whether a drawn quantity is further from its law than chance explains (once in 1000 times)."""
        distance = self.distance
        return self.drawn and distance is not None and distance > chance(self.measured.size)


def quantities(measured: Measurement, orientation: str = "LPS") -> list[Quantity]:
    """Return every quantity of a measurement, section by section.

    Parameters
    ----------
    measured : Measurement
    orientation : str
        Where the axes x, y, z of the sources point.
    """
    way = measured.way
    found = [
        *_volume(measured),
        *_form(measured),
        *_contrast(measured),
        *_position(measured, orientation),
        *_choice(measured),
    ]
    known = {quantity.column for quantity in found}
    for column, number in way.numbers.items():
        if number.drawn and number.name and number.used(way.settings) and column not in known:
            found += _drawn(measured, column)
    sections = list(SECTIONS)
    return sorted(found, key=lambda quantity: sections.index(quantity.section))


def _drawn(measured: Measurement, column: str, name: str = "") -> list[Quantity]:
    """Return a number of the recipes, held against the law that it was drawn from; nothing if they have none such."""
    way = measured.way
    if column not in way.numbers:
        return []
    number, settings = way.numbers[column], way.settings
    section = number.section if number.section in SECTIONS else "Choice"
    return [
        Quantity(
            section, name or number.name, number.unit, measured.recipes[column] / number.per_unit,
            law_of(number, settings), drawn=True, log=number.log(settings), column=column,
        )
    ]  # fmt: skip


def ellipsoid_sphericity(axis_ratio: float) -> float:
    """Return the sphericity of the smooth ellipsoid with semi-axes (1, 1/q, q)."""
    from scipy.special import elliprg

    a, b, c = 1.0, 1.0 / axis_ratio**2, axis_ratio**2  # squared; the volume is that of the unit ball
    return float(1.0 / elliprg(a * b, a * c, b * c))


def _volume(measured: Measurement) -> list[Quantity]:
    values, way = measured.values, measured.way
    drawn = _drawn(measured, "drawn_volume_mm3", "volume, drawn")
    law, log = (drawn[0].law, drawn[0].log) if drawn else (None, False)
    shrunk = float(np.mean(values["volume_mm3"] < values["drawn_volume_mm3"])) if drawn else 0.0
    return [
        *drawn,
        Quantity(
            "Volume", "volume of the whole form", "ml", _of_tumours(values["form_mm3"]) / 1000, law, log=log,
            note=f"in voxels; {shrunk:.1%} shrunk because no centre left them room",
        ),
        Quantity(
            "Volume", "volume in the ROI", "ml", _of_tumours(values["kept_mm3"]) / 1000, law, log=log,
            note="what the network sees: the form cut to the ROI",
        ),
        Quantity(
            "Volume", "voxels over volume asked", "",
            _of_tumours(values["form_mm3"]) / values["volume_mm3"], marks=((1.0, ""),),
            note="the error of cutting a form into voxels",
        ),
        Quantity(
            "Volume", "share of the form kept", "", values["kept"],
            note=f"by the ROI; below {way.facts.least_kept:g} another centre is drawn",
        ),
    ]  # fmt: skip


def _of_tumours(volumes: np.ndarray) -> np.ndarray:
    """Return volumes with NaN for scans without a tumour: they have none to measure."""
    return np.where(volumes > 0, volumes, np.nan)


def _form(measured: Measurement) -> list[Quantity]:
    values, way = measured.values, measured.way
    long: dict[str, np.ndarray] = {}
    if all(f"rotation_{part}" in values for part in "wxyz"):
        w, x, y, z = (values[f"rotation_{part}"] for part in "wxyz")
        # The long axis is the second semi-axis: the second column of the rotation matrix, rows z, y, x.
        long = {"z": 2 * (x * y - w * z), "y": 1 - 2 * (x * x + z * z), "x": 2 * (y * z + w * x)}
    marks = [(1.0, "ball")]
    if "axis_ratio" in way.numbers:
        ((flat, _),) = way.numbers["axis_ratio"].within(way.settings)
        marks.append((ellipsoid_sphericity(flat), f"ellipsoid, q = {flat:g}"))
    unmeasured = int(np.isnan(values["sphericity"]).sum())
    left_out = f"; {unmeasured:,} of fewer than {ENOUGH_VOXELS} voxels left out" if unmeasured else ""
    return [
        Quantity(
            "Shape", "sphericity in the ROI", "", values["sphericity"],
            marks=tuple(marks),
            note="surface of the ball of equal volume over the tumour's (Crofton's formula)" + left_out,
        ),
        *_drawn(measured, "axis_ratio"),
        *_drawn(measured, "octaves"),
        *(
            Quantity("Shape", f"long axis against {axis}", "|cos|", np.abs(part), uniform((0.0, 1.0)), drawn=True,
                     note="uniform if every rotation is as likely")
            for axis, part in long.items()
        ),
    ]  # fmt: skip


def _contrast(measured: Measurement) -> list[Quantity]:
    values, way = measured.values, measured.way
    faint = float(np.mean(np.abs(values["contrast"]) < 0.25))
    visible = Quantity(
        "Contrast", "visible contrast", "σ", values["contrast"], marks=((0.0, ""),),
        note=f"mean of composite minus normal in the mask, in standard deviations of the normal; {faint:.1%} lie "
        "within ±0.25",
    )  # fmt: skip
    beside = [*_drawn(measured, "alpha"), *_drawn(measured, "sigma_mm", "blur")]
    if way.name != "layers":
        return [*_drawn(measured, "contrast"), visible, *beside]
    (ratio,) = _drawn(measured, "ratio")
    means = "mean of the texture in the mask over the normal's mean, both raw"
    if way.settings.linear.reference == "roi":
        means += "; r holds over the donor's whole ROI, so the place inside the donor widens it"
    law = ratio.law if way.settings.linear.enabled else None
    return [
        ratio,
        Quantity("Contrast", "texture over normal", "", values["texture_ratio"], law, note=means),
        Quantity(
            "Contrast", "texture over normal, over r", "", values["texture_ratio"] / values["ratio"], marks=((1.0, ""),)
        ),
        visible,
        *beside,
    ]


def _position(measured: Measurement, orientation: str) -> list[Quantity]:
    again = float(np.mean(measured.values["tries"] > 1)) if "tries" in measured.values else 0.0
    note = "line: the ROI's voxels"
    directions = dict(zip("xyz", orientation, strict=True))
    return [
        *(
            Quantity(
                "Position", f"centre, {_OPPOSITE[directions[axis]]} to {_NAMED[directions[axis]]}", "of the ROI's box",
                measured.values[f"along_{axis}"], _roi_law(measured, f"along_{axis}"), note=note,
            )
            for axis in "zyx"
        ),
        Quantity(
            "Position", "depth of the centre", "mm below the ROI's surface", measured.values["depth_mm"],
            _roi_law(measured, PLACED[3]), note=f"{note}; {again:.1%} were drawn again",
        ),
    ]  # fmt: skip


def _choice(measured: Measurement) -> list[Quantity]:
    values, last = measured.values, len(measured.sources) - 1
    found = [Quantity("Choice", "centres tried", "", values["tries"])] if "tries" in values else []
    if last:
        counts = np.bincount((values["normal"] * (last + 1) + values["donor"]).astype(int))
        met, possible = counts[counts > 0], last * (last + 1)
        pairs = f"{met.size:,} of {possible:,} pairs (normal, donor) occur, {met.min():,} to {met.max():,} times each"
        found += [
            Quantity("Choice", name, "position in the store", values[name], one_of(0, last), drawn=True, note=note)
            for name, note in (("normal", ""), ("donor", pairs))
        ]
    return found


def _roi_law(measured: Measurement, name: str) -> Law:
    """Return the law of a voxel drawn from the ROI of a source, all sources as likely."""
    parts = [roi.along[name] for roi in measured.rois]
    weights = np.concatenate([voxels / voxels.sum() for _, voxels in parts])
    return Steps(np.concatenate([values for values, _ in parts]), weights, "uniform over the ROI's voxels")
