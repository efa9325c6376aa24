"""The image and the system of containers, as far as it goes without an engine: nothing here is built or started."""

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from orchestrator import serving
from orchestrator.settings import load
from orchestrator.web.safety import dangers

HADOLINT = Path(sys.executable).with_name("hadolint")


@pytest.fixture
def compose(deploy: Path) -> dict[str, Any]:
    return yaml.safe_load((deploy / "compose.yaml").read_text("utf-8"))


@pytest.mark.skipif(not HADOLINT.exists(), reason="NOT CHECKED: hadolint has no build for this platform")
def test_the_image_is_well_made(deploy: Path):
    """hadolint has nothing to say, not even in passing."""
    done = subprocess.run(
        [HADOLINT, "--no-color", deploy / "Containerfile"], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout) == (0, ""), done.stdout + done.stderr


def test_the_process_gets_the_signals_and_is_nobody(deploy: Path):
    """No shell stands between the engine and the process, and it is a number that is not root's."""
    lines = (deploy / "Containerfile").read_text("utf-8").splitlines()
    instructions = dict(line.split(" ", 1) for line in lines if re.match(r"[A-Z]+ ", line))
    assert instructions["ENTRYPOINT"] == '["orchestrator"]'
    assert instructions["CMD"] == '["serve"]'
    assert int(instructions["USER"].split(":")[0]) > 0


def test_every_setting_of_the_composition_is_one(compose: dict[str, Any]):
    """The orchestrator would start with what its container is told, and in no way that is unsafe."""
    told = {k: v for k, v in compose["services"]["orchestrator"]["environment"].items() if k != "CREDENTIALS_DIRECTORY"}
    settings = load(environ=told)
    assert (settings.web.host, settings.auth.configured, settings.web.insecure) == ("0.0.0.0", True, False)
    assert dangers(settings) == []
    assert {line.split(" ")[0] for line in settings.agents.allowed} == {"embedder-1", "modelreasoner-1"}


def test_what_the_services_may_do(compose: dict[str, Any]):
    """No capability, no new privilege, nothing to write to but volumes; a health check; ports on this machine only."""
    for name, service in compose["services"].items():
        assert service["cap_drop"] == ["ALL"], name
        assert service["security_opt"] == ["no-new-privileges:true"], name
        assert service.get("read_only") or name == "postgres", name
        assert "healthcheck" in service or name == "orchestrator", name
        assert all(port.startswith("127.0.0.1:") for port in service.get("ports", [])), name
        assert not any("PASSWORD" in key and not key.endswith("_FILE") for key in service.get("environment", {})), name


def test_what_is_named_is_there(compose: dict[str, Any], deploy: Path):
    """Volumes, networks and secrets are declared, files that are mounted exist."""
    for name, service in compose["services"].items():
        for volume in service.get("volumes", []):
            source = volume.split(":")[0]
            assert source in compose["volumes"] or (deploy / source).is_file(), f"{name}: {source}"
        for secret in service.get("secrets", []):
            assert (secret if isinstance(secret, str) else secret["source"]) in compose["secrets"], name
        assert set(service["networks"]) <= set(compose["networks"]), name
        assert set(service.get("depends_on", {})) <= set(compose["services"]), name


def test_the_drain_has_its_time(compose: dict[str, Any]):
    """The engine is more patient than the process that ends."""
    grace = compose["services"]["orchestrator"]["stop_grace_period"]
    assert int(grace.removesuffix("s")) > load().dispatch.drain_s + serving.HARD_STOP_MARGIN_S
