"""The end of service with requests open, on all stores and Pythons: each is answered or closed within seconds."""

import json
import os
import shutil
import subprocess
import sys
import tomllib
from importlib import metadata
from pathlib import Path

import pytest
import stores

ROOT = Path(__file__).resolve().parents[2]
SCENARIO = Path(__file__).with_name("open_requests.py")
HERE = f"{sys.version_info.major}.{sys.version_info.minor}"
STOP_WITHIN_S = 8.0
PLACES = [
    *((HERE, combination) for combination in stores.COMBINATIONS),
    *((version, "sqlite") for version in ("3.12", "3.13") if version != HERE),
]


def python_of(version: str, request: pytest.FixtureRequest) -> str:
    """An interpreter of that version with what we depend on, in the versions that we have here; skips without one."""
    if version == HERE:
        return sys.executable
    own = sorted(Path.home().glob(f".pyenv/versions/{version}.*/bin/python"))
    found = os.environ.get(f"PYTHON_{version.replace('.', '_')}") or (
        str(own[-1]) if own else shutil.which(f"python{version}")
    )
    if not found or subprocess.run([found, "-c", ""], capture_output=True, check=False).returncode:
        pytest.skip(f"NOT TESTED ON PYTHON {version}: there is none here")
    if not request.config.pluginmanager.hasplugin("cacheprovider"):
        pytest.skip(f"NOT TESTED ON PYTHON {version}: its packages need pytest's cache")
    folder = request.config.cache.mkdir(f"python{version}")
    python, stamp = folder / "bin" / "python", folder / "installed"
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    pins = "\n".join(sorted({f"{found.name}=={found.version}" for found in metadata.distributions()}))
    if not stamp.exists() or stamp.read_text("utf-8") != pins:
        constraints = folder / "constraints.txt"
        subprocess.run([found, "-m", "venv", "--clear", str(folder)], check=True, capture_output=True)
        ours = f"{project['name']}=="
        constraints.write_text("\n".join(pin for pin in pins.splitlines() if not pin.startswith(ours)), "utf-8")
        install = [str(python), "-m", "pip", "install", "-q", "-c", str(constraints), *project["dependencies"]]
        done = subprocess.run(install, capture_output=True, text=True, check=False, timeout=500)
        if done.returncode:
            pytest.skip(f"NOT TESTED ON PYTHON {version}: its packages cannot be installed: {done.stderr[-300:]}")
        stamp.write_text(pins, "utf-8")
    return str(python)


@pytest.mark.timeout(700)
@pytest.mark.parametrize(("version", "ledger"), PLACES, indirect=["ledger"])
def test_a_stop_with_requests_open(version: str, ledger: dict[str, str], request: pytest.FixtureRequest) -> None:
    """Long-polls are answered, streams end, synchronous calls get their seconds, the rest is closed; all is kept."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT / ".pkg"), "PYTHONDONTWRITEBYTECODE": "1"}
    run = subprocess.run(
        [python_of(version, request), "-W", "error", str(SCENARIO), json.dumps(ledger)],
        capture_output=True, text=True, check=False, timeout=120, env=environment,
    )  # fmt: skip
    assert run.returncode == 0, run.stdout[-3000:] + run.stderr[-6000:]
    seen = json.loads(run.stdout.splitlines()[-1])
    assert "never retrieved" not in run.stderr
    assert "was destroyed" not in run.stderr

    status, body, after = seen["long_poll"]
    assert (status, body["status"]) == (200, "queued")
    assert after < 2
    status, body, after = seen["stream"]
    assert (status, body.count("event: state"), body.count("event: end")) == (200, 1, 0)
    assert body.endswith("\r\n0\r\n\r\n"), "the stream is ended, not broken off"
    assert after < 2
    status, body, after = seen["sync_in_time"]
    assert (status, body["status"]) == (200, "completed_sync")
    assert after < 3
    for name in ("sync", "half_body"):
        status, body, after = seen[name]
        assert (status, body["code"]) == (503, "E_SHUTTING_DOWN"), name
        assert after < STOP_WITHIN_S
    for name in ("half_header", "silent"):
        assert seen[name][0] is None, name
        assert seen[name][2] < 2
    assert seen["idle"][0] == 200
    assert seen["idle"][2] < 2
    assert seen["stopped"] < STOP_WITHIN_S
    assert seen["left"] == []
    # The call that was broken off is not lost: under its key it is the same task, which waits again.
    assert seen["after"]["status"] == "duplicate"
    assert seen["after"]["state"] in ("queued", "leased", "retry_wait")
    assert seen["events"][:2] == ["accepted", "given_back"]
