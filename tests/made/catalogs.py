"""Small catalogs."""

from pathlib import Path

from tests.made.scan_files import brain, save

ROOT = Path(__file__).parents[2]
ENTRY = """
datasets:
  mine:
    role: normal
    region: brain
    modality: FLAIR
    licence: none
    terms: none
    redistribute_derived: true
    citation: none
    obtain: Ask me.
    root: {path: %s}
    layout:
      %s
regions:
  brain: {modality: FLAIR}
"""


def make(tmp_path: Path, layout: str = 'image: "{case}_flair.nii.gz"', extra: str = "") -> Path:
    path = tmp_path / "catalog.yaml"
    path.write_text(ENTRY % (tmp_path / "data", layout) + extra)
    return path


TWO = 'image: {T1: "{case}_t1.nii.gz", FLAIR: "{case}_flair.nii.gz"}'


def make_two(tmp_path: Path, layout: str = TWO, modality: str = "[FLAIR, T1]", region: str = "brain") -> Path:
    path = make(tmp_path, layout, "  t1: {modality: T1}\n  other: {modality: T1, orientation: RAS}\n")
    text = path.read_text(encoding="utf-8").replace("    modality: FLAIR", f"    modality: {modality}")
    path.write_text(text.replace("    region: brain", f"    region: {region}"), encoding="utf-8")
    return path


def save_two(tmp_path: Path, name: str) -> None:
    for seed, modality in enumerate(("flair", "t1")):
        save(brain(seed=seed), tmp_path / "data" / f"{name}_{modality}.nii.gz")
