"""Builds the wheel from this checkout, installs it with its locked dependencies, and sees that all is there.

Run it with the interpreter of `.venv` (`make wheel`). Two environments are made: with the dependencies alone the
command must answer; with the extras every module must be importable. Exits with a message where something is
missing.
"""

import json
import re
import shutil
import subprocess
import sys
import tempfile
import tomllib
import venv
import zipfile
from collections.abc import Iterable, Iterator
from importlib import metadata
from pathlib import Path, PurePosixPath

from packaging.requirements import Requirement
from packaging.utils import NormalizedName, canonicalize_name

ROOT = Path(__file__).resolve().parent.parent
NAME: str = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]["name"]

# What ships: the modules at the root, all that lies in a package's folder, and this.
DATA_FOLDERS = {"examples", "schemas"}
ROOT_DATA = {"py.typed", "settings.toml"}

# Run by the new environment's interpreter, in an empty folder; told by JSON on its standard input.
PROBE = """
import importlib, json, sys
from importlib import resources
asked = json.load(sys.stdin)
for name in asked["modules"]:
    module = importlib.import_module(name)
    if not module.__file__.startswith(sys.prefix):
        sys.exit(f"{name} came from {module.__file__}")
lost = [name for name in asked["data"] if not resources.files("orchestrator").joinpath(name).is_file()]
if lost:
    sys.exit(f"not installed: {lost}")
"""


def run(*command: str | Path, cwd: Path = ROOT, told: str = "") -> str:
    """What the command printed. Ends this script with its complaint where it fails."""
    done = subprocess.run(
        [str(part) for part in command], cwd=cwd, input=told, capture_output=True, text=True, check=False
    )
    if done.returncode:
        sys.exit(f"{' '.join(map(str, command))}\n{done.stdout}{done.stderr}exit code {done.returncode}")
    return done.stdout


def tree() -> list[str]:
    """The files of the checkout: those that git has, or would take."""
    listed = run("git", "ls-files", "-z", "--cached", "--others", "--exclude-standard").split("\0")
    return sorted({name for name in listed if name and (ROOT / name).is_file()})


def expected(files: list[str]) -> tuple[set[str], set[str]]:
    """Modules and data that belong in the wheel, as paths in the checkout."""
    packages = {name.removesuffix("/__init__.py") for name in files if name.endswith("/__init__.py")}
    modules: set[str] = set()
    data: set[str] = set()
    for name in files:
        folder, _, _ = name.rpartition("/")
        top = folder.partition("/")[0]
        if (not folder or top in packages) and name.endswith(".py"):
            modules.add(name)
        elif top in packages | DATA_FOLDERS or name in ROOT_DATA:
            data.add(name)
    return modules, data


def build(files: Iterable[str], scratch: Path) -> Path:
    """The wheel, built from a copy, so that nothing stale or ignored gets into it."""
    source = scratch / "source"
    for name in files:
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(ROOT / name, source / name)
    run(sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", scratch, source)
    (wheel,) = scratch.glob("*.whl")
    return wheel


def compare(wheel: Path, files: set[str]) -> None:
    """Ends this script unless the wheel holds just these files and its own metadata."""
    held = {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name}
    wanted = {f"orchestrator/{name}" for name in files}
    if held != wanted:
        sys.exit(f"missing from the wheel: {sorted(wanted - held)}\nshould not be in it: {sorted(held - wanted)}")


def closure(requirement: Requirement, seen: set[tuple[str, str]]) -> Iterator[NormalizedName]:
    """Canonical names of the requirement and of all that it needs here, as installed in this environment."""
    name = canonicalize_name(requirement.name)
    for extra in {"", *requirement.extras}:
        if (name, extra) in seen:
            continue
        seen.add((name, extra))
        yield name
        for text in metadata.requires(name) or ():
            need = Requirement(text)
            if need.marker is None or need.marker.evaluate({"extra": extra}):
                yield from closure(need, seen)


def locked(names: Iterable[NormalizedName]) -> str:
    """The entries of requirements.lock for these names, with their hashes; several where Pythons differ."""
    lock = (ROOT / "requirements.lock").read_text("utf-8")
    entries: dict[str, list[str]] = {}
    for entry in re.split(r"\n(?=\S)", lock):
        entries.setdefault(canonicalize_name(entry.partition("==")[0]), []).append(entry)
    return "\n".join(entry for name in sorted(set(names)) for entry in entries[name])


def install(wheel: Path, requirement: Requirement, home: Path) -> Path:
    """The folder of commands of a new environment with the wheel and what the lock says that it needs."""
    venv.create(home, with_pip=True)
    needs = set(closure(requirement, set())) - {canonicalize_name(NAME)}
    (home / "requirements.txt").write_text(locked(needs), "utf-8")
    pip = (home / "bin/python", "-m", "pip", "--disable-pip-version-check", "-qq", "install", "--no-deps")
    run(*pip, "--progress-bar", "off", "--require-hashes", "--requirement", home / "requirements.txt")
    run(*pip, "--no-index", wheel)
    run(home / "bin/python", "-m", "pip", "--disable-pip-version-check", "check")
    return home / "bin"


def module_name(path: str) -> str:
    parts = ("orchestrator", *PurePosixPath(path).with_suffix("").parts)
    return ".".join(part for part in parts if part != "__init__")


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        scratch = Path(folder)
        empty = scratch / "empty"
        empty.mkdir()
        files = tree()
        modules, data = expected(files)
        wheel = build(files, scratch)
        compare(wheel, modules | data)
        commands = install(wheel, Requirement(NAME), scratch / "plain")
        if not run(commands / "orchestrator", "--help", cwd=empty).strip():
            sys.exit("orchestrator --help has nothing to say")
        commands = install(wheel, Requirement(f"{NAME}[demo,otel,postgres,redis]"), scratch / "whole")
        names = sorted(module_name(path) for path in modules if not path.endswith("__main__.py"))
        told = json.dumps({"modules": names, "data": sorted(data)})
        run(commands / "python", "-I", "-c", PROBE, cwd=empty, told=told)
        print(f"{wheel.name}: {len(modules)} modules and {len(data)} data files are there, and the command answers")


if __name__ == "__main__":
    main()
