"""The units for systemd: consistent with the program that they start, and closed as far as it goes."""

import re
import shutil
import subprocess
import sys
from collections import defaultdict
from pathlib import Path

import pytest

from orchestrator import serving
from orchestrator.settings import load
from orchestrator.supervisor import MARGIN_S

EXPOSURE = 2.5
SECONDS = {"": 1, "s": 1, "min": 60}

ANALYZE = shutil.which("systemd-analyze") or ""

needs_systemd = pytest.mark.skipif(
    not ANALYZE,
    reason="NOT CHECKED: syntax and exposure of the units need systemd-analyze (Debian: apt-get install systemd)",
)


def directives(unit: Path) -> dict[str, list[str]]:
    """What the unit says, by the name of the directive, in order."""
    found: dict[str, list[str]] = defaultdict(list)
    for line in unit.read_text("utf-8").splitlines():
        if "=" in line and not line.startswith("#"):
            name, _, value = line.partition("=")
            found[name].append(value)
    return found


def seconds(text: str) -> float:
    found = re.fullmatch(r"(\d+)(\D*)", text)
    assert found is not None, text
    return int(found[1]) * SECONDS[found[2]]


@pytest.fixture
def service(deploy: Path) -> dict[str, list[str]]:
    return directives(deploy / "systemd/orchestrator.service")


def test_exit_codes(service):
    """It is started again for every code but those that only a person can mend."""
    hopeless = {int(code) for code in service["RestartPreventExitStatus"][0].split()}
    assert hopeless == {serving.EXIT_SETTINGS, serving.EXIT_CORRUPT}
    assert service["Restart"] == ["on-failure"]
    assert {serving.EXIT_GAVE_UP, serving.EXIT_RECOVER, serving.EXIT_LOCKED}.isdisjoint(hopeless)


def test_times(service):
    """The drain fits into the time to stop; an actor that is late is restarted by us before systemd restarts us."""
    drain = load().dispatch.drain_s
    assert seconds(service["TimeoutStopSec"][0]) > drain + max(serving.HARD_STOP_MARGIN_S, MARGIN_S)
    assert seconds(service["WatchdogSec"][0]) > 30 + MARGIN_S


def test_the_database_is_in_the_one_folder_that_can_be_written(service):
    """Everything else is read-only to the service."""
    (database,) = [value for value in service["Environment"] if value.startswith("DATABASE_URL=")]
    assert database == f"DATABASE_URL=sqlite:///%S/{service['StateDirectory'][0]}/ledger.db"
    assert service["ProtectSystem"] == ["strict"]
    assert service["DynamicUser"] == ["yes"]


@pytest.fixture
def installed(deploy: Path, tmp_path: Path) -> Path:
    """The units as they would be installed, but with a program that is there."""
    for unit in (deploy / "systemd").glob("orchestrator.*"):
        text = unit.read_text("utf-8").replace("/opt/orchestrator/bin/orchestrator", sys.executable)
        (tmp_path / unit.name).write_text(text, "utf-8")
    return tmp_path


def analyze(*arguments: str | Path) -> str:
    done = subprocess.run([ANALYZE, *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


@needs_systemd
def test_syntax(installed: Path):
    """systemd knows every directive and value: no line of complaint about a unit of ours."""
    units = sorted(installed.glob("orchestrator.*"))
    said = analyze("verify", "--man=no", *units)
    assert [line for line in said.splitlines() if "orchestrator." in line] == []


@needs_systemd
def test_exposure(installed: Path):
    """systemd's own measure of what the service could do to the machine, worst 10."""
    said = analyze("security", "--offline=yes", "--no-pager", installed / "orchestrator.service")
    level = re.search(r"exposure level for orchestrator.service: ([\d.]+)", said)
    assert level is not None, said
    assert float(level[1]) <= EXPOSURE
