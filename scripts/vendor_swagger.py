"""Takes Swagger UI from its npm package into web/swagger/, with the checksums of what was taken; needs npm.

python scripts/vendor_swagger.py 5.35.0
"""

import hashlib
import json
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

FOLDER = Path(__file__).resolve().parents[1] / "web" / "swagger"
FILES = ("swagger-ui-bundle.js", "swagger-ui.css", "LICENSE", "NOTICE")


def main(version: str) -> None:
    package = f"swagger-ui-dist@{version}"
    with tempfile.TemporaryDirectory() as scratch:
        packed = subprocess.run(
            ["npm", "pack", package, "--json"], cwd=scratch, check=True, capture_output=True, text=True
        )
        (told,) = json.loads(packed.stdout)
        with tarfile.open(Path(scratch) / told["filename"]) as archive:
            taken = {name: _member(archive, f"package/{name}") for name in FILES}
    FOLDER.mkdir(exist_ok=True)
    for name, content in taken.items():
        (FOLDER / name).write_bytes(content)
    manifest = {
        "package": package,
        "integrity": told["integrity"],
        "sha256": {name: hashlib.sha256(content).hexdigest() for name, content in taken.items()},
    }
    (FOLDER / "vendored.json").write_text(json.dumps(manifest, indent=2) + "\n", "utf-8")
    print(f"{package}: {told['integrity']}")


def _member(archive: tarfile.TarFile, name: str) -> bytes:
    file = archive.extractfile(name)
    if file is None:
        raise SystemExit(f"{name} is not in the package")
    return file.read()


if __name__ == "__main__":
    main(*sys.argv[1:])
