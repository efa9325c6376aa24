"""Writes a database as this version does, with tasks in every state: keep_database.py FILE

At each release its file goes into tests/upgrades, named by the version; from then on every later version has to take
it over and finish its tasks. Run it with the interpreter of `.venv`.
"""

import sys
import tempfile
from pathlib import Path
from typing import Any

import anyio
from aiohttp import web

from orchestrator import backups
from orchestrator.testing import ScriptedAgent, Service


async def decline(_request: Any) -> web.Response:
    return web.json_response({"success": False, "error": {"message": "no", "retryable": False}})


async def populate(service: Service) -> None:
    """Tasks that succeeded, died and were cancelled, and some that wait: for an agent, and for their time."""

    async def send(task_type: str, **fields: Any) -> str:
        task = {"case_id": "case-1", "task_type": task_type, "payload": {"note": "kept"}, **fields}
        return (await service.ask("POST", "/route_task", json=task)).json["task_id"]

    good = ScriptedAgent("agent-1", capabilities=["embed"])
    bad = ScriptedAgent("agent-2", decline, capabilities=["indexing"])
    async with good, bad:
        for agent in (good, bad):
            await service.ask("POST", "/register_agent", json=agent.registration)
        finished = [await send("embed", idempotency_key=f"key-{number}") for number in range(3)]
        finished.append(await send("indexing"))
        for task_id in finished:
            await service.ask("GET", f"/task/{task_id}?wait=30")
    await service.ask("DELETE", f"/task/{await send('audit_log')}")
    for number in range(3):
        await send("audit_log", priority=("low", "high", "urgent")[number])
    await send("audit_log", not_before="2020-01-01T00:00:00Z")


async def write(file: Path) -> None:
    """Writes the database to the new `file`, as one file without a log."""
    with tempfile.TemporaryDirectory() as folder:
        live = Path(folder) / "ledger.db"
        async with Service(live) as service:
            await populate(service)
        await backups.back_up(f"sqlite:///{live}", file)


if __name__ == "__main__":
    anyio.run(write, Path(sys.argv[1]))
