"""Writes databases as this version does, with tasks in every state: keep_database.py [FOLDER]

One for SQLite and one for PostgreSQL, as SQL, named by the version of the schema. They stand beside this
file, and every later version has to take them over and finish their tasks. Run it with the interpreter of `.venv`.
"""

import sqlite3
import sys
import tempfile
from collections.abc import Mapping
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import anyio
from aiohttp import web

from orchestrator.storage.postgres import schema as postgres_schema
from orchestrator.storage.sqlite import schema as sqlite_schema
from orchestrator.testing import ScriptedAgent, Service

HERE = Path(__file__).resolve().parent
ENVIRON = {
    "ORCHESTRATOR_WEBHOOKS_SECRET": "whsec_" + "A" * 32,
    "ORCHESTRATOR_TASKS_ANALYZE_REFER_TIMEOUT_S": "5",
    "ORCHESTRATOR_RETRY_BASE": "60",
}
FAR = datetime(2100, 1, 1, tzinfo=UTC).timestamp()
# A file that is kept outlasts the deadlines of its tasks; its back-offs and leases are over whenever it is read.
TIMELESS = (
    f"UPDATE tasks SET deadline_at = {FAR:.1f} WHERE state IN ('queued', 'leased', 'retry_wait')",
    "UPDATE tasks SET due_at = 1.0 WHERE state = 'retry_wait'",
    "UPDATE tasks SET lease_until = 1.0 WHERE state = 'leased'",
)


async def decline(_request: Any) -> web.Response:
    return web.json_response({"success": False, "error": {"message": "no", "retryable": False}})


async def populate(service: Service) -> None:
    """Tasks in every state: ended in each way, waiting for an agent or for their time, in hand."""

    async def send(task_type: str, **fields: Any) -> str:
        task = {"case_id": "case-1", "task_type": task_type, "payload": {"note": "kept"}, **fields}
        return (await service.ask("POST", "/route_task", json=task)).json["task_id"]

    good = ScriptedAgent("agent-1", capabilities=["embed"])
    bad = ScriptedAgent("agent-2", decline, capabilities=["indexing"])
    tired = ScriptedAgent("agent-4", 503, capabilities=["analyze_light"])
    async with good, bad, tired:
        for agent in (good, bad, tired):
            await service.ask("POST", "/register_agent", json=agent.registration)
        finished = [await send("embed", idempotency_key=f"key-{number}") for number in range(3)]
        finished.append(await send("indexing"))
        for task_id in finished:
            await service.ended(task_id)
        retried = await send("analyze_monitor")
        await service.reached(retried, lambda task: task["status"] == "retry_wait")
    await service.ask("DELETE", "/agents/agent-4")
    await service.ask("DELETE", f"/task/{await send('audit_log')}")
    await service.ended(await send("audit_log", deadline_s=0.1))
    await send("audit_log", consent={"consent_given": True, "consent_id": "consent-1"})
    await service.ask("POST", "/consents/consent-1/revoke")
    for number in range(3):
        await send("audit_log", priority=("low", "high", "urgent")[number])
    await send("audit_log", not_before="2020-01-01T00:00:00Z", callback_url="http://127.0.0.1:1024/told")
    # Last, since it lapses: an agent that asked for work and was not heard of again.
    await service.ask("POST", "/register_agent", json={"agent_id": "agent-5", "capabilities": ["analyze_heavy"]})
    await send("analyze_refer")
    await service.ask("POST", "/agents/agent-5/lease", json={"wait": 10})


async def write(store: Path | Mapping[str, str]) -> None:
    """Fills the new database at `store`."""
    async with Service(store, ENVIRON) as service:
        await populate(service)


async def sqlite_text() -> str:
    """A database of SQLite, as the statements that make it anew."""
    with tempfile.TemporaryDirectory() as scratch:
        live = Path(scratch) / "ledger.db"
        await write(live)
        with closing(sqlite3.connect(live)) as connection:
            for statement in TIMELESS:
                connection.execute(statement)
            return "\n".join(connection.iterdump()) + "\n"


async def postgres_text() -> str:
    """The same of PostgreSQL, in the server that the tests use."""
    sys.path.append(str(HERE.parent / "storage"))
    import postgres_server

    with postgres_server.running(postgres_server.PACKAGED) as server:
        name = await server.new_database()
        await write({"DATABASE_URL": server.url(name), "ORCHESTRATOR_STORAGE_WRITER": "main"})
        await server.run(";".join(TIMELESS), name)
        program = postgres_server.installations()[postgres_server.PACKAGED] / "pg_dump"
        command = [str(program), "--inserts", "--no-owner", "--no-comments", "--dbname", server.url(name)]
        text = (await anyio.run_process(command)).stdout.decode()
    # A line with a backslash speaks to psql, which does not run it again.
    return "".join(line for line in text.splitlines(True) if not line.startswith("\\"))


async def main(folder: Path) -> None:
    for name, schema, text in (
        ("sqlite", sqlite_schema, sqlite_text),
        ("postgresql", postgres_schema, postgres_text),
    ):
        file = folder / f"{schema.latest_version():04}.{name}.sql"
        file.write_text(await text(), "utf-8")


if __name__ == "__main__":
    anyio.run(main, Path(sys.argv[1]) if len(sys.argv) > 1 else HERE)
