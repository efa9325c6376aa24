"""The composition at work: its programs as processes, with secrets of its script, a PostgreSQL and a Redis."""

import os
import shutil
import subprocess
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import anyio
import pytest
import yaml
from containers import EXAMPLES, Container, does_its_work, refuses, until_ready, written
from ports import reserved_port

pytestmark = pytest.mark.anyio


@pytest.fixture
def compose(deploy: Path) -> dict[str, Any]:
    return yaml.safe_load((deploy / "compose.yaml").read_text("utf-8"))


def make_secrets(deploy: Path, folder: Path) -> subprocess.CompletedProcess[str]:
    command = ["/bin/dash", str(deploy / "make_secrets.sh"), str(folder)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


@pytest.fixture
def secrets(deploy: Path, tmp_path: Path) -> Path:
    done = make_secrets(deploy, tmp_path / "secrets")
    assert done.returncode == 0, done.stderr
    return tmp_path / "secrets"


def test_what_nobody_else_may_know(deploy: Path, secrets: Path, tmp_path: Path, compose: dict[str, Any]):
    """Everything that the composition names is made, closed to others, at random, and never made over."""
    named = {Path(secret["file"]).name for secret in compose["secrets"].values()}
    assert {file.name for file in secrets.iterdir()} == {*named, "operator_key"}
    assert os.stat(secrets).st_mode & 0o077 == 0
    before = {file.name: file.read_bytes() for file in secrets.iterdir()}
    assert make_secrets(deploy, secrets).returncode == 1
    assert {file.name: file.read_bytes() for file in secrets.iterdir()} == before
    assert make_secrets(deploy, tmp_path / "other").returncode == 0
    assert [name for name in before if (tmp_path / "other" / name).read_bytes() == before[name]] == []


def test_without_openssl(deploy: Path, tmp_path: Path):
    """Nothing is made, and the exit code is 2."""
    tools = written(tmp_path / "bin", {})
    for tool in ("mkdir", "rm"):
        (tools / tool).symlink_to(shutil.which(tool) or "")
    command = ["/bin/dash", str(deploy / "make_secrets.sh"), str(tmp_path / "secrets")]
    done = subprocess.run(command, env={"PATH": str(tools)}, capture_output=True, text=True, check=False)
    assert (done.returncode, "openssl is needed" in done.stderr) == (2, True), done
    assert not (tmp_path / "secrets").exists()


class Composition:
    """The services that are programs of ours."""

    def __init__(self, compose: dict[str, Any], secrets: Path, folder: Path, redis: str) -> None:
        self._compose, self._secrets, self._folder, self._redis = compose, secrets, folder, redis
        self.port, self.watch = reserved_port(), reserved_port()

    def container(self, name: str, entrypoint: tuple[str, ...] = (), command: tuple[str, ...] = ()) -> Container:
        """One of them. `entrypoint` and `command` are those of its image."""
        service = self._compose["services"][name]
        here = {f"/run/secrets/{key}": str(file) for key, file in self._files().items()}
        here |= {volume.split(":")[1]: str(written(self._folder / f"of-{name}", {})) for volume in service["volumes"]}
        for secret in service["secrets"]:
            if isinstance(secret, dict):
                target = Path(secret["target"])
                folder = written(self._folder / f"of-{name}" / "credentials", {})
                shutil.copy(self._files()[secret["source"]], folder / target.name)
                here[str(target.parent)] = str(folder)
        for host in ("orchestrator", "localhost"):
            here |= {f"{host}:8080": f"127.0.0.1:{self.port}", f"{host}:8081": f"127.0.0.1:{self.watch}"}
        here |= {"redis://redis:6379/0": self._redis, "9000": "0", "0.0.0.0": "127.0.0.1"}
        words = [*service.get("entrypoint", entrypoint), *service.get("command", command)]
        return Container(words, service["environment"], here)

    def _files(self) -> dict[str, Path]:
        return {key: self._secrets / Path(secret["file"]).name for key, secret in self._compose["secrets"].items()}


async def test_what_is_composed_works(compose, secrets, redis_url, emptied, deploy, tmp_path: Path):
    """Over TLS, each with its own key: agents work, the smoke test and the health check pass, strangers stay out."""
    assert urlsplit((secrets / "database_url").read_text("utf-8")).hostname in compose["services"]
    (secrets / "database_url").write_text(await emptied.url(), "utf-8")
    composition = Composition(compose, secrets, tmp_path, redis_url)
    orchestrator = composition.container("orchestrator", ("orchestrator",), ("serve",))
    ports = {"ORCHESTRATOR_WEB_PORT": composition.port, "ORCHESTRATOR_WEB_WATCH_PORT": composition.watch}
    orchestrator.environ = {**orchestrator.environ, **{name: str(port) for name, port in ports.items()}}
    agents = [composition.container(name) for name in ("embedder", "modelreasoner")]
    shutil.copy(EXAMPLES / "images/retina.png", tmp_path / "of-embedder")
    url = f"https://127.0.0.1:{composition.port}"
    operator = {
        "PATH": os.environ["PATH"],
        "ORCHESTRATOR_URL": url,
        "ORCHESTRATOR_TLS_CA_FILE": str(secrets / "ca.pem"),
        "ORCHESTRATOR_API_KEY_FILE": str(secrets / "operator_key"),
    }
    async with orchestrator.running(tmp_path):
        await until_ready(url, operator)
        await refuses(url, operator)
        async with agents[0].running(tmp_path), agents[1].running(tmp_path):
            await does_its_work(url, operator)
            script = str(deploy.parent / "scripts/smoke_test.sh")
            done = await anyio.run_process(["/bin/dash", script], env=operator, check=False)
            assert (done.returncode, done.stdout.count(b"ok: ")) == (0, 8), done
        _, *words = compose["services"]["orchestrator"]["healthcheck"]["test"]
        for check in (["orchestrator", "health"], words):  # The image's own, and that of the composition.
            healthy = Container(check, orchestrator.environ, orchestrator.here)
            assert (await healthy.ends(tmp_path)).returncode == 0, check
