"""Nothing leaks: every field of every request and of every agent's answer carries a canary, and then all is searched.

Two kinds. `secret` may be nowhere at all, not even in the database, which is encrypted: payloads, results, an agent's
words, idempotency keys, headers, queries, unknown fields, broken bodies. `name` (of cases and of consents) may be in
the database, the audit and on the operator's page; not in a log, a metric or the body of an error. CANARIES is how many
requests.
"""

import asyncio
import os
import re
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

import aiohttp
import pytest
from aiohttp import web

REQUESTS = int(os.environ.get("CANARIES", "2000"))
PATIENCE_S = 60 + REQUESTS // 20
AT_ONCE = 24
CANARY = re.compile(rb"cnry-(secret|name)-[0-9]+")
KEY = "MC4CAQAwBQYDK2VwBCIEIJ1hsZ3v/VpguoRK9JLsLMREScVpezJpGXA7rAMcrn9g"

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(PATIENCE_S + 60)]


@pytest.fixture
def anyio_backend():
    return "asyncio"


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
            "case_id": c("name"),
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

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        (folder / "signing.pem").write_text(f"-----BEGIN PRIVATE KEY-----\n{KEY}\n-----END PRIVATE KEY-----\n")
        (folder / "encryption-key").write_text("ab" * 32)
        self.environ = {
            **os.environ,
            "DATABASE_URL": f"sqlite:///{folder}/ledger.db",
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
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(timeout=PATIENCE_S)
        self._log.close()

    def said(self) -> bytes:
        return (self.folder / "log").read_bytes()

    def stored(self) -> bytes:
        return b"".join(path.read_bytes() for path in self.folder.glob("ledger.db*"))

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


async def test_canaries(tmp_path: Path) -> None:
    """After all requests none is where it must not be; and they did get to where they may be, or nothing was tried."""
    canaries, statuses, refused = Canaries(), Counter[int](), list[bytes]()
    app = web.Application()
    app.router.add_post("/call", Agent(canaries).call)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    box = Box(tmp_path)
    try:
        turns = asyncio.Semaphore(AT_ONCE)
        async with aiohttp.ClientSession(await box.url()) as session:
            capabilities = ["embed", "analyze_light", "raw_image"]
            endpoint = f"http://127.0.0.1:{runner.addresses[0][1]}"
            agent = {"agent_id": "agent-1", "endpoint": endpoint, "capabilities": capabilities, "max_concurrency": 64}
            async with session.post("/register_agent", json=agent) as reply:
                assert reply.status == 200

            async def ask() -> None:
                async with turns:
                    status, body = await one(session, canaries)
                    statuses[status] += 1
                    if status >= 400:
                        refused.append(body)

            await asyncio.gather(*(ask() for _ in range(REQUESTS)))
            async with session.get("/metrics") as reply:
                metrics = await reply.read()
            pages = b""
            for page in ("/", "/ui/live"):
                async with session.get(page, timeout=aiohttp.ClientTimeout(total=PATIENCE_S)) as reply:
                    assert reply.status == 200
                    pages += await reply.content.read(2**20)
    finally:
        box.stop()
        await runner.cleanup()
    log, audit, database = box.said(), box.exported(), box.stored()
    assert {"log": kinds(log), "metrics": kinds(metrics), "errors": kinds(b"".join(refused))} == {
        "log": Counter(), "metrics": Counter(), "errors": Counter(),
    }, [line for line in log.splitlines() if CANARY.search(line)][:3]  # fmt: skip
    assert set(kinds(pages)) <= {b"name"}
    assert set(kinds(audit)) == {b"name"}
    assert set(kinds(database)) == {b"name"}
    assert b"attempt_failed" in log
    assert 500 not in statuses
    assert min(statuses[status] for status in (202, 400, 403, 404, 415, 422)) > 0, statuses
    for secret in (KEY.encode(), b"ab" * 32):
        assert all(secret not in text for text in (log, metrics, audit, database))
