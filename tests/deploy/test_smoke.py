"""`scripts/smoke_test.sh` against orchestrators that are well and against what is not, in a plain shell."""

import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from subprocess import CompletedProcess

import anyio
import pytest
import trustme
from aiohttp import web
from containers import written

from orchestrator.domain.identity import Scope
from orchestrator.testing import Service

pytestmark = pytest.mark.anyio

SCRIPT = Path(__file__).resolve().parents[2] / "scripts/smoke_test.sh"
SCOPES = "tasks:submit tasks:read audit:read"
KEYS = {"ORCHESTRATOR_AUTH_API_KEYS": "true"}


async def smoke(*words: str, **environ: str) -> CompletedProcess[bytes]:
    told: Mapping[str, str] = {"PATH": os.environ["PATH"], **environ}
    return await anyio.run_process(["/bin/dash", str(SCRIPT), *words], env=told, check=False)


def passed(done: CompletedProcess[bytes]) -> bool:
    return (done.returncode, done.stdout.count(b"ok: "), done.stderr) == (0, 8, b"")


def failed(done: CompletedProcess[bytes], why: str, code: int = 1) -> bool:
    """With one line at the end that says why."""
    return done.returncode == code and why in done.stderr.decode().splitlines()[-1]


async def test_where_nobody_is_asked(tmp_path: Path) -> None:
    """All is well; so it is the second time, with a key of its own, and with the URL from the environment."""
    async with Service(tmp_path / "ledger.db") as service:
        url = f"http://127.0.0.1:{service.port}"
        assert passed(await smoke(url))
        assert passed(await smoke(f"{url}/"))
        assert passed(await smoke(ORCHESTRATOR_URL=url))


@pytest.mark.parametrize("variable", ["ORCHESTRATOR_TOKEN", "ORCHESTRATOR_API_KEY"])
async def test_with_a_key(tmp_path: Path, variable: str) -> None:
    """In the variables of the command line, or in a file that they name; it is printed nowhere."""
    async with Service(tmp_path / "ledger.db", KEYS) as service:
        url = f"http://127.0.0.1:{service.port}"
        _, key = await service.orchestrator.gateway.create_key("smoke", frozenset(Scope(s) for s in SCOPES.split()))
        folder = written(tmp_path / "a folder", {"key": f"{key}\n"})
        for told in ({variable: key}, {f"{variable}_FILE": str(folder / "key")}):
            done = await smoke(url, **told)
            assert passed(done), done
            assert key.encode() not in done.stdout
        assert failed(await smoke(url), "E_UNAUTHENTICATED")
        assert failed(await smoke(url, **{variable: key[:-1] + ("0" if key[-1] != "0" else "1")}), "E_UNAUTHENTICATED")


@pytest.mark.parametrize("missing", SCOPES.split())
async def test_with_a_key_that_may_not_all(tmp_path: Path, missing: str) -> None:
    """1: what cannot be seen is not taken for well."""
    async with Service(tmp_path / "ledger.db", KEYS) as service:
        scopes = frozenset(Scope(scope) for scope in SCOPES.split() if scope != missing)
        _, key = await service.orchestrator.gateway.create_key("smoke", scopes)
        done = await smoke(f"http://127.0.0.1:{service.port}", ORCHESTRATOR_TOKEN=key)
        assert failed(done, "E_FORBIDDEN"), done


class Authority:
    """A certificate for us, and others for those who ask."""

    def __init__(self, folder: Path) -> None:
        self._ca, self._folder = trustme.CA(), written(folder, {})
        self._ca.cert_pem.write_to_path(folder / "ca.pem")
        certificate, key = self.issue("127.0.0.1")
        self.settings = {"ORCHESTRATOR_WEB_TLS_CERTIFICATE_FILE": certificate, "ORCHESTRATOR_WEB_TLS_KEY_FILE": key}
        self.trusted = {"ORCHESTRATOR_TLS_CA_FILE": str(folder / "ca.pem")}

    def issue(self, name: str) -> tuple[str, str]:
        issued, files = self._ca.issue_cert(name), (self._folder / f"{name}.pem", self._folder / f"{name}.key")
        files[0].write_bytes(b"".join(pem.bytes() for pem in issued.cert_chain_pems))
        issued.private_key_pem.write_to_path(files[1])
        return str(files[0]), str(files[1])


async def test_over_tls(tmp_path: Path) -> None:
    """With the authority's file all is well; without it, with another one, or by plain http, it is not."""
    ours, other = Authority(tmp_path / "with spaces"), Authority(tmp_path / "other")
    async with Service(tmp_path / "ledger.db", ours.settings) as service:
        url = f"https://127.0.0.1:{service.port}"
        assert passed(await smoke(url, **ours.trusted))
        for told in ({}, other.trusted):
            done = await smoke(url, **told)
            assert done.returncode == 1, done
            assert b"certificate" in done.stderr, done
        assert (await smoke(url.replace("https", "http"))).returncode == 1


async def test_with_a_client_certificate(tmp_path: Path) -> None:
    """Which is enough where it is asked for, and without which nobody gets in."""
    ours = Authority(tmp_path / "with spaces")
    certificate, key = ours.issue("smoke.clinic")
    asking = {
        "ORCHESTRATOR_AUTH_CERTIFICATE_CA_FILE": ours.trusted["ORCHESTRATOR_TLS_CA_FILE"],
        "ORCHESTRATOR_AUTH_CERTIFICATES": f"smoke.clinic {SCOPES}",
    }
    shown = {"ORCHESTRATOR_TLS_CERTIFICATE_FILE": certificate, "ORCHESTRATOR_TLS_KEY_FILE": key}
    async with Service(tmp_path / "ledger.db", {**ours.settings, **asking}) as service:
        url = f"https://127.0.0.1:{service.port}"
        done = await smoke(url, **ours.trusted, **shown)
        assert passed(done), done
        assert (await smoke(url, **ours.trusted)).returncode == 1


@pytest.mark.parametrize("text", ["hello", '{"status":"ok"}', '{"status":"ok","ready":true,"task_id":"task-1"}'])
async def test_something_else_answers(text: str) -> None:
    """1, however well it says it is."""

    async def answer(_: web.Request) -> web.Response:
        return web.Response(text=text)

    app = web.Application()
    app.router.add_route("*", "/{path:.*}", answer)
    runner = web.AppRunner(app)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        done = await smoke(f"http://127.0.0.1:{runner.addresses[0][1]}")
    finally:
        await runner.cleanup()
    assert (done.returncode, done.stderr.startswith(b"FAIL: ")) == (1, True), done


async def test_nobody_answers() -> None:
    """1."""
    assert (await smoke("http://127.0.0.1:1")).returncode == 1


async def test_what_cannot_be_tried(tmp_path: Path) -> None:
    """2: too many words, no URL, a file that is not there, no curl."""
    assert failed(await smoke("http://a", "http://b"), "one URL", 2)
    for word in ("", "127.0.0.1:8080", "ftp://x", "--help"):
        assert failed(await smoke(word or "nothing"), "no URL", 2), word
    done = await smoke("http://127.0.0.1:1", ORCHESTRATOR_TOKEN_FILE=str(tmp_path / "nowhere"))
    assert failed(done, "cannot be read", 2), done
    tools = written(tmp_path / "bin", {})
    (tools / "cat").symlink_to(shutil.which("cat") or "")
    assert failed(await smoke("http://127.0.0.1:1", PATH=str(tools)), "curl is needed", 2)
