"""Nothing leaks: every field of every request and of every agent's answer carries a canary, and then all is searched.

Two kinds. `secret` may be nowhere at all, not even in the database, which is encrypted: payloads, results, an agent's
words, idempotency keys, headers, queries, unknown fields, broken bodies. `name` (of cases and of consents) may be in
the database, the audit and on the operator's page; not in a log, a metric, a trace, the body of an error, or anything
that Redis is ever told. PostgreSQL, whose errors quote whole rows, refuses some of the tasks. CANARIES is how many
requests.
"""

import asyncio
import os
import re
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import AsyncGenerator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from random import Random
from typing import Any
from urllib.parse import urlsplit

import aiohttp
import anyio
import asyncpg  # pyright: ignore[reportMissingTypeStubs]
import pytest
import stores
from aiohttp import web
from anyio.abc import ByteReceiveStream
from redis import Redis

REQUESTS = int(os.environ.get("CANARIES", "2000"))
PATIENCE_S = 60 + REQUESTS // 20
AT_ONCE = 24
CANARY = re.compile(rb"cnry-(secret|name)-[0-9]+")
UNWANTED = "unwanted"
"""What a case is called that the database refuses."""
KEY = "MC4CAQAwBQYDK2VwBCIEIJ1hsZ3v/VpguoRK9JLsLMREScVpezJpGXA7rAMcrn9g"

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(PATIENCE_S + 60)]


class Canaries:
    """Never the same one twice."""

    def __init__(self) -> None:
        self.chance, self._number = Random(15), 0

    def __call__(self, kind: str = "secret") -> str:
        self._number += 1
        return f"cnry-{kind}-{self._number}"

    def task(self) -> dict[str, Any]:
        """A task that is accepted, refused for its consent, or dead in the end; a canary wherever there is room."""
        c = self
        task: dict[str, Any] = {
            "case_id": c("name") if c.chance.random() < 0.9 else f"{UNWANTED}-{c('name')}",
            "task_type": c.chance.choice(["embed", "embed", "analyze_monitor", "audit_log"]),
            "payload": {c(): c(), "deep": [{c(): [c()]}]},
            "meta": {c(): c()},
            "idempotency_key": c(),
        }
        if c.chance.random() < 0.5:
            task["consent"] = {"consent_given": c.chance.random() < 0.7, "consent_id": c("name")}
        if c.chance.random() < 0.2:
            task["payload"]["image_ref"] = f"data:image/png;base64,{c()}"
        return task

    def broken(self) -> bytes:
        """A body that is refused."""
        c = self
        override = f'{{"reason": "{c()}", "requested_by": "{c()}"}}'
        return c.chance.choice(
            [
                f'{{"{c()}": {c()}}}',
                f'{{"case_id": "{c()}", "case_id": "{c()}"}}',
                f'{{"case_id": "{c()}", "task_type": "{c()}", "payload": {{}}}}',
                f'{{"case_id": "{c()}", "task_type": "embed", "payload": "{c()}"}}',
                f'{{"case_id": "{c()}\\n", "task_type": "embed", "payload": {{}}, "{c()}": 1}}',
                f'{{"case_id": "c", "task_type": "embed", "payload": {{}}, "priority": "{c()}"}}',
                f'{{"case_id": "c", "task_type": "embed", "payload": {{}}, "consent": {{"{c()}": "{c()}"}}}}',
                f'{{"case_id": "c", "task_type": "embed", "payload": {{}}, "not_before": "{c()}"}}',
                f'{{"case_id": "c", "task_type": "embed", "payload": {{}}, "consent": {{"override": {override}}}}}',
                f"{c()} no JSON \ud83e".encode("utf-8", "surrogatepass").decode("latin-1"),
                "[" * 40 + f'"{c()}"',
            ]
        ).encode()


class Agent:
    """Answers in every way there is, and each time says something that nobody should hear."""

    def __init__(self, canaries: Canaries) -> None:
        self._canaries = canaries

    async def call(self, request: web.Request) -> web.Response:
        c = self._canaries
        headers = {"X-Words": c(), "Retry-After": "0"}
        makers: list[Callable[[], web.Response]] = [
            lambda: web.json_response({"success": True, "output": {c(): c()}}, headers=headers),
            lambda: web.json_response({"success": True, "output": c(), c(): c()}, headers=headers),
            lambda: web.json_response({"success": False, "error": {"message": c(), "retryable": False, c(): 1}}),
            lambda: web.json_response({"success": c(), "error": c()}, headers=headers),
            lambda: web.Response(text=f"<html>{c()}</html>", content_type="text/html", headers=headers),
            lambda: web.Response(text=f'{{"{c()}": ', content_type="application/json"),
            lambda: web.Response(status=500, text=c(), reason=c()),
            lambda: web.Response(status=302, headers={"Location": f"http://127.0.0.1:1/{c()}"}),
        ]
        return c.chance.choices(makers, weights=[8, 2, 2, 1, 1, 1, 1, 1])[0]()


class Box:
    """A real process with everything that is a secret set to a canary where it may be one, and all it says kept."""

    def __init__(self, folder: Path, ledger: dict[str, str], collector: str) -> None:
        """`collector` is where its traces go."""
        self.folder, self.database_url = folder, ledger["DATABASE_URL"]
        (folder / "signing.pem").write_text(f"-----BEGIN PRIVATE KEY-----\n{KEY}\n-----END PRIVATE KEY-----\n")
        (folder / "encryption-key").write_text("ab" * 32)
        self.environ = {
            **os.environ,
            **ledger,
            "ORCHESTRATOR_TRACING_OTLP_ENDPOINT": collector,
            "ORCHESTRATOR_AUDIT_SIGNING_KEY_FILE": str(folder / "signing.pem"),
            "ORCHESTRATOR_STORAGE_ENCRYPTION_KEY_FILE": str(folder / "encryption-key"),
            "LOG_LEVEL": "DEBUG",
            "ORCHESTRATOR_RETRY_BASE": "0.05",
            "ORCHESTRATOR_TASK_MAX_RETRIES": "1",
        }
        self._log = (folder / "log").open("wb")
        self.process = subprocess.Popen(
            [sys.executable, "-m", "orchestrator", "serve", "--port", "0"],
            env=self.environ, cwd=folder, stdout=self._log, stderr=self._log,
        )  # fmt: skip

    async def url(self) -> str:
        """Where it serves, once it says so."""
        for _ in range(600):
            found = re.search(rb"serving on (http://\S+)", (self.folder / "log").read_bytes())
            if found:
                return found[1].decode()
            await asyncio.sleep(0.05)
        raise AssertionError((self.folder / "log").read_bytes()[-2000:])

    def stop(self) -> None:
        """Twice is safe."""
        if self._log.closed:
            return
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(timeout=PATIENCE_S)
        self._log.close()

    def said(self) -> bytes:
        return (self.folder / "log").read_bytes()

    def stored(self) -> bytes:
        files = list(self.folder.glob("ledger.db*"))
        return b"".join(path.read_bytes() for path in files) if files else stores.everything(self.database_url)

    def exported(self) -> bytes:
        command = [sys.executable, "-m", "orchestrator", "audit", "export"]
        done = subprocess.run(
            command, env=self.environ, cwd=self.folder, capture_output=True, timeout=PATIENCE_S, check=True
        )
        return done.stdout


async def one(session: aiohttp.ClientSession, c: Canaries) -> tuple[int, bytes]:
    """One request of any kind; its status and body."""
    kind = c.chance.choices(["task", "broken", "path", "agent", "batch", "read"], weights=[10, 4, 2, 2, 1, 2])[0]
    headers = {f"X-{c()}": c(), "Cookie": f"{c()}={c()}", "traceparent": c(), "User-Agent": c()}
    where: dict[str, Any] = {"headers": headers, "params": {c(): c()}}
    match kind:
        case "task":
            call = session.post("/route_task", json=c.task(), headers=headers)
        case "broken":
            mimetype = c.chance.choice(["application/json", "application/json", "text/plain", f"application/{c()}"])
            headers["Content-Type"] = mimetype
            call = session.post(c.chance.choice(["/route_task", "/route_tasks"]), data=c.broken(), headers=headers)
        case "path":
            paths = [f"/{c()}", f"/task/{c()}", f"/task/{c()}/events", f"/dlq/{c()}/replay", f"/agents/{c()}"]
            call = session.request(c.chance.choice(["GET", "POST", "DELETE"]), c.chance.choice(paths), **where)
        case "agent":
            agent = {"agent_id": f"{c()} ", "endpoint": f"http://{c()}:1/{c()}", "capabilities": c(), c(): c()}
            body: dict[str, Any] = c.chance.choice([{"json": agent}, {"data": agent}, {"params": agent}])
            call = session.post("/register_agent", headers=headers, **body)
        case "batch":
            call = session.post("/route_tasks", json=[c.task(), {c(): c()}], headers=headers)
        case _:
            where["params"] = {c.chance.choice(["since", "after", "limit", "wait"]): c()}
            call = session.get(c.chance.choice(["/audit", "/dlq", "/task/task-1"]), **where)
    async with call as reply:
        return reply.status, await reply.read()


def kinds(text: bytes) -> Counter[bytes]:
    """How many canaries of each kind are in it."""
    return Counter(CANARY.findall(text))


class Told:
    """All that Redis is ever told, as its MONITOR shows it, and what it holds in the end."""

    def __init__(self, url: str) -> None:
        self._url, self._said = url, bytearray()

    @classmethod
    @asynccontextmanager
    async def by(cls, url: str) -> "AsyncGenerator[Told]":
        """Listens to the Redis at `url`, until there is no more to hear."""
        told = cls(url)
        async with (
            anyio.create_task_group() as tasks,
            await anyio.connect_tcp("127.0.0.1", urlsplit(url).port or 0) as stream,
        ):
            await stream.send(b"MONITOR\r\n")
            assert await stream.receive(5) == b"+OK\r\n"
            tasks.start_soon(told._listen, stream)
            yield told
            tasks.cancel_scope.cancel()

    async def _listen(self, stream: ByteReceiveStream) -> None:
        async for data in stream:
            self._said += data

    def everything(self) -> bytes:
        with Redis.from_url(self._url) as client:
            return bytes(self._said) + b"".join(key + (client.dump(key) or b"") for key in client.scan_iter())


class Net:
    """Where the agent and the collector of traces are; what the latter was sent."""

    def __init__(self, canaries: Canaries) -> None:
        self.traces = bytearray()
        app = web.Application(client_max_size=2**26)
        app.router.add_post("/call", Agent(canaries).call)
        app.router.add_post("/v1/traces", self._collect)
        self._runner = web.AppRunner(app)

    async def __aenter__(self) -> str:
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0).start()
        return f"http://127.0.0.1:{self._runner.addresses[0][1]}"

    async def __aexit__(self, *_: object) -> None:
        await self._runner.cleanup()

    async def _collect(self, request: web.Request) -> web.Response:
        self.traces += await request.read()
        return web.Response()


REFUSE = f"""
ALTER TABLE tasks ADD CHECK (case_id NOT LIKE '{UNWANTED}%');
CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN RAISE EXCEPTION 'not %', NEW.case_id USING DETAIL = NEW::text, HINT = NEW.case_id; END $$;
CREATE TRIGGER refused BEFORE INSERT ON tasks FOR EACH ROW
    WHEN (NEW.case_id LIKE '{UNWANTED}%7') EXECUTE FUNCTION refuse()
"""


async def refuse_some(url: str) -> None:
    """Has PostgreSQL refuse rows, some with the batch that they are in: its errors quote the whole of them."""
    connection = await asyncpg.connect(url)
    try:
        await connection.execute(REFUSE)
    finally:
        await connection.close()


@asynccontextmanager
async def registered(box: Box, endpoint: str) -> AsyncGenerator[aiohttp.ClientSession]:
    """A client of the box, which knows one agent."""
    async with aiohttp.ClientSession(await box.url()) as session:
        capabilities = ["embed", "analyze_light", "raw_image"]
        agent = {"agent_id": "agent-1", "endpoint": endpoint, "capabilities": capabilities, "max_concurrency": 64}
        async with session.post("/register_agent", json=agent) as reply:
            assert reply.status == 200
        yield session


async def pages_of(session: aiohttp.ClientSession) -> bytes:
    """The operator's: its first view, what is live on it, the newest tasks and entries, and the whole of one task."""
    shown = b""
    async with session.get("/audit?event=succeeded&limit=1") as reply:
        task = f"/ui/task/{(await reply.json())['entries'][0]['task_id']}"
    for page in ("/", "/ui/live", "/ui/tasks", "/ui/audit", task):
        async with session.get(page, timeout=aiohttp.ClientTimeout(total=PATIENCE_S)) as reply:
            assert reply.status == 200
            shown += await reply.content.read(2**20)
    return shown


@pytest.mark.parametrize("kind", ["sqlite", "postgresql+redis"])
async def test_canaries(tmp_path: Path, request: pytest.FixtureRequest, kind: str) -> None:
    """After all requests none is where it must not be; and they did get to where they may be, or nothing was tried."""
    canaries, statuses, refused = Canaries(), Counter[int](), list[bytes]()
    ledger, net = {"DATABASE_URL": f"sqlite:///{tmp_path}/ledger.db"}, Net(canaries)
    async with AsyncExitStack() as stack:
        told = None
        if kind != "sqlite":
            server, url = request.getfixturevalue("postgres"), request.getfixturevalue("redis_url")
            ledger = {"DATABASE_URL": server.url(await server.new_database()), "REDIS_URL": url}
            told = await stack.enter_async_context(Told.by(url))
        endpoint = await stack.enter_async_context(net)
        box = Box(tmp_path, ledger, endpoint)
        stack.callback(box.stop)
        session = await stack.enter_async_context(registered(box, endpoint))
        if kind != "sqlite":
            await refuse_some(box.database_url)
        turns = asyncio.Semaphore(AT_ONCE)

        async def ask() -> None:
            async with turns:
                status, body = await one(session, canaries)
                statuses[status] += 1
                if status >= 400:
                    refused.append(body)

        await asyncio.gather(*(ask() for _ in range(REQUESTS)))
        async with session.get("/metrics") as reply:
            metrics = await reply.read()
        pages = await pages_of(session)
        # With its end it hands over the last traces.
        await asyncio.to_thread(box.stop)
        redis = b"" if told is None else told.everything()
    log, audit, database, traces = box.said(), box.exported(), box.stored(), bytes(net.traces)
    nowhere = {"log": log, "metrics": metrics, "errors": b"".join(refused), "traces": traces, "redis": redis}
    found = {name: kinds(text) for name, text in nowhere.items()}
    assert not any(found.values()), (found, [line for line in log.splitlines() if CANARY.search(line)][:3])
    assert set(kinds(pages)) == {b"name"}
    assert set(kinds(audit)) == {b"name"}
    assert set(kinds(database)) == {b"name"}
    assert b"attempt_failed" in log
    assert b"orchestrator.task_id" in traces
    assert 500 not in statuses
    assert min(statuses[status] for status in (202, 400, 403, 404, 415, 422)) > 0, statuses
    if told is not None:
        assert min(statuses[503], redis.count(b"xadd") + redis.count(b"XADD")) > 0, statuses
    for secret in (KEY.encode(), b"ab" * 32):
        assert all(secret not in text for text in (*nowhere.values(), audit, database))
