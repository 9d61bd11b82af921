"""Take the viewer that pages carry from the npm registry anew: `make niivue`, or `make niivue NIIVUE=0.69.0`.

Of the file that NiiVue publishes for a plain page all is kept but three WebAssembly programs. They unpack Zarr, which
no page here holds, and are more than half of it. Beside it lie the licences of what NiiVue is made of, as its packages
state them; its own is not in its package, and stands in `niivue-licence.txt`, written by hand.
"""

import gzip
import hashlib
import json
import re
import subprocess
import sys
import tempfile
from pathlib import Path

PACKAGE = "@niivue/niivue"
TARGET = Path(__file__).parents[1] / "scans" / "vendored"
WASM = re.compile(r'"AGFzbQ[A-Za-z0-9+/=]{1000,}"')  # "\0asm" in base64
MODULE = re.compile(r"node_modules/((?:@[^/]+/)?[^/]+)(?!.*node_modules)")
LIST = "dist/metafile-esm.json"  # esbuild's: every file that went in


def fetch(version: str, folder: Path) -> Path:
    """Install a version with what it needs, without running any of it; return its folder."""
    command = ["npm", "install", "--prefix", folder, "--omit=dev", "--ignore-scripts", "--no-audit", "--no-fund"]
    done = subprocess.run([*command, f"{PACKAGE}@{version}"], capture_output=True, encoding="utf-8", check=False)
    if done.returncode:
        sys.exit(f"error: npm did not give {PACKAGE}@{version}: {done.stderr.strip()}")
    return folder / "node_modules" / PACKAGE


def licences(package: Path) -> str:
    """Return name, release and licence of every package that is part of the viewer."""
    inside: set[str] = set()
    for output in json.loads((package / LIST).read_text(encoding="utf-8"))["outputs"].values():
        inside |= {found[1] for file in output["inputs"] if (found := MODULE.search(file))}
    parts = []
    for name in sorted(inside):
        folder = package.parents[1] / name
        about = json.loads((folder / "package.json").read_text(encoding="utf-8"))
        (text,) = (file for file in folder.iterdir() if file.stem.lower() == "license")
        parts.append(f"{name} {about['version']}\n\n{text.read_text(encoding='utf-8').strip()}\n")
    return f"\n{'-' * 80}\n\n".join(["The packages that NiiVue is made of.\n", *parts])


def main() -> None:
    """Write the viewer, what it is, and its parts' licences."""
    with tempfile.TemporaryDirectory() as folder:
        package = fetch(sys.argv[1] if len(sys.argv) > 1 else "latest", Path(folder))
        about = json.loads((package / "package.json").read_text(encoding="utf-8"))
        published = (package / "dist" / "niivue.umd.js").read_bytes()
        script, programs = WASM.subn('""', published.decode())
        packed = gzip.compress(script.encode(), 9, mtime=0)
        said = {
            "name": about["name"], "version": about["version"], "licence": about["license"],
            "home": "https://niivue.com", "file": "dist/niivue.umd.js",
            "published_sha256": hashlib.sha256(published).hexdigest(), "programs_left_out": programs,
            "script_sha256": hashlib.sha256(script.encode()).hexdigest(),
        }  # fmt: skip
        (TARGET / "niivue.umd.js.gz").write_bytes(packed)
        (TARGET / "niivue.json").write_text(json.dumps(said, indent=2) + "\n", encoding="utf-8")
        (TARGET / "niivue-parts.txt").write_text(licences(package), encoding="utf-8")
    sizes = f"{len(published)} bytes, {len(script)} without {programs} programs, {len(packed)} packed"
    print(f"{PACKAGE} {said['version']}: {sizes}")


if __name__ == "__main__":
    main()
