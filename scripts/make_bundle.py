"""Makes a bundle: all that a box without a network needs to install the orchestrator, and a bill of materials.

Run it with the interpreter of `.venv` (`make bundle`). The wheels are those of requirements.lock for this interpreter
and machine. The bundle is then installed as its reader would, into an empty environment without an index, the command
is tried there, and what was installed is listed in `sbom.cdx.json` (CycloneDX). Exits with a message where it fails.
The image is made of the same files in the same way, so what holds for the environment made here holds for it.
"""

import hashlib
import json
import os
import shutil
import sys
import tempfile
import venv
from argparse import ArgumentParser
from collections.abc import Iterable
from pathlib import Path

from check_wheel import NAME, ROOT, build, closure, locked, run, tree
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

EXTRAS = "postgres,redis,uvloop,otel"
PIP = (sys.executable, "-m", "pip", "--disable-pip-version-check", "-qq")

INSTALL = """# Installing without a network

Made for {platform} and Python {python}. In this folder:

    sha256sum --check SHA256SUMS
    python3 -m venv /opt/orchestrator
    /opt/orchestrator/bin/pip install --no-index --find-links wheels --require-hashes --requirement requirements.txt
    /opt/orchestrator/bin/orchestrator --version

`sbom.cdx.json` lists what is installed (CycloneDX).
"""


def digest(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()


def gather(bundle: Path, extras: str, scratch: Path) -> None:
    """Our wheel and the locked ones into the bundle; the requirements that name each by its hash."""
    wheel = build(tree(), scratch)
    needs = set(closure(Requirement(f"{NAME}[{extras}]"), set())) - {canonicalize_name(NAME)}
    pinned = scratch / "locked.txt"
    pinned.write_text(locked(needs), "utf-8")
    run(*PIP, "download", "--no-deps", "--only-binary=:all:", "--require-hashes", "-r", pinned, "-d", bundle / "wheels")
    shutil.copy2(wheel, bundle / "wheels")
    requirements = bundle / "requirements.txt"
    ours = f"{NAME}=={wheel.name.split('-')[1]} --hash=sha256:{digest(wheel)}\n"
    requirements.write_text(ours + pinned.read_text("utf-8"), "utf-8")


def unasked(names: Iterable[str]) -> set[str]:
    """Which of the names in a folder of site-packages stand for code that runs at each start of Python (see `site`).

    Nothing else runs unasked: wheels have no code that runs when they are installed.
    """
    return {
        name for name in names if name.endswith(".pth") or name.partition(".")[0] in ("sitecustomize", "usercustomize")
    }


def try_out(bundle: Path, scratch: Path) -> Path:
    """The interpreter of an environment that was empty but for the bundle, in which the command has made a database."""
    home = scratch / "empty"
    venv.create(home, with_pip=False)
    python = home / "bin" / "python"
    install = ("install", "--no-index", "--find-links", bundle / "wheels", "--require-hashes")
    run(*PIP, "--python", python, *install, "--requirement", bundle / "requirements.txt")
    run(*PIP, "--python", python, "check")
    if found := unasked(entry.name for site in home.glob("lib/*/site-packages") for entry in site.iterdir()):
        sys.exit(f"what is installed would run code of its own at each start: {sorted(found)}")
    os.environ["DATABASE_URL"] = f"sqlite:///{scratch}/ledger.db"
    run(home / "bin" / "orchestrator", "tables", cwd=scratch)
    run(home / "bin" / "orchestrator", "audit", "verify", cwd=scratch)
    return python


def bill(python: Path, bundle: Path) -> None:
    """Writes the bill of materials, and ends this script where it lacks something that was to be installed."""
    file = bundle / "sbom.cdx.json"
    options = (
        "--output-reproducible",
        "--validate",
        "--mc-type",
        "application",
        "--pyproject",
        ROOT / "pyproject.toml",
    )
    run(Path(sys.executable).with_name("cyclonedx-py"), "environment", *options, "-o", file, python)
    document = json.loads(file.read_text("utf-8"))
    listed = {canonicalize_name(part["name"]) for part in (document["metadata"]["component"], *document["components"])}
    pins = [line for line in (bundle / "requirements.txt").read_text("utf-8").splitlines() if "==" in line]
    wanted = {canonicalize_name(line.split("==")[0]) for line in pins}
    installed = installed_in(python)
    if lost := (installed - listed) | (installed - wanted):
        sys.exit(f"the bill of materials, or the bundle, does not account for {sorted(lost)}")


def installed_in(python: Path) -> set[str]:
    """Canonical names of what is installed there."""
    listing = run(
        sys.executable, "-m", "pip", "--disable-pip-version-check", "--python", python, "list", "--format", "json"
    )
    return {canonicalize_name(part["name"]) for part in json.loads(listing)}


def describe(bundle: Path) -> None:
    """Writes what its reader has to do, and the sums of all files."""
    python = f"{sys.version_info.major}.{sys.version_info.minor}"
    text = INSTALL.format(platform=f"{sys.platform} {os.uname().machine}", python=python)
    (bundle / "INSTALL.md").write_text(text, "utf-8")
    files = sorted(file for file in bundle.rglob("*") if file.is_file())
    sums = "".join(f"{digest(file)}  {file.relative_to(bundle).as_posix()}\n" for file in files)
    (bundle / "SHA256SUMS").write_text(sums, "utf-8")


def main() -> None:
    options = ArgumentParser(description="Makes a bundle that installs without a network.")
    options.add_argument("--extras", default=EXTRAS, help="of pyproject.toml, between commas (%(default)s)")
    options.add_argument("--output", type=Path, default=ROOT / "dist" / "bundle", help="its folder (%(default)s)")
    told = options.parse_args()
    bundle: Path = told.output
    shutil.rmtree(bundle, ignore_errors=True)
    (bundle / "wheels").mkdir(parents=True)
    with tempfile.TemporaryDirectory() as folder:
        gather(bundle, told.extras, Path(folder))
        bill(try_out(bundle, Path(folder)), bundle)
    describe(bundle)
    sizes = [file.stat().st_size for file in (bundle / "wheels").iterdir()]
    print(f"{bundle}: {len(sizes)} wheels, {sum(sizes) / 2**20:.0f} MiB; installed without an index, and it works")


if __name__ == "__main__":
    main()
