"""TLS to agents: whom we believe, as whom we come, and that nobody else gets a payload."""

import ssl
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import trustme
from aiohttp import web

from orchestrator.domain.reach import Network, Ports, Reach
from orchestrator.outbound.agents import HttpAgentClient
from orchestrator.outbound.ports import Call, Ending, Refused, Succeeded
from orchestrator.tls import client_context

pytestmark = pytest.mark.anyio

REACH = Reach.of([Network("127.0.0.0/8"), Network("::1/128")], [], [Ports("1-65535")])


class Clinic:
    """A certificate authority of one's own, in files."""

    def __init__(self, folder: Path) -> None:
        self.ca, self._folder = trustme.CA(), folder
        folder.mkdir()
        self.ca_file = folder / "ca.pem"
        self.ca.cert_pem.write_to_path(self.ca_file)

    def client(self, name: str) -> tuple[str, str]:
        """Files of a certificate and its key."""
        issued = self.ca.issue_cert(name)
        certificate, key = self._folder / "client.pem", self._folder / "client.key"
        issued.cert_chain_pems[0].write_to_path(certificate)
        issued.private_key_pem.write_to_path(key)
        return str(certificate), str(key)


@pytest.fixture
def clinic(tmp_path: Path) -> Clinic:
    return Clinic(tmp_path / "clinic")


@asynccontextmanager
async def an_agent(
    issued: trustme.LeafCert, asks: trustme.CA | None = None, port: int = 0
) -> AsyncGenerator[tuple[str, list[object]]]:
    """An agent that is reached by https: its endpoint, and the certificates with which callers came."""
    seen: list[object] = []

    async def answer(request: web.Request) -> web.Response:
        assert request.transport is not None
        seen.append(request.transport.get_extra_info("peercert"))
        return web.json_response({"success": True, "output": 1})

    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    issued.configure_cert(context)
    if asks is not None:
        context.verify_mode = ssl.CERT_REQUIRED
        asks.configure_trust(context)
    app = web.Application()
    app.router.add_post("/call", answer)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", port, ssl_context=context)
    await site.start()
    try:
        yield f"https://127.0.0.1:{runner.addresses[0][1]}", seen
    finally:
        await runner.cleanup()


def a_call(endpoint: str) -> Call:
    trace = f"00-{'0' * 31}1-{'0' * 15}1-01"
    return Call(endpoint, "task-" + "0" * 32, "c", "embed", {}, {}, 1, 1e9, trace)


def a_client(tls: ssl.SSLContext) -> HttpAgentClient:
    return HttpAgentClient(reach=REACH, max_answer_bytes=65_536, connect_timeout_s=5, tls=tls)


async def called(endpoint: str, tls: ssl.SSLContext) -> Ending:
    client = a_client(tls)
    try:
        return await client.call(a_call(endpoint), 10)
    finally:
        await client.close()


async def test_an_agent_of_our_authority(clinic: Clinic) -> None:
    """Is called, by its address and by its name."""
    tls = client_context(str(clinic.ca_file), "", "")
    async with an_agent(clinic.ca.issue_cert("127.0.0.1", "localhost")) as (endpoint, seen):
        assert await called(endpoint, tls) == Succeeded(1)
        assert await called(endpoint.replace("127.0.0.1", "localhost"), tls) == Succeeded(1)
        assert seen == [None, None]


async def test_the_name_is_what_counts(clinic: Clinic) -> None:
    """An agent that is called by its name shows it: the right address is not enough, nor the reverse."""
    tls = client_context(str(clinic.ca_file), "", "")
    for shown, called_by in [("127.0.0.1", "localhost"), ("agent.example", "localhost"), ("localhost", "127.0.0.1")]:
        async with an_agent(clinic.ca.issue_cert(shown)) as (endpoint, seen):
            assert await called(endpoint.replace("127.0.0.1", called_by), tls) == Refused()
            assert not seen


@pytest.mark.parametrize("case", ["another authority", "another name", "no authority named"])
async def test_an_agent_that_is_not_who_it_should_be(clinic: Clinic, tmp_path: Path, case: str) -> None:
    """Gets nothing: the connection does not come about."""
    issuer = Clinic(tmp_path / "other").ca if case == "another authority" else clinic.ca
    issued = issuer.issue_cert("agent.example" if case == "another name" else "127.0.0.1")
    tls = client_context("" if case == "no authority named" else str(clinic.ca_file), "", "")
    async with an_agent(issued) as (endpoint, seen):
        assert await called(endpoint, tls) == Refused()
        assert not seen


async def test_a_certificate_that_changes(clinic: Clinic, tmp_path: Path) -> None:
    """While an agent is known: a renewed one is as good, anybody else's gets nothing, whatever was agreed before."""
    own, ended = clinic.ca.issue_cert("127.0.0.1"), datetime.now(UTC) - timedelta(minutes=1)
    client, port = a_client(client_context(str(clinic.ca_file), "", "")), 0
    for issued, well in (
        (own, True), (clinic.ca.issue_cert("127.0.0.1"), True), (clinic.ca.issue_cert("agent.example"), False),
        (Clinic(tmp_path / "other").ca.issue_cert("127.0.0.1"), False), (own, True),
        (clinic.ca.issue_cert("127.0.0.1", not_after=ended), False), (own, True),
    ):  # fmt: skip
        async with an_agent(issued, port=port) as (endpoint, seen):
            for _ in range(2):
                assert await client.call(a_call(endpoint), 10) == (Succeeded(1) if well else Refused())
            assert len(seen) == 2 * well
            port = int(endpoint.rpartition(":")[2])
    await client.close()


async def test_an_agent_that_asks_who_we_are(clinic: Clinic) -> None:
    """Is shown our certificate; without one it turns us away before it sees anything."""
    certificate, key = clinic.client("orchestrator.clinic.example")
    async with an_agent(clinic.ca.issue_cert("127.0.0.1"), asks=clinic.ca) as (endpoint, seen):
        assert await called(endpoint, client_context(str(clinic.ca_file), certificate, key)) == Succeeded(1)
        assert "orchestrator.clinic.example" in str(seen)
        turned_away = await called(endpoint, client_context(str(clinic.ca_file), "", ""))
        assert not isinstance(turned_away, Succeeded)
        assert len(seen) == 1


async def test_old_versions(clinic: Clinic) -> None:
    """Nothing older than TLS 1.2 is spoken, and names are checked."""
    tls = client_context(str(clinic.ca_file), "", "")
    assert tls.minimum_version >= ssl.TLSVersion.TLSv1_2
    assert tls.check_hostname
    assert tls.verify_mode is ssl.CERT_REQUIRED


@pytest.mark.parametrize("case", ["no such authority", "no such certificate", "a key alone", "another key", "nonsense"])
def test_files_that_cannot_be_used(clinic: Clinic, tmp_path: Path, case: str) -> None:
    """Are an error at the start, not at the first call."""
    certificate, key = clinic.client("a")
    _, other = Clinic(tmp_path / "other").client("b")
    (tmp_path / "nonsense").write_text("nonsense")
    ca, missing = str(clinic.ca_file), str(tmp_path / "missing")
    files = {
        "no such authority": (missing, "", ""),
        "no such certificate": (ca, missing, key),
        "a key alone": (ca, "", key),
        "another key": (ca, certificate, other),
        "nonsense": (str(tmp_path / "nonsense"), "", ""),
    }
    with pytest.raises((OSError, ValueError)):
        client_context(*files[case])
