"""What comes from others: which packages, what of them runs unasked, and how new they may be."""

import re
import shutil
import subprocess
import sys
import sysconfig
from datetime import UTC, datetime, timedelta
from importlib import import_module, metadata
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[1]
HEADING = "### What it is made of"
DEVELOPING = {
    "distutils-precedence.pth",
    f"__editable__.routing_orchestrator-{metadata.version('routing-orchestrator')}.pth",
}
"""Of setuptools, and of the checkout that is installed in place. Neither is in what ships."""


@pytest.fixture
def scripts(monkeypatch: pytest.MonkeyPatch) -> tuple[Any, Any]:
    """The scripts that make the bundle, and with it the image; each finds the other beside it."""
    monkeypatch.syspath_prepend(str(ROOT / "scripts"))
    return import_module("make_bundle"), import_module("check_wheel")


def needed(check_wheel: Any, extras: str = "") -> set[str]:
    """Canonical names of what an installation with these extras brings beside ourselves."""
    own = canonicalize_name(check_wheel.NAME)
    return set(check_wheel.closure(Requirement(f"{check_wheel.NAME}[{extras}]"), set())) - {own}


def listed() -> list[str]:
    """The packages that the page names: each stands in its list, in backticks."""
    section = (ROOT / "docs/security.md").read_text("utf-8").split(HEADING)[1]
    return re.findall("`([^`]+)`", section.split("\n- ", 1)[1].split("\n\n")[0])


def test_the_packages_are_those_on_the_page(scripts: tuple[Any, Any]) -> None:
    """Each package of an installation without extras is on the page, once, and in the lock; their number is said."""
    packages = listed()
    found = needed(scripts[1])
    assert sorted(set(packages)) == sorted(packages)
    assert found - set(packages) == set()
    # What only some versions of Python need is named as well.
    assert set(packages) - found <= {"typing-extensions"}
    section = (ROOT / "docs/security.md").read_text("utf-8").split(HEADING)[1]
    assert f" {len(packages)} packages" in section.split("\n- ")[0]
    lock = (ROOT / "requirements.lock").read_text("utf-8")
    assert found <= {canonicalize_name(name) for name in re.findall(r"^([\w.-]+)==", lock, re.MULTILINE)}


def test_what_python_runs_at_each_start_here(scripts: tuple[Any, Any]) -> None:
    """Of all that the lock installs, the tools of developers included, only what is known."""
    folders = {Path(sysconfig.get_path(kind)) for kind in ("purelib", "platlib")}
    names = [entry.name for folder in folders for entry in folder.iterdir()]
    assert scripts[0].unasked(names) == DEVELOPING


def test_what_python_runs_at_each_start_where_it_is_installed(scripts: tuple[Any, Any]) -> None:
    """Nothing, with whatever extras: the bundle's wheels, and so the image, hold these files."""
    extras = set(metadata.metadata(scripts[1].NAME).get_all("Provides-Extra") or ()) - {"dev"}
    assert extras > set(scripts[0].EXTRAS.split(","))
    for name in needed(scripts[1], ",".join(extras)):
        files = metadata.distribution(name).files
        assert files, name
        assert scripts[0].unasked(file.parts[0] for file in files) == set(), name
        assert "setuptools" not in name


def test_what_would_be_found(scripts: tuple[Any, Any]) -> None:
    """Files of paths, and modules and packages that the interpreter looks for by itself; no data further down."""
    bad = {"a.pth", "sitecustomize.py", "usercustomize", "sitecustomize.cpython-311-x86_64-linux-gnu.so"}
    assert scripts[0].unasked([*bad, "weights", "pth.py", "site.py", "customize.py", "a.pth.txt"]) == bad


def test_a_bundle_takes_nothing_that_would_have_to_be_built() -> None:
    """Wheels alone, by their hashes, are downloaded, so no code of theirs runs when they are installed."""
    text = (ROOT / "scripts/make_bundle.py").read_text("utf-8")
    (download,) = re.findall(r'run\(\*PIP, "download", .*\)', text)
    assert '"--only-binary=:all:"' in download
    assert '"--require-hashes"' in download


def recipe(target: str, *words: str) -> str:
    make = shutil.which("make") or "make"
    command = [make, "--dry-run", "--directory", str(ROOT), f"PYTHON={sys.executable}", target, *words]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


@pytest.mark.parametrize("target", ["lock", "lock-bench"])
def test_new_releases_wait(target: str) -> None:
    """A lock takes nothing that was published in the last 14 days, unless it is told to."""
    (before,) = re.findall(r"--exclude-newer (\S+)", recipe(target))
    age = datetime.now(UTC) - datetime.fromisoformat(before)
    assert timedelta(days=14) <= age < timedelta(days=14, minutes=5)
    (later,) = re.findall(r"--exclude-newer (\S+)", recipe(target, "COOLDOWN=3"))
    assert datetime.fromisoformat(later) > datetime.fromisoformat(before)
    assert "uv" in recipe(target, "COOLDOWN=0")
    assert "--exclude-newer" not in recipe(target, "COOLDOWN=0")


def test_every_locked_package_has_its_hashes() -> None:
    """Whatever the index hands out, another file than the one that was locked is not installed."""
    for lock in ("requirements.lock", "bench/requirements.lock"):
        entries = re.split(r"\n(?=\S)", (ROOT / lock).read_text("utf-8").strip())
        assert len(entries) > 10
        assert [entry for entry in entries if "--hash=sha256:" not in entry] == []
