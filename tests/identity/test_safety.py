"""What is unsafe is not started, unless somebody asks for it; then it says so itself."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from served_at import url_said

from orchestrator.settings import load
from orchestrator.testing import Service
from orchestrator.web.safety import HEADER, Unsafe, check, dangers, is_local

OPEN = {"ORCHESTRATOR_WEB_HOST": "0.0.0.0"}
PLAIN = {
    "ORCHESTRATOR_AGENTS_ALLOW_PLAINTEXT": "true",
    "ORCHESTRATOR_AGENTS_ALLOWED_NETWORKS": "127.0.0.0/8,10.0.0.0/8",
}
WATCHED = {"ORCHESTRATOR_WEB_WATCH_HOST": "0.0.0.0", "ORCHESTRATOR_WEB_WATCH_PORT": "8081"}
KEYS = {"ORCHESTRATOR_AUTH_API_KEYS": "true"}
NOBODY_ASKED, PLAINTEXT = "no authentication beyond this machine", "plaintext agents beyond this machine"


@pytest.mark.parametrize(
    ("environ", "found"),
    [
        ({}, []),
        (OPEN, [NOBODY_ASKED]),
        ({"ORCHESTRATOR_WEB_HOST": "::"}, [NOBODY_ASKED]),
        ({"ORCHESTRATOR_WEB_HOST": "box.clinic"}, [NOBODY_ASKED]),
        ({"ORCHESTRATOR_WEB_HOST": "127.8.9.1"}, []),
        ({**OPEN, **KEYS}, []),
        ({"ORCHESTRATOR_WEB_WATCH_HOST": "0.0.0.0"}, []),
        (WATCHED, [NOBODY_ASKED]),
        ({**WATCHED, **KEYS}, []),
        ({"ORCHESTRATOR_WEB_WATCH_PORT": "8081"}, []),
        ({**OPEN, **WATCHED, "ORCHESTRATOR_WEB_WATCH_HOST": "127.0.0.1"}, [NOBODY_ASKED]),
        (PLAIN, [PLAINTEXT]),
        ({"ORCHESTRATOR_AGENTS_ALLOW_PLAINTEXT": "true"}, []),
        (
            {"ORCHESTRATOR_AGENTS_ALLOW_PLAINTEXT": "true", "ORCHESTRATOR_AGENTS_ALLOWED_HOSTS": "gpu.clinic"},
            [PLAINTEXT],
        ),
        ({**OPEN, **PLAIN}, [NOBODY_ASKED, PLAINTEXT]),
        ({**OPEN, **PLAIN, **KEYS}, [PLAINTEXT]),
    ],
)
def test_dangers(environ: dict[str, str], found: list[str]) -> None:
    """Each is named, refused by default, and let through where it is asked for."""
    settings = load(environ=environ)
    assert dangers(settings) == found
    if found:
        with pytest.raises(Unsafe, match="insecure"):
            check(settings)
    check(load(environ={**environ, "ORCHESTRATOR_WEB_INSECURE": "true"}))


@pytest.mark.parametrize("host", ["127.0.0.1", "127.0.0.2", "::1", "localhost"])
def test_this_machine(host: str) -> None:
    """Is where nobody else comes from."""
    assert is_local(host)


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "10.0.0.1", "localhost.evil.example", "", "fe80::1%lo", "213070643"])
def test_other_machines(host: str) -> None:
    """Come from everywhere else, and from what could be anywhere."""
    assert not is_local(host)


def environ_of(folder: Path, **own: str) -> dict[str, str]:
    return {**os.environ, "DATABASE_URL": f"sqlite:///{folder}/ledger.db", **own}


@pytest.mark.parametrize("words", [["--host", "0.0.0.0"], ["--host", "::"]])
def test_the_process_refuses(words: list[str], tmp_path: Path) -> None:
    """Exit code 2 and one line that names the danger and the way out; nothing was opened."""
    done = subprocess.run(
        [sys.executable, "-m", "orchestrator", "serve", "--port", "0", *words],
        env=environ_of(tmp_path), capture_output=True, text=True, timeout=30, check=False,
    )  # fmt: skip
    if "cannot listen" in done.stderr:
        pytest.skip("NOT TRIED: this machine has no such address")
    assert (done.returncode, len(done.stderr.splitlines())) == (2, 1), done.stderr
    assert "no authentication" in done.stderr
    assert "--insecure" in done.stderr
    assert not list(tmp_path.iterdir())


def test_the_process_that_is_told_to(tmp_path: Path) -> None:
    """Serves, and says so in /health and on every answer."""
    import json
    from urllib.request import urlopen

    server = subprocess.Popen(
        [sys.executable, "-m", "orchestrator", "serve", "--port", "0", "--host", "0.0.0.0", "--insecure"],
        env=environ_of(tmp_path), stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        assert server.stderr
        port = url_said(server).rsplit(":", 1)[1]
        for path in ("/health", "/agents"):
            with urlopen(f"http://127.0.0.1:{port}{path}", timeout=10) as answer:
                assert answer.headers[HEADER] == NOBODY_ASKED
                if path == "/health":
                    assert json.load(answer)["insecure"] == [NOBODY_ASKED]
    finally:
        server.send_signal(signal.SIGTERM)
        server.communicate(timeout=30)


@pytest.mark.anyio
async def test_a_safe_one_says_nothing(service: Service) -> None:
    """Of itself."""
    health = await service.ask("GET", "/health")
    assert "insecure" not in health.json
    assert HEADER not in health.headers
