"""Scans as labs have them, made small: a noisy head of odd geometry with a bright ball in it."""

import numpy as np

from scans.image.volume import Volume, write_volume

SIDES_MM = np.array([76.0, 88.0, 64.0])  # z, y, x


def head(spacing_mm=(3.0, 1.7, 2.0), seed=0, flipped=True, background=0.0, at_mm=(8, -12, 5)):
    """Return a skull-stripped scan and its tumour, in a grid that is not the network's."""
    shape = tuple(np.round(SIDES_MM / spacing_mm).astype(int) + 8)
    centre = (np.array(shape) - 1) / 2
    mm = [(g - c) * s for g, c, s in zip(np.indices(shape), centre, spacing_mm, strict=True)]
    brain = sum((m / (side / 2)) ** 2 for m, side in zip(mm, SIDES_MM, strict=True)) < 1
    tumour = sum((m - at) ** 2 for m, at in zip(mm, at_mm, strict=True)) < 13**2
    noise = np.random.default_rng(seed).normal(100, 6, shape)
    array = np.where(brain, np.where(tumour, 200, noise), background).astype(np.float32)
    turn = (-1.0, 0, 0, 0, 0.0, 1, 0, 1, 0.0) if flipped else (1.0, 0, 0, 0, 1, 0, 0, 0, 1)
    grid = {"spacing_mm": spacing_mm, "origin": (11.0, -40.0, 7.0), "direction": turn}
    return Volume(array, **grid), Volume(tumour.astype(np.uint8), **grid), Volume(brain.astype(np.uint8), **grid)


def write_case(folder, name, **made):
    folder.mkdir(parents=True, exist_ok=True)
    scan, tumour, brain = head(**made)
    write_volume(scan, folder / f"{name}_flair.nii.gz")
    write_volume(tumour, folder / f"{name}_seg.nii.gz")
    write_volume(brain, folder / f"{name}_brain.nii.gz")
    return folder / f"{name}_flair.nii.gz"


BRATS = (
    "HGG/Brats18_2013_10_1", "HGG/Brats18_2013_10_2", "HGG/Brats18_CBICA_AAB_1", "LGG/Brats18_TCIA09_177_1",
    "LGG/Brats18_TCIA09_254_1", "LGG/Brats18_TCIA10_103_1",
)  # fmt: skip


def write_brats(root):
    """Write MICCAI_BraTS_2018_Data_Training: HGG and LGG, a folder a case; and the survival table beside them."""
    for seed, name in enumerate(BRATS):
        folder = root / name
        folder.mkdir(parents=True)
        flair, tumour, _ = head(seed=seed, spacing_mm=(4.0, 4.0, 4.0))
        for what in ("flair", "t1", "t1ce", "t2"):
            write_volume(flair, folder / f"{folder.name}_{what}.nii.gz")
        labels = 2 * tumour.array  # oedema, around a core (1) with an enhancing part (4)
        z, y, x = (axis.mean().astype(int) for axis in np.nonzero(tumour.array))
        labels[z - 1 : z + 2, y - 1 : y + 2, x - 1 : x + 2] = 1
        labels[z, y : y + 2, x : x + 2] = 4
        write_volume(tumour.with_array(labels), folder / f"{folder.name}_seg.nii.gz")
    (root / "survival_data.csv").write_text("Brats18ID,Age,Survival,ResectionStatus\n")
    return root


CATALOG = """
regions:
  brain: {modality: FLAIR}
  liver: {modality: CT}
datasets:
  heads:
    role: tumour
    region: brain
    modality: FLAIR
    licence: CC0
    terms: none
    redistribute_derived: true
    citation: nobody
    obtain: made here
    root: {path: FOLDER}
    layout: {image: "{case}_flair.nii.gz", label: "{case}_seg.nii.gz"}
  livers:
    role: tumour
    region: liver
    modality: CT
    licence: CC0
    terms: none
    redistribute_derived: true
    citation: nobody
    obtain: made here
    root: {path: FOLDER}
    layout: {image: "{case}_flair.nii.gz", label: "{case}_seg.nii.gz"}
"""


def write_catalog(path, folder):
    path.write_text(CATALOG.replace("FOLDER", str(folder)))
    return path
