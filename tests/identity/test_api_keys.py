"""API keys: what is kept of them, who makes them, and how they end."""

import sqlite3
from contextlib import closing
from pathlib import Path

import anyio
import pytest
from aiohttp import ClientSession
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.domain import api_key
from orchestrator.domain.identity import Scope
from orchestrator.testing import Service, a_task

pytestmark = pytest.mark.anyio


async def test_a_key_is_made_used_and_revoked(service: Service, caller) -> None:
    """It works from the answer that makes it to the answer that ends it, and the audit tells who did both."""
    root = await caller("root")
    made = await root.ask("POST", "/keys", json={"subject": "clinic-a", "scopes": ["agents:read"]})
    assert made.status == 201
    key = made.json
    headers = {"Authorization": f"Bearer {key['api_key']}"}
    assert (await service.ask("GET", "/agents", headers=headers)).status == 200
    listed = (await root.ask("GET", "/keys")).json["keys"]
    assert {"clinic-a", "root"} == {entry["subject"] for entry in listed}
    assert all(set(entry) == {"key_id", "subject", "scopes", "created_at"} for entry in listed)
    assert (await root.ask("DELETE", f"/keys/{key['key_id']}")).status == 200
    assert (await service.ask("GET", "/agents", headers=headers)).status == 401
    assert (await root.ask("DELETE", f"/keys/{key['key_id']}")).status == 404
    entries = (await root.ask("GET", "/audit")).json["entries"]
    assert [(e["event"], e["principal"], e["reason"]) for e in entries[1:]] == [
        ("key_created", "root", f"{key['key_id']} clinic-a"),
        ("key_revoked", "root", f"{key['key_id']} clinic-a"),
    ]


async def test_nobody_gives_what_he_has_not_got(caller) -> None:
    """An operator without the right to submit cannot make himself a key that has it."""
    operator = await caller("operator", [Scope.OPERATE, Scope.AUDIT_READ])
    for scopes, status in ((["tasks:submit"], 403), (["operate", "tasks:submit"], 403), (["audit:read"], 201)):
        assert (await operator.ask("POST", "/keys", json={"subject": "x", "scopes": scopes})).status == status, scopes


@pytest.mark.parametrize(
    "body",
    [
        {}, {"subject": "a"}, {"scopes": ["operate"]}, {"subject": "", "scopes": ["operate"]},
        {"subject": "a b", "scopes": ["operate"]}, {"subject": "a\n", "scopes": ["operate"]},
        {"subject": "a" * 201, "scopes": ["operate"]}, {"subject": "a", "scopes": []},
        {"subject": "a", "scopes": ["everything"]}, {"subject": "a", "scopes": "operate"},
        {"subject": "a", "scopes": ["operate"], "key_id": "mine"},
    ],
)  # fmt: skip
async def test_a_request_for_a_key_that_does_not_fit(caller, body) -> None:
    """422, and there is no key."""
    root = await caller("root")
    reply = await root.ask("POST", "/keys", json=body)
    assert (reply.status, reply.json["code"]) == (422, "E_VALIDATION")
    assert len((await root.ask("GET", "/keys")).json["keys"]) == 1


def contents(folder: Path) -> bytes:
    """All files of the folder."""
    return b"".join(path.read_bytes() for path in folder.iterdir() if path.is_file())


async def test_what_the_disk_holds(tmp_path: Path, service: Service, caller) -> None:
    """Of a key's secret there is no trace in the database, nor in its log."""
    token = (await caller("clinic-a")).token
    secret = token.rsplit("_", 1)[1]
    await service.stop()
    kept = contents(tmp_path)
    assert b"clinic-a" in kept
    assert secret.encode() not in kept
    assert bytes.fromhex(secret) not in kept
    with closing(sqlite3.connect(tmp_path / "ledger.db")) as connection:
        assert connection.execute("SELECT count(*) FROM api_keys").fetchone() == (1,)


async def test_a_key_survives_a_restart(tmp_path: Path, environ) -> None:
    """It is in the ledger."""
    async with Service(tmp_path / "ledger.db", environ) as service:
        _, token = await service.orchestrator.gateway.create_key("clinic-a", {Scope.AGENTS_READ})
    async with Service(tmp_path / "ledger.db", environ) as service:
        reply = await service.ask("GET", "/agents", headers={"Authorization": f"Bearer {token}"})
        assert reply.status == 200


ENTROPY = bytes(range(api_key.ENTROPY))


@given(place=st.integers(0, 83), other=st.characters(codec="utf-8"))
def test_a_key_with_one_character_changed(place: int, other: str) -> None:
    """Is another key, or none: whichever character it is, and whatever it becomes."""
    key, text = api_key.make("clinic-a", {Scope.OPERATE}, ENTROPY, 0.0)
    assert len(text) == 85
    changed = text[:place] + other + text[place + 1 :]
    found = api_key.parts(changed)
    opens = found is not None and found[0] == key.key_id and key.matches(found[1])
    assert opens == (changed == text)


def test_a_key_shows_nothing_of_its_secret() -> None:
    """Neither where it is printed nor where it is listed."""
    key, text = api_key.make("clinic-a", {Scope.OPERATE}, ENTROPY, 0.0)
    secret = text.rsplit("_", 1)[1]
    assert secret not in repr(key)
    assert key.secret_hash not in str(key.shown())


async def test_stream_of_a_key_that_is_revoked(service: Service, caller) -> None:
    """Ends by itself, and nothing that happens afterwards is told by it."""
    client, operator = await caller("clinic-a"), await caller("operator")
    task_id = (await client.ask("POST", "/route_task", json=a_task())).json["task_id"]
    url = f"http://127.0.0.1:{service.port}/task/{task_id}/events"
    async with ClientSession(headers={"Authorization": f"Bearer {client.token}"}) as session, session.get(url) as reply:
        assert b"retry" in await reply.content.readuntil(b"\n\n")
        assert b"event: state" in await reply.content.readuntil(b"\n\n")
        (key,) = [k for k in (await operator.ask("GET", "/keys")).json["keys"] if k["subject"] == "clinic-a"]
        assert (await operator.ask("DELETE", f"/keys/{key['key_id']}")).status == 200
        assert (await operator.ask("DELETE", f"/task/{task_id}")).json["status"] == "cancelled"
        with anyio.fail_after(20):
            left = await reply.content.read()
    assert b"cancelled" not in left
    assert b"event: end" not in left
