"""Takes files of others' packages from npm into the folders of the web, with the checksums of what was taken.

    python scripts/vendor.py web/swagger            # all packages of a folder anew, at the versions named here

Needs npm. Nothing is built: what lies in the folders is, byte for byte, what the packages hold.
"""

import hashlib
import json
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Mapping
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]

Package = Mapping[str, str]
"""What the files of a package are called there, and here."""

FOLDERS: Mapping[str, Mapping[str, Package]] = {
    "web/swagger": {
        "swagger-ui-dist@5.35.0": {
            name: name for name in ("swagger-ui-bundle.js", "swagger-ui.css", "LICENSE", "NOTICE")
        },
    },
    "web/dashboard/vendor": {
        "htmx.org@2.0.11": {"dist/htmx.min.js": "htmx.min.js", "LICENSE": "htmx.LICENSE"},
        "htmx-ext-sse@2.2.4": {"dist/sse.min.js": "sse.min.js", "LICENSE": "sse.LICENSE"},
        "uplot@1.6.32": {
            "dist/uPlot.iife.min.js": "uplot.min.js",
            "dist/uPlot.min.css": "uplot.min.css",
            "LICENSE": "uplot.LICENSE",
        },
    },
}


def main(folder: str) -> None:
    """Takes all packages of `folder`, and writes its manifest."""
    target = ROOT / folder
    target.mkdir(exist_ok=True)
    manifest = [take(package, files, target) for package, files in FOLDERS[folder].items()]
    (target / "vendored.json").write_text(json.dumps(manifest, indent=2) + "\n", "utf-8")
    for taken in manifest:
        print(f"{taken['package']}: {taken['integrity']}")


def take(package: str, files: Package, target: Path) -> dict[str, object]:
    """Writes the files of `package` to `target`; returns what the manifest says of it."""
    with tempfile.TemporaryDirectory() as scratch:
        packed = subprocess.run(
            ["npm", "pack", package, "--json"], cwd=scratch, check=True, capture_output=True, text=True
        )
        (told,) = json.loads(packed.stdout)
        with tarfile.open(Path(scratch) / told["filename"]) as archive:
            taken = {here: _member(archive, f"package/{there}") for there, here in files.items()}
    for name, content in taken.items():
        (target / name).write_bytes(content)
    checksums = {name: hashlib.sha256(content).hexdigest() for name, content in taken.items()}
    return {"package": package, "integrity": told["integrity"], "sha256": checksums}


def _member(archive: tarfile.TarFile, name: str) -> bytes:
    file = archive.extractfile(name)
    if file is None:
        raise SystemExit(f"{name} is not in the package")
    return file.read()


if __name__ == "__main__":
    main(*sys.argv[1:])
