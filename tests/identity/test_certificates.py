"""Callers known by the certificate of their connection, over real sockets: who gets in, as whom, with which rights."""

import os
import re
import signal
import socket
import ssl
import subprocess
import sys
from collections.abc import Iterable
from contextlib import AsyncExitStack
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import anyio
import pytest
import trustme
from aiohttp import ClientSession, TCPConnector
from anyio import to_thread
from anyio.streams.tls import TLSAttribute
from clinic import Clinic
from served_at import url_said

from orchestrator.client import Answer, Client, Orchestrator, Unreachable
from orchestrator.domain.identity import Scope, certified_subject
from orchestrator.settings import SettingsError, load
from orchestrator.testing import Service, a_task
from orchestrator.web import doors, server
from orchestrator.web.door import Door
from orchestrator.web.fast_door import FastDoor
from orchestrator.web.rights import RIGHTS
from orchestrator.web.safety import dangers
from orchestrator.web.securing import tls_of

pytestmark = pytest.mark.anyio

OWN = frozenset(Scope) - {Scope.OPERATE}
URN = "urn:clinic:embedder-1"


@pytest.fixture
def clinic(tmp_path: Path) -> Clinic:
    return Clinic(tmp_path / "clinic")


async def ask(
    service: Service, context: ssl.SSLContext, method: str, path: str, body: Any = None, token: str = ""
) -> Answer:
    """One request on a connection of its own. Raises Unreachable where that does not come about."""
    authorization = {"Authorization": f"Bearer {token}"} if token else None
    async with Client(f"https://127.0.0.1:{service.port}", authorization, context) as client:
        return await client.call(method, path, body)


def granted(grants: Iterable[tuple[str, Iterable[Scope]]]) -> str:
    return ",".join(" ".join([subject, *scopes]) for subject, scopes in grants)


async def test_the_right_certificate(clinic: Clinic) -> None:
    """Is enough: its DNS name is the caller, whose tasks and audit entries these are."""
    context = clinic.context(clinic.ca.issue_cert("ward-3.clinic"))
    async with clinic.serving(certificates="ward-3.clinic tasks:submit tasks:read audit:read") as service:
        accepted = await ask(service, context, "POST", "/route_task", a_task())
        assert accepted.status == 202, accepted
        task_id = accepted.body["task_id"]
        assert (await ask(service, context, "GET", f"/task/{task_id}")).status == 200
        (entry,) = (await ask(service, context, "GET", f"/audit?task_id={task_id}")).body["entries"]
        assert entry["principal"] == "ward-3.clinic"
        assert (await ask(service, context, "GET", "/agents")).status == 403


def expired(clinic: Clinic) -> trustme.LeafCert:
    return clinic.ca.issue_cert("ward-3.clinic", not_after=datetime.now(UTC) - timedelta(minutes=1))


@pytest.mark.parametrize("case", ["none", "another authority", "expired", "self-signed"])
async def test_no_certificate_that_holds(clinic: Clinic, tmp_path: Path, case: str) -> None:
    """Gets no connection, not even to what is open to everybody."""
    issued = {
        "none": lambda: None,
        "another authority": lambda: Clinic(tmp_path / "other").ca.issue_cert("ward-3.clinic"),
        "expired": lambda: expired(clinic),
        "self-signed": lambda: trustme.CA().issue_cert("ward-3.clinic"),
    }[case]()
    async with clinic.serving(certificate_scopes="tasks:read") as service:
        for path in ("/health", "/dlq"):
            with pytest.raises(Unreachable):
                await ask(service, clinic.context(issued), "GET", path)
        good = clinic.context(clinic.ca.issue_cert("ward-3.clinic"))
        assert (await ask(service, good, "GET", "/dlq")).status == 200


@pytest.mark.parametrize(
    ("names", "common_name"),
    [
        (["ward-3.clinic", "ward-4.clinic"], None),
        (["*.clinic"], None),
        (["127.0.0.1"], None),
        (["ward-3@clinic.example"], None),
        ([], "ward-3.clinic"),
    ],
    ids=["two names", "a wildcard", "an address", "a mail address", "a common name alone"],
)
async def test_a_certificate_that_names_nobody(clinic: Clinic, names: list[str], common_name: str | None) -> None:
    """Is verified, and of no use: 401, with a good API key beside it as well."""
    context = clinic.context(clinic.ca.issue_cert(*names, common_name=common_name))
    async with clinic.serving(certificate_scopes="tasks:read", api_keys="true") as service:
        _, key = await service.orchestrator.gateway.create_key("ward-3.clinic", frozenset(Scope))
        for token in ("", key):
            answer = await ask(service, context, "GET", "/dlq", token=token)
            assert (answer.status, answer.body["code"]) == (401, "E_UNAUTHENTICATED")
        assert (await ask(service, context, "GET", "/health")).status == 200


@pytest.mark.parametrize(
    ("names", "subject"),
    [
        ([("DNS", "ward-3.clinic")], "ward-3.clinic"),
        ([("URI", "spiffe://clinic/ward-3")], "spiffe://clinic/ward-3"),
        ([("URI", URN)], URN),
        ([], None),
        ([("DNS", "a"), ("DNS", "b")], None),
        ([("DNS", "a"), ("URI", "urn:a")], None),
        ([("DNS", "a"), ("IP Address", "127.0.0.1")], None),
        ([("DNS", "*.clinic")], None),
        ([("URI", "spiffe://clinic/*")], None),
        ([("IP Address", "127.0.0.1")], None),
        ([("email", "a@clinic")], None),
        ([("DirName", "ward")], None),
        ([("DNS", "ward\x00.evil")], None),
        ([("DNS", "ward 3")], None),
        ([("DNS", "")], None),
        ([("DNS", "w" * 201)], None),
        ([("DNS", "w\u00e4rd")], None),
    ],
)
def test_who_a_certificate_is_for(names: list[tuple[str, str]], subject: str | None) -> None:
    """One DNS name or URI that stands for itself, and nothing else in it."""
    assert certified_subject(names) == subject


async def test_a_token_beside_a_certificate(clinic: Clinic) -> None:
    """Must be of the same caller, who then has the rights of both; one of another caller, or a bad one, is refused."""
    context = clinic.context(clinic.ca.issue_cert("ward-3.clinic"))
    async with clinic.serving(certificates="ward-3.clinic tasks:read", api_keys="true") as service:
        gateway = service.orchestrator.gateway
        _, own = await gateway.create_key("ward-3.clinic", frozenset({Scope.AGENTS_READ}))
        _, other = await gateway.create_key("ward-4.clinic", frozenset(Scope))
        for token, path, status in (
            ("", "/dlq", 200), ("", "/agents", 403), (own, "/agents", 200), (own, "/dlq", 200), (own, "/keys", 403),
            (other, "/agents", 401), (other, "/dlq", 401), ("nonsense", "/dlq", 401),
        ):  # fmt: skip
            assert (await ask(service, context, "GET", path, token=token)).status == status, (token[:8], path)


async def test_where_certificates_are_not_required(clinic: Clinic, tmp_path: Path) -> None:
    """An API key will do, open calls need neither; and one that does not hold is turned away all the same."""
    nobody = clinic.context(None)
    stranger = clinic.context(Clinic(tmp_path / "other").ca.issue_cert("ward-3.clinic"))
    async with clinic.serving(certificate_required="false", api_keys="true") as service:
        _, key = await service.orchestrator.gateway.create_key("clinic-a", frozenset(Scope))
        assert (await ask(service, nobody, "GET", "/health")).status == 200
        assert (await ask(service, nobody, "GET", "/dlq")).status == 401
        assert (await ask(service, nobody, "GET", "/dlq", token=key)).status == 200
        with pytest.raises(Unreachable):
            await ask(service, stranger, "GET", "/health")


async def test_an_agent_is_its_certificate(clinic: Clinic) -> None:
    """It registers under the name in it, and no other; who tries is in the audit."""
    context, operator = clinic.context(clinic.issue(URN)), clinic.context(clinic.ca.issue_cert("operator.clinic"))
    card = {"capabilities": ["embed"]}
    grants = f"{URN} agents:register,operator.clinic operate audit:read"
    async with clinic.serving(certificates=grants) as service:
        other = await ask(service, context, "POST", "/register_agent", {**card, "agent_id": "urn:clinic:embedder-2"})
        assert (other.status, other.body["code"]) == (403, "E_FORBIDDEN")
        (tried,) = (await ask(service, operator, "GET", "/audit?event=agent_refused")).body["entries"]
        assert (tried["agent_id"], tried["principal"]) == ("urn:clinic:embedder-2", URN)
        own = await ask(service, context, "POST", "/register_agent", {**card, "agent_id": URN})
        assert (own.status, own.body["agent_id"]) == (200, URN)
        assert (await ask(service, context, "POST", f"/agents/{URN}/heartbeat", {})).status == 200


async def test_certificates_against_calls(clinic: Clinic) -> None:
    """With the one scope that a call needs a certificate opens it, with all the others it does not."""
    one = {scope: f"only-{scope.name.lower().replace('_', '-')}.clinic" for scope in Scope}
    rest = {scope: f"all-but-{scope.name.lower().replace('_', '-')}.clinic" for scope in Scope}
    grants = [(one[s], [s]) for s in Scope] + [(rest[s], sorted(set(Scope) - {s})) for s in Scope]
    contexts = {subject: clinic.context(clinic.ca.issue_cert(subject)) for subject, _ in grants}
    wrong: list[object] = []
    async with clinic.serving(certificates=granted(grants)) as service:
        for call, needed in RIGHTS.items():
            if needed is None:
                continue
            seen: dict[str, int] = {}
            for subject in (*one.values(), rest[needed]):
                method, rule = call.split(" ", 1)
                path = re.sub(r"<[^>]+>", subject, rule)
                seen[subject] = (await ask(service, contexts[subject], method, path)).status
            allowed = seen.pop(one[needed])
            # Without `operate`, the audit wants to know of which task.
            if set(seen.values()) != {403} or (allowed in (401, 403) and call != "GET /audit"):
                wrong.append((call, allowed, seen))
    assert wrong == []


async def test_a_task_of_another_certificate(clinic: Clinic) -> None:
    """Is not found; the same caller has it by its API key, too."""
    owner, stranger = (clinic.context(clinic.ca.issue_cert(name)) for name in ("ward-3.clinic", "ward-4.clinic"))
    scopes = " ".join(sorted(OWN)).replace(" ", ",")
    async with clinic.serving(certificate_scopes=scopes, certificate_required="false", api_keys="true") as service:
        task_id = (await ask(service, owner, "POST", "/route_task", a_task())).body["task_id"]
        assert (await ask(service, stranger, "GET", f"/task/{task_id}")).status == 404
        assert (await ask(service, owner, "GET", f"/task/{task_id}")).status == 200
        _, key = await service.orchestrator.gateway.create_key("ward-3.clinic", OWN)
        assert (await ask(service, clinic.context(None), "GET", f"/task/{task_id}", token=key)).status == 200


async def test_one_connection_is_not_another(clinic: Clinic) -> None:
    """Who is behind one stays there: requests of several callers at once are each their own."""
    names = [f"ward-{number}.clinic" for number in range(4)]
    async with clinic.serving(certificate_scopes="tasks:submit,tasks:read,audit:read") as service:

        async def work(name: str) -> None:
            url = f"https://127.0.0.1:{service.port}"
            async with Orchestrator(url, tls=clinic.context(clinic.ca.issue_cert(name))) as client:
                for _ in range(5):
                    task = await client.submit(**a_task())
                    (entry,) = await client._client.audit(task.task_id)
                    assert entry["principal"] == name

        async with anyio.create_task_group() as group:
            for name in names:
                group.start_soon(work, name)


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
async def test_what_is_spoken(clinic: Clinic, version: ssl.TLSVersion) -> None:
    """TLS 1.2 or newer, and HTTP/1.1 alone in it, whatever else is offered."""
    context = clinic.context(clinic.ca.issue_cert("ward-3.clinic"))
    context.set_alpn_protocols(["h2", "http/1.1"])
    context.maximum_version = version
    async with clinic.serving(certificate_scopes="tasks:read") as service:
        stream = await anyio.connect_tcp(
            "127.0.0.1", service.port, ssl_context=context, tls_standard_compatible=False
        )  # fmt: skip
        async with stream:
            assert stream.extra_attributes[TLSAttribute.alpn_protocol]() == "http/1.1"
            await stream.send(b"GET /health HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
            assert (await stream.receive()).startswith(b"HTTP/1.1 200")


async def test_what_is_not_spoken(clinic: Clinic) -> None:
    """Plain HTTP and TLS 1.1: there is no answer."""
    async with clinic.serving(certificate_scopes="tasks:read") as service:
        assert await service.raw(b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n") == b""
        context = clinic.context(clinic.ca.issue_cert("ward-3.clinic"))
        context.set_ciphers("ALL:@SECLEVEL=0")
        with pytest.warns(DeprecationWarning, match="TLSv1_1"):
            context.minimum_version = ssl.TLSVersion.TLSv1_1
        with pytest.warns(DeprecationWarning, match="TLSv1_1"):
            context.maximum_version = ssl.TLSVersion.TLSv1_1
        with pytest.raises((OSError, anyio.BrokenResourceError)):
            await anyio.connect_tcp("127.0.0.1", service.port, ssl_context=context)


async def test_certificate_that_ends_meanwhile(clinic: Clinic) -> None:
    """Ends with its time, not with its connection: a stream that was opened with it ends, another request is 401."""
    ends = datetime.now(UTC) + timedelta(seconds=4)
    context = clinic.context(clinic.ca.issue_cert("ward-3.clinic", not_after=ends))
    async with clinic.serving(certificate_scopes="tasks:read,tasks:submit") as service, AsyncExitStack() as stack:

        async def connected() -> anyio.abc.ByteStream:
            stream = await anyio.connect_tcp(
                "127.0.0.1", service.port, ssl_context=context, tls_standard_compatible=False
            )  # fmt: skip
            return await stack.enter_async_context(stream)

        async def asks(stream: anyio.abc.ByteStream, path: str) -> bytes:
            await stream.send(f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
            return await stream.receive()

        task_id = (await ask(service, context, "POST", "/route_task", a_task())).body["task_id"]
        events, kept = await connected(), await connected()
        assert (await asks(events, f"/task/{task_id}/events")).startswith(b"HTTP/1.1 200")
        assert (await asks(kept, "/dlq")).startswith(b"HTTP/1.1 200")
        with anyio.fail_after(20):
            while not (await events.receive()).endswith(b"0\r\n\r\n"):
                pass
        assert datetime.now(UTC) >= ends - timedelta(seconds=1)
        assert (await asks(kept, "/dlq")).startswith(b"HTTP/1.1 401")


async def test_certificate_that_was_taken_back(clinic: Clinic) -> None:
    """Gets no connection, while others of the same authority do."""
    lost, kept = clinic.ca.issue_cert("ward-3.clinic"), clinic.ca.issue_cert("ward-4.clinic")
    async with clinic.serving(certificate_scopes="tasks:read", certificate_crl_file=clinic.taken_back(lost)) as service:
        with pytest.raises(Unreachable):
            await ask(service, clinic.context(lost), "GET", "/health")
        assert (await ask(service, clinic.context(kept), "GET", "/dlq")).status == 200


async def test_certificate_that_is_taken_back_meanwhile(clinic: Clinic, capsys: pytest.CaptureFixture[str]) -> None:
    """Gets no connection once the list is replaced, without a restart; a list that is none leaves the last in force."""
    lost, kept = clinic.ca.issue_cert("ward-3.clinic"), clinic.ca.issue_cert("ward-4.clinic")
    crl, then = clinic.taken_back(), clinic.taken_back(lost)
    async with clinic.serving(certificate_scopes="tasks:read", certificate_crl_file=crl) as service:

        async def answered(issued: trustme.LeafCert) -> bool:
            try:
                return (await ask(service, clinic.context(issued), "GET", "/dlq")).status == 200
            except Unreachable:
                return False

        assert await answered(lost)
        os.replace(then, crl)
        assert (await answered(lost), await answered(kept)) == (False, True)
        for harm in (partial(os.truncate, crl, 100), partial(os.remove, crl)):
            harm()
            assert (await answered(lost), await answered(kept)) == (False, True)
        os.replace(clinic.taken_back(lost, kept), crl)
        assert (await answered(lost), await answered(kept)) == (False, False)
        os.replace(clinic.taken_back(), crl)
        assert (await answered(lost), await answered(kept)) == (True, True)
    assert "".join(capsys.readouterr()).count("certificates_not_taken") == 2


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
async def test_session_of_before(clinic: Clinic, version: ssl.TLSVersion) -> None:
    """Opens nothing for a certificate that was taken back since: OpenSSL would not look at it again."""
    lost, crl = clinic.ca.issue_cert("ward-3.clinic"), clinic.taken_back()
    context = clinic.context(lost)
    context.maximum_version = version

    def asked(port: int, session: ssl.SSLSession | None) -> tuple[bytes, ssl.SSLSession | None]:
        with socket.create_connection(("127.0.0.1", port), 10) as plain:
            try:
                with context.wrap_socket(plain, server_hostname="localhost", session=session) as secured:
                    secured.sendall(b"GET /dlq HTTP/1.1\r\nHost: localhost\r\n\r\n")
                    return secured.recv(12), secured.session
            except OSError:
                return b"", None

    async with clinic.serving(certificate_scopes="tasks:read", certificate_crl_file=crl) as service:
        answer, session = await to_thread.run_sync(asked, service.port, None)
        assert (answer, session is None) == (b"HTTP/1.1 200", False)
        os.replace(clinic.taken_back(lost), crl)
        assert (await to_thread.run_sync(asked, service.port, session))[0] == b""


@pytest.mark.parametrize("door", [FastDoor, Door], ids=["httptools", "h11"])
async def test_stream_of_before(clinic: Clinic, monkeypatch: pytest.MonkeyPatch, door: type[Door]) -> None:
    """Ends once a certificate was taken back, with nothing more told; who is still known connects anew."""
    monkeypatch.setattr(doors, "best_door", lambda: door)
    monkeypatch.setattr(server, "FOLLOW_S", 0.05)
    issued = clinic.ca.issue_cert("ward-3.clinic")
    lost, kept = clinic.context(issued), clinic.context(clinic.ca.issue_cert("ward-4.clinic"))
    scopes, crl, then = "tasks:read,tasks:submit", clinic.taken_back(), clinic.taken_back(issued)
    async with clinic.serving(certificate_scopes=scopes, certificate_crl_file=crl) as service:
        task_id = (await ask(service, lost, "POST", "/route_task", a_task())).body["task_id"]
        url = f"https://localhost:{service.port}/task/{task_id}/events"
        async with ClientSession(connector=TCPConnector(ssl=lost)) as session, session.get(url) as reply:
            assert b"retry" in await reply.content.readuntil(b"\n\n")
            assert b"event: state" in await reply.content.readuntil(b"\n\n")
            os.replace(then, crl)
            with anyio.fail_after(20):
                assert b"event:" not in await reply.content.read()
        assert (await ask(service, kept, "GET", "/dlq")).status == 200


async def test_our_own_certificate_is_renewed(clinic: Clinic) -> None:
    """It is shown from then on, without a restart, once its key is there too."""
    context = clinic.context(clinic.ca.issue_cert("ward-3.clinic"))

    async def shown(service: Service) -> Any:
        stream = await anyio.connect_tcp(
            "127.0.0.1", service.port, ssl_context=context, tls_standard_compatible=False
        )  # fmt: skip
        async with stream:
            return stream.extra_attributes[TLSAttribute.peer_certificate]()["serialNumber"]

    async with clinic.serving(certificate_scopes="tasks:read") as service:
        before = await shown(service)
        certificate, key = clinic.files(clinic.ca.issue_cert("127.0.0.1"), "renewed")
        os.replace(certificate, clinic.environ["ORCHESTRATOR_WEB_TLS_CERTIFICATE_FILE"])
        assert await shown(service) == before
        os.replace(key, clinic.environ["ORCHESTRATOR_WEB_TLS_KEY_FILE"])
        assert await shown(service) != before


@pytest.mark.parametrize("case", ["out of date", "of another authority"])
async def test_list_that_says_nothing(clinic: Clinic, tmp_path: Path, case: str) -> None:
    """Turns everybody away: who was taken back cannot be told."""
    other = Clinic(tmp_path / "other")
    crl = clinic.taken_back(lasts=-60) if case == "out of date" else other.taken_back()
    async with clinic.serving(certificate_scopes="tasks:read", certificate_crl_file=crl) as service:
        with pytest.raises(Unreachable):
            await ask(service, clinic.context(clinic.ca.issue_cert("ward-3.clinic")), "GET", "/health")


async def test_handshakes_that_are_never_finished(clinic: Clinic) -> None:
    """Count as connections: beyond the bound of a peer the next is broken off, until one of them ends."""
    environ = clinic.environ | {"ORCHESTRATOR_LIMITS_CONNECTIONS_PER_PEER": "3"}
    good = clinic.context(clinic.ca.issue_cert("ward-3.clinic"))
    async with Service(clinic.folder / "ledger.db", environ) as service:
        held = [await anyio.connect_tcp("127.0.0.1", service.port) for _ in range(3)]
        await held[0].send(b"\x16\x03\x01")
        with anyio.fail_after(10), pytest.raises(Unreachable):
            while True:
                await ask(service, good, "GET", "/health")
        for stream in held:
            await stream.aclose()
        answered = None
        with anyio.fail_after(10):
            while answered is None:
                try:
                    answered = await ask(service, good, "GET", "/health")
                except Unreachable:
                    await anyio.sleep(0.01)
        assert answered.status == 200


@pytest.mark.parametrize(
    "anyio_backend", [("asyncio", {"use_uvloop": True}), ("asyncio", {})], ids=["uvloop", "asyncio"]
)
async def test_many_handshakes_at_once(clinic: Clinic) -> None:
    """All come about, on either event loop, though the first bytes may be read before anybody asked for them."""
    context = clinic.context(clinic.ca.issue_cert("ward-3.clinic"))
    statuses: list[int] = []
    async with clinic.serving() as service:

        async def shake_hands() -> None:
            statuses.append((await ask(service, context, "GET", "/health")).status)

        for _ in range(4):
            with anyio.fail_after(30):
                async with anyio.create_task_group() as group:
                    for _ in range(40):
                        group.start_soon(shake_hands)
    assert statuses == [200] * 160


async def test_files_that_cannot_be_used(clinic: Clinic, tmp_path: Path) -> None:
    """End the start, with one line that names the setting: nothing falls back to plain http."""
    nonsense = tmp_path / "nonsense"
    nonsense.write_text("nonsense")
    web, auth = "ORCHESTRATOR_WEB_TLS_CERTIFICATE_FILE", "ORCHESTRATOR_AUTH_CERTIFICATE_CA_FILE"
    crl, other = "ORCHESTRATOR_AUTH_CERTIFICATE_CRL_FILE", tmp_path / "other.pem"
    trustme.CA().cert_pem.write_to_path(other)
    for change in (
        {web: ""}, {web: str(nonsense)}, {web: str(tmp_path / "missing")}, {auth: str(nonsense)},
        {auth: str(tmp_path / "missing")}, {"ORCHESTRATOR_WEB_TLS_KEY_FILE": str(nonsense)}, {crl: str(nonsense)},
        {crl: str(tmp_path / "missing")}, {crl: str(clinic.ca_file)}, {crl: str(other)},
        {auth: "", crl: clinic.taken_back()},
    ):  # fmt: skip
        with pytest.raises(SettingsError, match=r"tls_|certificate_c"):
            tls_of(load(environ=clinic.environ | change))
    assert tls_of(load()) is None


def test_beyond_this_machine(clinic: Clinic) -> None:
    """Certificates are authentication enough to listen there; https alone is none."""
    beyond = {"ORCHESTRATOR_WEB_HOST": "0.0.0.0"}
    assert dangers(load(environ=clinic.environ | beyond)) == []
    alone = {name: value for name, value in clinic.environ.items() if "AUTH" not in name}
    assert dangers(load(environ=alone | beyond)) == ["no authentication beyond this machine"]


def test_the_process_and_its_commands(clinic: Clinic) -> None:
    """Serve, ask for health, submit and run an agent over it, each with a certificate from the environment."""
    certificate, key = clinic.files(clinic.ca.issue_cert("ward-3.clinic"), "ward")
    agents = clinic.files(clinic.issue(URN), "agent")
    database = {"DATABASE_URL": f"sqlite:///{clinic.folder}/ledger.db"}
    settings = {"ORCHESTRATOR_AUTH_CERTIFICATES": f"ward-3.clinic tasks:submit tasks:read,{URN} agents:register"}
    settings["ORCHESTRATOR_AGENTS_ALLOWED"] = f"{URN} audit"
    command = [sys.executable, "-m", "orchestrator"]
    server = subprocess.Popen(
        [*command, "serve", "--port", "0"],
        env={**os.environ, **database, **clinic.environ, **settings}, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    agent: subprocess.Popen[str] | None = None
    try:
        assert server.stderr
        url = url_said(server)
        assert url.startswith("https://127.0.0.1:")

        def environ(files: tuple[str, str]) -> dict[str, str]:
            shown = {"ORCHESTRATOR_TLS_CERTIFICATE_FILE": files[0], "ORCHESTRATOR_TLS_KEY_FILE": files[1]}
            return {
                **os.environ, "ORCHESTRATOR_URL": url, "ORCHESTRATOR_TLS_CA_FILE": str(clinic.ca_file), **shown,
            }  # fmt: skip

        def run(*words: str, given: str = "", files: tuple[str, str] = (certificate, key)) -> tuple[int, str]:
            done = subprocess.run(
                [*command, *words], input=given, env=environ(files), capture_output=True, text=True, timeout=60,
                check=False,
            )  # fmt: skip
            return done.returncode, done.stdout + done.stderr

        assert run("health")[0] == 0
        code, said = run("health", files=("/missing", key))
        assert (code, len(said.splitlines())) == (2, 1), said
        assert "ORCHESTRATOR_TLS_CERTIFICATE_FILE" in said
        agent = subprocess.Popen([sys.executable, "-c", AGENT], env=environ(agents), text=True)
        task = '{"case_id": "c", "task_type": "audit_log", "payload": {"note": "hello"}}'
        code, said = run("submit", "--wait", "30", given=task)
        assert (code, '"noted"' in said) == (0, True), said
    finally:
        for process in (agent, server):
            if process is not None:
                process.send_signal(signal.SIGTERM)
                process.communicate(timeout=30)


AGENT = f"""
from orchestrator.workers import Agent

agent = Agent("{URN}", location="edge")


@agent.handles("audit")
async def note(task):
    return {{"noted": True}}


agent.run(mode="pull")
"""
