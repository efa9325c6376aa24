"""Who may call what: every call of the application, against every kind of caller."""

import re

import pytest

from orchestrator.domain.identity import Scope
from orchestrator.testing import ScriptedAgent, Service, a_task
from orchestrator.web.app import build_app
from orchestrator.web.rights import PAGES, RIGHTS

pytestmark = pytest.mark.anyio

OWN = frozenset(Scope) - {Scope.OPERATE}
NAME = "task-" + "0" * 32


def calls(service: Service) -> list[str]:
    """Every method of every route of the API, from the application itself."""
    return [call for call in routes(service) if call not in PAGES]


def routes(service: Service) -> list[str]:
    """Those of the operator's page among them."""
    app = build_app(service.orchestrator.gateway, service.orchestrator.telemetry, service.settings)
    rules = [(method, rule.rule) for rule in app.url_map.iter_rules() for method in rule.methods or ()]
    return sorted(f"{method} {rule}" for method, rule in rules if method not in ("HEAD", "OPTIONS"))


def filled(call: str, value: str = NAME) -> tuple[str, str]:
    """Method and path of a call, with something in the place of its parameters."""
    method, rule = call.split(" ", 1)
    return method, re.sub(r"<[^>]+>", value, rule)


async def test_every_call_has_its_right(service: Service) -> None:
    """A route that is not in the table fails here, as does a line of the table without a route."""
    assert sorted([*RIGHTS, *PAGES]) == routes(service)


async def test_a_call_that_is_not_in_the_table(service: Service, caller, monkeypatch: pytest.MonkeyPatch) -> None:
    """Is nobody's: 403 even with all rights."""
    monkeypatch.delitem(RIGHTS, "GET /agents")  # pyright: ignore[reportArgumentType]
    reply = await (await caller("root")).ask("GET", "/agents")
    assert (reply.status, reply.json["code"]) == (403, "E_FORBIDDEN")


async def test_callers_against_calls(service: Service, caller) -> None:
    """With the one right that a call needs it is let through, with all the others and with none it is not."""
    # All of one name, which is the agent's in the paths: agents speak for themselves only.
    one = {scope: await caller(NAME, [scope]) for scope in Scope}
    rest = {scope: await caller(NAME, set(Scope) - {scope}) for scope in Scope}
    wrong: list[object] = []
    for call in calls(service):
        method, path = filled(call)
        needed = RIGHTS[call]
        nobody = await service.ask(method, path)
        seen = {scope: (await who.ask(method, path)).status for scope, who in one.items()}
        if needed is None:
            expected = nobody.status not in (401, 403) and set(seen.values()) == {nobody.status}
        else:
            without = (await rest[needed].ask(method, path)).status
            allowed = seen.pop(needed)
            expected = (
                (nobody.status, nobody.json["code"], without) == (401, "E_UNAUTHENTICATED", 403)
                and set(seen.values()) == {403}
                and (allowed not in (401, 403) or call in ASKS_FOR_MORE)
            )
        if not expected:
            wrong.append((call, nobody.status, seen))
    assert wrong == []


ASKS_FOR_MORE = {"GET /audit"}
"""Calls that without `operate` want to know of which task."""


async def test_the_task_of_somebody_else(service: Service, caller) -> None:
    """Whatever is done with it, the answer is the one for a task that does not exist. Owner and operators get it."""
    owner, stranger = await caller("clinic-a", OWN), await caller("clinic-b", OWN)
    operator = await caller("operator", Scope)
    task_id = (await owner.ask("POST", "/route_task", json=a_task())).json["task_id"]
    about_tasks = [call for call in calls(service) if "<task_id>" in call and RIGHTS[call] in OWN]
    assert len(about_tasks) >= 3
    for call in about_tasks:
        theirs = await stranger.ask(*filled(call, task_id))
        missing = await stranger.ask(*filled(call))
        assert (theirs.status, theirs.body) == (missing.status, missing.body), call
        assert theirs.status in (404, 415, 422), call
    assert (await owner.ask("GET", f"/task/{task_id}")).status == 200
    assert (await operator.ask("GET", f"/task/{task_id}")).status == 200
    assert (await owner.ask("DELETE", f"/task/{task_id}")).json["status"] == "cancelled"


async def test_the_key_of_somebody_else(service: Service, caller) -> None:
    """The same idempotency key of two callers is two keys: neither learns that the other has used it."""
    clinics = [await caller("clinic-a", OWN), await caller("clinic-b", OWN)]
    for body in ({"payload": {"n": 1}}, {"payload": {"n": 2}}):
        replies = [
            await clinic.ask("POST", "/route_task", json=a_task(idempotency_key="visit-7", **body))
            for clinic in (clinics if body["payload"]["n"] == 1 else clinics[:1])
        ]
        if body["payload"]["n"] == 1:
            assert [reply.status for reply in replies] == [202, 202]
            assert replies[0].json["task_id"] != replies[1].json["task_id"]
        else:
            assert (replies[0].status, replies[0].json["code"]) == (422, "E_IDEMPOTENCY_KEY_REUSED")
    own = await clinics[1].ask("POST", "/route_task", json=a_task(idempotency_key="visit-7", payload={"n": 1}))
    assert own.json["status"] == "duplicate"


async def test_the_audit_of_ones_own(service: Service, caller) -> None:
    """Without `operate`: of a task of one's own, by its id; operators see all of it, and who did what."""
    owner, stranger = await caller("clinic-a", OWN), await caller("clinic-b", OWN)
    operator = await caller("operator", Scope)
    task_id = (await owner.ask("POST", "/route_task", json=a_task())).json["task_id"]
    await operator.ask("DELETE", f"/task/{task_id}")
    mine = await owner.ask("GET", f"/audit?task_id={task_id}")
    assert [(e["event"], e["principal"]) for e in mine.json["entries"]] == [
        ("accepted", "clinic-a"),
        ("cancelled", "operator"),
    ]
    for query in ("", "?case_id=case-1", "?since=2000-01-01T00:00:00Z"):
        reply = await owner.ask("GET", f"/audit{query}")
        assert (reply.status, reply.json["code"]) == (403, "E_FORBIDDEN"), query
    assert (await stranger.ask("GET", f"/audit?task_id={task_id}")).status == 404
    everything = (await operator.ask("GET", "/audit")).json["entries"]
    assert {"key_created", "accepted", "cancelled"} <= {entry["event"] for entry in everything}


async def test_the_dead_letters_of_ones_own(service: Service, caller) -> None:
    """A list holds the caller's, page by page; operators see everybody's. A replay stays with its owner."""
    owner, stranger = await caller("clinic-a", OWN), await caller("clinic-b", OWN)
    operator = await caller("operator", Scope)
    refusal = {"success": False, "error": {"message": "no", "retryable": False}}
    async with ScriptedAgent("agent-1", refusal) as agent:
        registered = await operator.ask("POST", "/register_agent", json=agent.registration)
        assert registered.status == 200
        dead: dict[str, list[str]] = {"clinic-a": [], "clinic-b": []}
        for who in (owner, stranger, owner, stranger, owner):
            task_id = (await who.ask("POST", "/route_task", json=a_task())).json["task_id"]
            assert (await who.ask("GET", f"/task/{task_id}?wait=20")).json["status"] == "dead"
            dead[who.subject].append(task_id)
        first = (await owner.ask("GET", "/dlq?limit=2")).json
        second = (await owner.ask("GET", f"/dlq?limit=2&after={first['next']}")).json
        assert [e["task_id"] for e in (*first["entries"], *second["entries"])] == dead["clinic-a"]
        assert [e["task_id"] for e in (await stranger.ask("GET", "/dlq")).json["entries"]] == dead["clinic-b"]
        assert len((await operator.ask("GET", "/dlq")).json["entries"]) == 5
        assert (await stranger.ask("POST", f"/dlq/{dead['clinic-a'][0]}/replay")).status == 404
        again = (await operator.ask("POST", f"/dlq/{dead['clinic-a'][0]}/replay")).json["task_id"]
    assert (await owner.ask("GET", f"/task/{again}")).status == 200
    assert (await stranger.ask("GET", f"/task/{again}")).status == 404


async def test_without_authentication(tmp_path) -> None:
    """Everybody is anonymous and may do everything, whatever he shows for himself."""
    async with Service(tmp_path / "open.db") as service:
        for headers in ({}, {"Authorization": "Bearer rok_nonsense"}, {"Authorization": "Basic eDp5"}):
            assert (await service.ask("GET", "/agents", headers=headers)).status == 200
            assert (await service.ask("GET", "/keys", headers=headers)).status == 200
        task_id = (await service.route({})).json["task_id"]
        (entry,) = await service.audit(task_id=task_id)
        assert entry["principal"] == "anonymous"


async def test_who_asks_without_a_key_learns_how(service: Service) -> None:
    """401 with the challenge of RFC 6750, and the same for whatever is wrong with it."""
    bad = [
        {}, {"Authorization": ""}, {"Authorization": "Bearer"}, {"Authorization": "Bearer "},
        {"Authorization": "rok_x"},
        {"Authorization": "Basic eDp5"}, {"Authorization": "Bearer rok_"}, {"Authorization": "Bearer " + "x" * 9_000},
        {"Authorization": f"Bearer rok_{'0' * 16}_{'0' * 64}"}, {"Authorization": f"Bearer ROK_{'0' * 16}_{'0' * 64}"},
        {"X-API-Key": "x"},
    ]  # fmt: skip
    for headers in bad:
        reply = await service.ask("GET", "/agents", headers=headers)
        assert (reply.status, reply.json["code"]) == (401, "E_UNAUTHENTICATED"), headers
        assert reply.headers["WWW-Authenticate"] == "Bearer"


async def test_two_tokens_at_once(service: Service, caller) -> None:
    """Are refused, the good one with the bad: which of them counts is not to be guessed."""
    token = (await caller("root")).token.encode()
    head = b"GET /agents HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nAuthorization: Bearer " + token
    assert (await service.raw(head + b"\r\n\r\n")).startswith(b"HTTP/1.1 200")
    assert (await service.raw(head + b"\r\nAuthorization: Bearer x\r\n\r\n")).startswith(b"HTTP/1.1 401")
