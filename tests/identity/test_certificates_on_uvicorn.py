"""Callers known by their certificate where uvicorn does the TLS and our class takes its connections."""

import ssl
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import pytest
import uvicorn
from anyio.streams.tls import TLSAttribute
from clinic import Clinic

from orchestrator import HttpProtocol, create_app
from orchestrator.client import Client, Unreachable
from orchestrator.settings import load
from orchestrator.web.server import listen

pytestmark = pytest.mark.anyio

GRANTS = {"ORCHESTRATOR_AUTH_CERTIFICATES": "ward-3.clinic tasks:read"}


@pytest.fixture
def clinic(tmp_path: Path) -> Clinic:
    return Clinic(tmp_path / "clinic")


@asynccontextmanager
async def serving(clinic: Clinic, environ: dict[str, str] = GRANTS, **options: Any) -> AsyncGenerator[int]:
    """The whole orchestrator on uvicorn, which asks for certificates; its port."""
    settings = load(environ={"DATABASE_URL": f"sqlite:///{clinic.folder}/ledger.db", **clinic.environ, **environ})
    files: dict[str, Any] = {
        "ssl_certfile": settings.web.tls_certificate_file,
        "ssl_keyfile": settings.web.tls_key_file,
        "ssl_ca_certs": settings.auth.certificate_ca_file,
    }
    config = uvicorn.Config(
        create_app(settings),
        http=HttpProtocol,
        log_config=None,
        ssl_cert_reqs=ssl.CERT_OPTIONAL,
        timeout_graceful_shutdown=5,
        **(files | options),
    )
    server, listener = uvicorn.Server(config), listen("127.0.0.1", 0)
    port = listener.getsockname()[1]
    async with anyio.create_task_group() as group:
        group.start_soon(server.serve, [listener])
        try:
            with anyio.fail_after(60):
                yield port
        finally:
            server.should_exit = True


async def status(port: int, context: ssl.SSLContext) -> int:
    """What asking for dead letters is answered with. Raises Unreachable where no connection comes about."""
    async with Client(f"https://127.0.0.1:{port}", None, context) as client:
        return (await client.call("GET", "/dlq")).status


async def test_who_shows_one(clinic: Clinic) -> None:
    """Has the rights of its name; without one, or with another name, nobody has any; one of others gets nowhere."""
    other = Clinic(clinic.folder / "other")
    async with serving(clinic) as port:
        assert await status(port, clinic.context(clinic.ca.issue_cert("ward-3.clinic"))) == 200
        assert await status(port, clinic.context(clinic.ca.issue_cert("ward-4.clinic"))) == 403
        assert await status(port, clinic.context(None)) == 401
        with pytest.raises(Unreachable):
            await status(port, clinic.context(other.ca.issue_cert("ward-3.clinic")))


async def test_another_protocol(clinic: Clinic) -> None:
    """Is not agreed on: a client that knows HTTP/2 as well is told to speak HTTP/1.1."""
    context = clinic.context(None)
    context.set_alpn_protocols(["h2", "http/1.1"])
    async with (
        serving(clinic) as port,
        await anyio.connect_tcp("127.0.0.1", port, ssl_context=context) as told,
    ):
        assert told.extra_attributes[TLSAttribute.alpn_protocol]() == "http/1.1"


async def test_some_were_taken_back(clinic: Clinic) -> None:
    """While uvicorn does not look for those, no certificate counts."""
    crl = {"ORCHESTRATOR_AUTH_CERTIFICATE_CRL_FILE": clinic.taken_back()}
    async with serving(clinic, GRANTS | crl) as port:
        assert await status(port, clinic.context(clinic.ca.issue_cert("ward-3.clinic"))) == 401


async def test_a_context_that_looks_for_them(clinic: Clinic) -> None:
    """Has them count again, but for those that were taken back."""
    lost, kept = clinic.ca.issue_cert("ward-3.clinic"), clinic.ca.issue_cert("ward-3.clinic")
    crl = clinic.taken_back(lost)

    def looking(_config: uvicorn.Config, default: Any) -> ssl.SSLContext:
        context: ssl.SSLContext = default()
        context.load_verify_locations(crl)
        context.verify_flags |= ssl.VERIFY_CRL_CHECK_LEAF
        return context

    environ = GRANTS | {"ORCHESTRATOR_AUTH_CERTIFICATE_CRL_FILE": crl}
    async with serving(clinic, environ, ssl_context_factory=looking) as port:
        assert await status(port, clinic.context(kept)) == 200
        with pytest.raises(Unreachable):
            await status(port, clinic.context(lost))
