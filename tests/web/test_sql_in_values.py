"""SQL in every value that reaches a statement: it is a value, is found as one, and does nothing."""

from typing import Any
from urllib.parse import quote

import pytest

from orchestrator.testing import Service, a_task

pytestmark = pytest.mark.anyio

TEXTS = [
    "'", '"', "''", "`", "\\", "\\'", "%", "_", "%27", "$1", "?", ":1", "{}", "%s", "$$", "--", "/*", ";",
    "' OR '1'='1", "' OR 1=1--", '" OR ""="', "x' OR case_id LIKE '%", "1; DROP TABLE tasks", "'; DELETE FROM tasks --",
    "'); DROP TABLE audit_entries; --", "' UNION SELECT secret_hash FROM api_keys --", "' UNION ALL SELECT NULL --",
    "'; UPDATE tasks SET state='succeeded'; --", "' AND pg_sleep(9) --", "' AND randomblob(1000000000) --", "'||'x'||'",
    "$tag$ OR TRUE $tag$", "E'\\x27' OR TRUE", "' /*!50000 OR*/ 1=1 #", "admin'/*", "')) OR (('1'='1", "\u2019 OR 1=1",
    "'; COPY tasks TO '/tmp/x'; --", "'; ATTACH DATABASE '/tmp/x' AS x; --", "' RETURNING *; --", "' COLLATE NOCASE --",
]  # fmt: skip


def paths(text: str) -> list[tuple[str, str]]:
    """Calls that look for something by that text, of which there is none."""
    word, name = quote(text, safe=""), quote(text)
    return [
        ("GET", f"/task/{word}"), ("GET", f"/task/{word}/events"), ("DELETE", f"/task/{word}"),
        ("DELETE", f"/agents/{word}"), ("POST", f"/task/{word}/erase"), ("POST", f"/dlq/{word}/replay"),
        ("POST", f"/agents/{word}/heartbeat"), ("POST", f"/agents/{word}/allow"),
        ("GET", f"/audit?task_id={word}"), ("GET", f"/audit?since={word}"), ("GET", f"/audit?event={word}"),
        ("GET", f"/audit?after={word}"), ("GET", f"/dlq?after={word}"), ("GET", f"/audit?case_id=x{name}"),
    ]  # fmt: skip


async def entries(service: Service, case_id: str) -> list[str]:
    return [entry["task_id"] for entry in await service.audit(case_id=case_id) if entry["event"] == "accepted"]


async def test_in_every_value(service: Service, rows: Any) -> None:
    """Each text names its own task, key, consent and case, and is given back as it came; nothing else is touched."""
    bystander = (await service.route({"case_id": "bystander"})).json["task_id"]
    made: dict[str, str] = {}
    for text in TEXTS:
        consent = {"consent_given": True, "consent_id": text}
        values = {"payload": {text: text}, "meta": {"site": text, text: text}, "consent": consent}
        task = a_task(case_id=text, idempotency_key=text, **values)
        accepted = await service.route(task)
        assert accepted.status == 202, (text, accepted)
        made[text] = accepted.json["task_id"]
        again = await service.route(task)
        assert (again.json["status"], again.json["task_id"]) == ("duplicate", made[text]), text
    for text in TEXTS:
        assert await entries(service, text) == [made[text]], text
        for method, path in paths(text):
            reply = await service.ask(method, path, json={})
            found = reply.json.get("entries", []) if reply.status == 200 else []
            assert (reply.status < 500, found) == (True, []), (method, path, reply)
    assert rows("tasks") == len(TEXTS) + 1
    for number, text in enumerate(TEXTS, 1):
        revoked = await service.ask("POST", f"/consents/{quote(text, safe='')}/revoke")
        assert (revoked.status, revoked.json.get("denied")) == (200, 1), (text, revoked)
        erased = await service.ask("POST", f"/cases/{quote(text, safe='')}/erase")
        assert (erased.status, erased.json["erased"]) == (200, 1), (text, erased)
        assert rows("revoked_consents") == number, text
    assert (await service.ask("GET", f"/task/{bystander}")).json["status"] == "queued"
    assert rows("tasks") == len(TEXTS) + 1


async def test_in_what_agents_say(service: Service, rows: Any) -> None:
    """Each text is the place and the version of an agent, and what it gives back: all are read as they were said."""
    expected = {f"agent-{number}": (text, text) for number, text in enumerate(TEXTS)}
    for agent_id, (text, _) in expected.items():
        card = {"agent_id": agent_id, "capabilities": ["audit"], "location": text, "model_version": text}
        assert (await service.ask("POST", "/register_agent", json=card)).status == 200, text
        task_id = (await service.route({"task_type": "audit_log"})).json["task_id"]
        (held,) = (await service.ask("POST", f"/agents/{agent_id}/lease", json={"wait": 5})).json["tasks"]
        result = {"attempt": held["attempt"], "lease": held["lease"], "agent_id": agent_id, "success": True}
        result |= {"output": {text: [text]}, "model_version": text}
        given = await service.ask("POST", f"/task/{task_id}/result", json=result)
        assert given.status == 200, (text, given)
        assert (await service.ended(task_id))["result"] == {text: [text]}
    agents = (await service.ask("GET", "/agents")).json["agents"]
    assert {agent["agent_id"]: (agent["location"], agent["model_version"]) for agent in agents} == expected
    assert (rows("tasks"), rows("results")) == (len(TEXTS), len(TEXTS))
