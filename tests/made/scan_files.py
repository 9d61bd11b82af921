"""Small scans written as files, as a lab might have them."""

from collections.abc import Mapping
from pathlib import Path

import nibabel
import numpy as np
import SimpleITK as sitk
from scipy import ndimage

from scans.image.grid import Grid
from scans.image.volume import Volume, write_volume

GRID = Grid((30, 36, 32), (1.5, 1.0, 1.2), (-20.0, 10.0, 5.0), (1, 0, 0, 0, 1, 0, 0, 0, 1))


def ellipsoid(shape: tuple[int, int, int], radius: float = 0.8, centre: float = 0.0) -> np.ndarray:
    axes = [np.linspace(-1, 1, n) - centre for n in shape]
    return (np.stack(np.meshgrid(*axes, indexing="ij")) ** 2).sum(axis=0) < radius**2


def brain(grid: Grid = GRID, seed: int = 0, background: float = 0.0) -> Volume:
    """Make tissue of smooth noise, about 100 +- 20, in an ellipsoid on a constant background."""
    noise = ndimage.gaussian_filter(np.random.default_rng(seed).normal(size=grid.shape), 1.0)
    tissue = 100 + 20 * noise / noise.std()
    return Volume.on(grid, np.where(ellipsoid(grid.shape), tissue, background).astype(np.float32))


def of_itk(image: sitk.Image) -> Volume:
    """Return a 3D SimpleITK image as a volume."""
    x, y, z = image.GetSpacing()
    return Volume(sitk.GetArrayFromImage(image), (z, y, x), image.GetOrigin(), image.GetDirection())


def mask(grid: Grid = GRID, radius: float = 0.3, centre: float = 0.2) -> Volume:
    return Volume.on(grid, ellipsoid(grid.shape, radius, centre).astype(np.uint8))


def save(volume: Volume, path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    write_volume(volume, path)
    return path


def save_nifti(array_xyz: np.ndarray, path: Path, affine: np.ndarray | None = None) -> Path:
    """Write with nibabel, which writes what SimpleITK would not."""
    nibabel.save(nibabel.Nifti1Image(array_xyz, np.eye(4) if affine is None else affine), path)
    return path


def save_dicom(
    volume: Volume, folder: Path, skip: tuple[int, ...] = (), series: str = "1", more: Mapping[str, str] | None = None
) -> Path:
    """Write a CT series of one slice a file, intercept -1024; leave out the slices in `skip`; with `more` tags."""
    folder.mkdir(parents=True, exist_ok=True)
    writer = sitk.ImageFileWriter()
    writer.KeepOriginalImageUIDOn()
    image = volume.with_array(volume.array.astype(np.int16)).to_itk()  # GDCM applies the intercept
    cosines = np.reshape(volume.direction, (3, 3))
    for index in range(volume.array.shape[0]):
        if index in skip:
            continue
        piece = image[:, :, index]
        position = image.TransformIndexToPhysicalPoint((0, 0, index))
        tags = {
            "0008|0060": "CT",
            "0008|0016": "1.2.840.10008.5.1.4.1.1.2",
            "0008|0018": f"1.2.826.0.1.3680043.2.1125.{series}.{index + 1}",
            "0020|000d": "1.2.826.0.1.3680043.2.1125.9",
            "0020|000e": f"1.2.826.0.1.3680043.2.1125.{series}",
            "0020|0013": str(index),
            "0020|0032": "\\".join(f"{v:.6f}" for v in position),
            "0020|0037": "\\".join(f"{v:.6f}" for v in (*cosines[:, 0], *cosines[:, 1])),
            "0028|1052": "-1024",
            "0028|1053": "1",
            **(more or {}),
        }
        for tag, value in tags.items():
            piece.SetMetaData(tag, value)
        writer.SetFileName(str(folder / f"slice{series}-{index:03d}.dcm"))
        writer.Execute(piece)
    return folder
