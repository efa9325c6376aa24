"""The disk is full, really, or as full as the settings allow. Nothing acknowledged is lost, nothing crashes."""

import subprocess
from typing import Any

import anyio
import pytest
from aiohttp import web

from orchestrator.testing import ScriptedAgent

pytestmark = pytest.mark.anyio

PAYLOAD = {"filling": "x" * 20_000}
TASK = {"case_id": "c", "task_type": "indexing", "payload": PAYLOAD}


async def fill(server: Any, kind: str) -> list[str]:
    """Sends tasks until one is refused for want of space; the ids of those that were acknowledged."""
    acknowledged: list[str] = []
    while len(acknowledged) < 5_000:
        task = {"case_id": "c", "task_type": kind, "payload": PAYLOAD}
        status, headers, body = await server.ask("POST", "/route_task", json=task)
        if status != 202:
            assert (status, body["code"]) == (503, "E_AUDIT_UNAVAILABLE"), body
            assert int(headers["Retry-After"]) > 0
            return acknowledged
        acknowledged.append(body["task_id"])
    raise AssertionError("it is never full")


async def is_unready(server: Any) -> bool:
    status, _, body = await server.ask("GET", "/ready")
    return (status, body.get("reasons")) == (503, ["ledger_unavailable"])


async def all_succeed(server: Any, task_ids: list[str]) -> None:
    for task_id in task_ids:
        _, _, task = await server.ask("GET", f"/task/{task_id}?wait=30")
        assert task["status"] == "succeeded", task


async def test_the_ledger_reaches_the_size_that_it_may_have(served):
    """New tasks are refused with 503, those acknowledged stay, and are done once it may be larger."""
    server = served(ORCHESTRATOR_STORAGE_MAX_BYTES=str(2**20), ORCHESTRATOR_STORAGE_MIN_FREE_BYTES="0")
    await server.start()
    acknowledged = await fill(server, "indexing")
    assert len(acknowledged) > 10
    assert await is_unready(server)
    assert await server.status("GET", "/health") == 200
    for task_id in acknowledged:
        assert (await server.ask("GET", f"/task/{task_id}"))[2]["status"] == "queued"
    assert (await server.stop())[0] == 0
    assert (await server.run("audit", "verify"))[0] == 0

    server.environ["ORCHESTRATOR_STORAGE_MAX_BYTES"] = str(2**24)
    await server.start()
    async with ScriptedAgent("agent-1", capabilities=["indexing"]) as agent:
        assert (await server.ask("POST", "/register_agent", json=agent.registration))[0] == 200
        await all_succeed(server, acknowledged)
    assert (await server.stop())[0] == 0
    assert (await server.run("audit", "verify"))[0] == 0


@pytest.fixture(params=[24])
def small_disk(tmp_path, request):
    """A file system of 24 MiB, or as many as a test says, where one may be mounted."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["/bin/mount", "-t", "tmpfs", "-o", f"size={request.param}m", "tmpfs", str(folder)]
    mounted = subprocess.run(mount, capture_output=True, check=False)
    if mounted.returncode:
        pytest.skip("no file system may be mounted here")
    yield folder
    subprocess.run(["/bin/umount", "--lazy", str(folder)], check=True)


async def test_the_disk_is_full_for_a_while(served, small_disk):
    """Acceptance says 503, a call's result is kept; with space again, it is written and all is done, in one process."""
    release = anyio.Event()

    async def held(_request: Any) -> Any:
        await release.wait()
        return web.json_response({"success": True, "output": {"large": "y" * 100_000}})

    ballast = small_disk / "ballast"
    ballast.write_bytes(bytes(20 * 2**20))
    server = served(small_disk, ORCHESTRATOR_STORAGE_MIN_FREE_BYTES="0")
    async with ScriptedAgent("agent-1", held) as slow, ScriptedAgent("agent-2", capabilities=["indexing"]) as quick:
        await server.start()
        assert (await server.ask("POST", "/register_agent", json=slow.registration))[0] == 200
        _, _, body = await server.ask("POST", "/route_task", json={"case_id": "c", "task_type": "embed", "payload": {}})
        await slow.until_called()
        acknowledged = [*await fill(server, "indexing"), body["task_id"]]
        assert await is_unready(server)
        release.set()
        for _ in range(5):
            status, _, refusal = await server.ask(
                "POST", "/route_task", json={"case_id": "c", "task_type": "indexing", "payload": PAYLOAD}
            )
            assert (status, refusal["code"]) == (503, "E_AUDIT_UNAVAILABLE")
        assert server.process.returncode is None
        ballast.unlink()
        await server.until_ready(True)
        assert (await server.ask("POST", "/register_agent", json=quick.registration))[0] == 200
        await all_succeed(server, acknowledged)
        assert len(slow.calls) == 1
    code, said = await server.stop()
    assert (code, "actor_failed" in said) == (0, False), said
    assert (await server.run("audit", "verify"))[0] == 0


async def test_room_that_is_kept_for_what_was_accepted(served):
    """New work is refused while there is room, so that every task accepted can be done; then there is room again."""
    bound, kept = 2**21, 2**20
    server = served(
        ORCHESTRATOR_STORAGE_MAX_BYTES=str(bound),
        ORCHESTRATOR_STORAGE_MIN_FREE_BYTES=str(kept),
    )
    await server.start()
    acknowledged: list[str] = []
    while (answer := await server.ask("POST", "/route_task", json=TASK))[0] == 202:
        acknowledged.append(answer[2]["task_id"])
    status, headers, body = answer
    assert (status, body["code"], int(headers["Retry-After"]) > 0) == (503, "E_OVERLOADED", True), body
    assert (await server.ask("GET", "/ready"))[2]["reasons"] == ["space_low"]
    async with ScriptedAgent("agent-1", capabilities=["indexing"]) as agent:
        assert (await server.ask("POST", "/register_agent", json=agent.registration))[0] == 200
        await all_succeed(server, acknowledged)
    assert (await server.stop())[0] == 0
    server.environ["ORCHESTRATOR_STORAGE_MAX_BYTES"] = str(2 * bound)
    await server.start()
    assert (await server.ask("POST", "/route_task", json=TASK))[0] == 202
    assert (await server.stop())[0] == 0


@pytest.mark.parametrize("small_disk", [128], indirect=True)
async def test_room_within_the_file(served, small_disk):
    """What was removed is room for new work, though the file is as large as before and the disk as full."""
    tasks = [{**TASK, "payload": {"filling": "x" * 60_000}}] * 10
    server = served(
        small_disk,
        ORCHESTRATOR_STORAGE_MIN_FREE_BYTES=str(40 * 2**20),
        ORCHESTRATOR_RETENTION_PAYLOAD_S="1",
        ORCHESTRATOR_RETENTION_EVERY_S="1",
    )

    async def filled() -> list[str]:
        acknowledged: list[str] = []
        while (answer := await server.ask("POST", "/route_tasks", json=tasks))[0] == 207:
            acknowledged += [outcome["body"]["task_id"] for outcome in answer[2]["outcomes"]]
        assert (answer[0], answer[2]["code"]) == (503, "E_OVERLOADED"), answer
        return acknowledged

    await server.start()
    first = await filled()
    async with ScriptedAgent("agent-1", capabilities=["indexing"]) as agent:
        assert (await server.ask("POST", "/register_agent", json=agent.registration))[0] == 200
        await all_succeed(server, first)
        (file,) = small_disk.glob("*.db")
        size = file.stat().st_size
        await server.until_ready(True)
        second = await filled()
        assert len(second) > len(first) / 4
        assert file.stat().st_size <= size + 2**20
        await all_succeed(server, second)
    assert (await server.stop())[0] == 0
    assert (await server.run("audit", "verify"))[0] == 0
