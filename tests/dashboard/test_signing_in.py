"""Who may see the page and act on it, where everybody is asked who he is."""

import re
from collections.abc import Awaitable, Callable

import pytest
from playwright.async_api import expect
from visiting import Visitor

from orchestrator.domain.errors import Unauthenticated
from orchestrator.domain.identity import Principal, Scope
from orchestrator.domain.lifecycle import State
from orchestrator.testing import ScriptedAgent, Service, a_task
from orchestrator.web.asked import Asked, DirectRequest
from orchestrator.web.dashboard.actions import ACTIONS
from orchestrator.web.dashboard.sessions import COOKIE, IDLE_S, LASTS_S, MOST, Sessions
from orchestrator.web.rights import PAGES, Known

pytestmark = pytest.mark.anyio

SignIn = Callable[[str, set[Scope]], Awaitable[dict[str, str]]]


@pytest.fixture(scope="module")
def environ() -> dict[str, str]:
    """Everybody is asked."""
    return {"ORCHESTRATOR_AUTH_API_KEYS": "true"}


@pytest.fixture
def origin(service: Service) -> str:
    """That of the page."""
    return f"http://127.0.0.1:{service.port}"


@pytest.fixture
def signed_in(service: Service, origin: str) -> SignIn:
    """Signs somebody in with a key of his own; the headers that his browser then sends."""

    async def sign_in(subject: str, scopes: set[Scope]) -> dict[str, str]:
        _, text = await service.orchestrator.gateway.create_key(subject, scopes)
        reply = await service.ask("POST", "/ui/sign-in", data={"credential": text}, headers={"Origin": origin})
        assert (reply.status, reply.headers["Location"]) == (303, "/")
        cookie = reply.headers["Set-Cookie"]
        assert "HttpOnly" in cookie
        assert "SameSite=Strict" in cookie
        assert text not in cookie
        return {"Cookie": cookie.partition(";")[0], "Origin": origin, "Sec-Fetch-Site": "same-origin"}

    return sign_in


async def test_in_and_out(service: Service, visitor: Visitor) -> None:
    """Nobody sees anything first; a wrong key is refused; with the right one it is his page, until he signs out."""
    visitor.allowed = ("status of 401",)
    gateway = service.orchestrator.gateway
    key, text = await gateway.create_key("operator-7", set(Scope))
    page = await visitor.go("/")
    await expect(page).to_have_title(re.compile("Sign in"))
    await page.get_by_label("API key or token").fill("rok_nothing")
    await page.get_by_role("button", name="Sign in").click()
    await expect(page.get_by_role("alert")).to_contain_text("not valid")
    await page.get_by_label("API key or token").fill(text)
    await page.keyboard.press("Enter")
    await expect(page.get_by_text("operator-7")).to_be_visible()
    await expect(page.get_by_role("status")).to_have_text("live")
    assert text not in await page.content()
    assert not [url for url in visitor.requests if text in url]
    kept = await page.evaluate("[document.cookie, localStorage.length, JSON.stringify(sessionStorage)]")
    assert kept[:2] == ["", 0]
    assert text not in kept[2]
    await page.get_by_role("button", name="Sign out").click()
    await expect(page.get_by_role("alert")).to_contain_text("signed out")
    await visitor.go("/ui/tasks")
    await expect(page).to_have_title(re.compile("Sign in"))
    await gateway.revoke_key(key.key_id)


async def test_a_key_that_is_revoked(service: Service, visitor: Visitor) -> None:
    """Ends the sessions opened with it, and the page that is open goes to the sign-in by itself."""
    gateway = service.orchestrator.gateway
    key, text = await gateway.create_key("operator-8", set(Scope))
    page = await visitor.go("/ui/sign-in")
    await page.get_by_label("API key or token").fill(text)
    await page.keyboard.press("Enter")
    await expect(page.get_by_role("status")).to_have_text("live")
    await gateway.revoke_key(key.key_id)
    await expect(page).to_have_title(re.compile("Sign in"))
    await expect(page.get_by_role("alert")).to_contain_text("its key is not valid any more")


async def test_rights(service: Service, signed_in: SignIn) -> None:
    """With the one right that a page needs it is shown, with all the others it is not; and never without a session."""
    name = "task-" + "0" * 32
    one = {scope: await signed_in(name, {scope}) for scope in Scope}
    rest = {scope: await signed_in(name, set(Scope) - {scope}) for scope in Scope}
    wrong: list[object] = []
    for call, needed in PAGES.items():
        method, rule = call.split(" ")
        path = re.sub(r"<[^>]+>", name, rule)
        if needed is None or path.endswith("/live"):
            continue
        nobody = await service.ask(method, path)
        seen = {scope: (await service.ask(method, path, headers=headers)).status for scope, headers in one.items()}
        if isinstance(needed, Known):
            good = set(seen.values()) == {200}
        else:
            without = (await service.ask(method, path, headers=rest[needed])).status
            allowed = seen.pop(needed)
            good = without == 403 and set(seen.values()) == {403} and (allowed != 403 or call in ASKS_FOR_MORE)
        if nobody.status != 303 or not good:
            wrong.append((call, nobody.status, seen))
    assert wrong == []


ASKS_FOR_MORE = {"GET /ui/audit/verify", "GET /ui/audit/verification"}
"""The whole trail is for operators."""


async def test_what_a_reader_sees(service: Service, signed_in: SignIn) -> None:
    """His tasks and no others, no agents without that right, and nothing to press that he may not do."""
    gateway = service.orchestrator.gateway
    _, own = await gateway.create_key("clinic-a", {Scope.TASKS_SUBMIT})
    _, other = await gateway.create_key("clinic-b", {Scope.TASKS_SUBMIT})
    ids = [
        (await service.route(a_task(), headers={"Authorization": f"Bearer {key}"})).json["task_id"]
        for key in (own, other)
    ]
    reader = await signed_in("clinic-a", {Scope.TASKS_READ})
    listed = (await service.ask("GET", "/ui/tasks", headers=reader)).body.decode()
    assert ids[0] in listed
    assert ids[1] not in listed
    found = (await service.ask("POST", "/ui/tasks", data={"find": "case-1"}, headers=reader)).body.decode()
    assert ids[0] in found
    assert ids[1] not in found
    for part in ("", "/result", "/live"):
        assert (await service.ask("GET", f"/ui/task/{ids[1]}{part}", headers=reader)).status == 404
    task = (await service.ask("GET", f"/ui/task/{ids[0]}", headers=reader)).body.decode()
    assert "left out" not in task
    assert "/cancel" not in task
    overview = (await service.ask("GET", "/", headers=reader)).body.decode()
    assert "Supervision tree" in overview
    assert "agents-title" not in overview
    assert "/ui/audit" not in overview


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": ""},
        {"Origin": "null"},
        {"Origin": "https://elsewhere.example"},
        {"Origin": "http://127.0.0.1:1"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
    ],
)
async def test_another_site(service: Service, signed_in: SignIn, headers: dict[str, str]) -> None:
    """Cannot have a browser act for whoever is signed in, nor sign it in or out; nor does a session open the API."""
    async with ScriptedAgent("agent-7") as agent:
        _, text = await service.orchestrator.gateway.create_key("agent-7", {Scope.AGENTS_REGISTER})
        bearer = {"Authorization": f"Bearer {text}"}
        assert (await service.ask("POST", "/register_agent", json=agent.registration, headers=bearer)).status == 200
    session = await signed_in("operator-9", set(Scope))
    forged = {name: value for name, value in {**session, **headers}.items() if value}
    for path in ("/ui/agents/agent-7/drain", "/ui/send", "/ui/sign-in", "/ui/sign-out"):
        assert (await service.ask("POST", path, data={"credential": text}, headers=forged)).status == 403
    assert service.orchestrator.gateway.agents()["agent-7"].health.draining is False
    assert (await service.ask("GET", "/", headers=session)).status == 200
    assert (await service.ask("GET", "/agents", headers=session)).status == 401


async def test_each_action_is_in_the_audit(service: Service, signed_in: SignIn) -> None:
    """With who did it on the page, whatever it was; a new one has to be tried here."""
    gateway = service.orchestrator.gateway
    session, (_, text) = await signed_in("operator-5", set(Scope)), await gateway.create_key("agent-5", {*Scope})
    bearer, no = {"Authorization": f"Bearer {text}"}, {"success": False, "error": {"retryable": False}}

    async def act(verb: str, path: str) -> str:
        reply = await service.ask("POST", f"/ui/{path}/{verb.lower()}", headers=session)
        assert reply.status == 303, (verb, reply)
        return reply.headers["Location"].rpartition("/")[2]

    async def send() -> str:
        return (await service.route(a_task(), headers=bearer)).json["task_id"]

    waiting = await send()
    await act("Cancel", f"task/{waiting}")
    async with ScriptedAgent("agent-5", no) as agent:
        await service.ask("POST", "/register_agent", json=agent.registration, headers=bearer)
        await act("Allow", "agents/agent-5")
        dead = await send()
        assert (await gateway.task(dead, 20.0)).progress.state is State.DEAD
        await act("Drain", "agents/agent-5")
        made = await act("Replay", f"task/{dead}")
    page = await service.ask("GET", "/audit?limit=1000", headers=bearer)
    entries = page.json["entries"]
    done = {(e["event"], e["task_id"] or e["agent_id"]) for e in entries if e["principal"] == "operator-5"}
    expected = {("cancelled", waiting), ("agent_allowed", "agent-5"), ("agent_drained", "agent-5"), ("accepted", made)}
    assert done >= expected
    assert {action.verb for action in ACTIONS} == {"Cancel", "Allow", "Drain", "Replay"}


async def test_sessions_end() -> None:
    """When they are idle or old, and the least used of too many."""
    now, somebody = 0.0, Principal("somebody")
    made = iter(range(10_000))

    async def identify(_request: Asked, _credential: str | None) -> Principal:
        return somebody

    store = Sessions(identify, lambda: now, lambda: f"cookie-{next(made)}", needed=True)

    async def open_still(cookie: str) -> bool:
        try:
            return await store.principal(showing(cookie)) == somebody
        except Unauthenticated:
            return False

    def showing(cookie: str) -> DirectRequest:
        headers = [(b"cookie", f"{COOKIE}={cookie}".encode())]
        scope = {"method": "GET", "path": "/", "query_string": b"", "headers": headers}
        return DirectRequest(scope, None, None, most=0, within_s=0)

    used = await store.open(showing(""), "key")
    for _ in range(int(LASTS_S / IDLE_S)):
        now += IDLE_S
        assert await open_still(used)
    now += 1
    assert not await open_still(used)
    idle = await store.open(showing(""), "key")
    now += IDLE_S + 1
    assert not await open_still(idle)
    first, second, *_ = [await store.open(showing(""), "key") for _ in range(MOST + 1)]
    assert not await open_still(first)
    assert await open_still(second)


async def test_allowing_an_agent(service: Service, visitor: Visitor) -> None:
    """A new agent waits until an operator has clicked twice, and the audit names him."""
    gateway = service.orchestrator.gateway
    own, card = await gateway.create_key("agent-3", {Scope.AGENTS_REGISTER})
    key, text = await gateway.create_key("operator-3", set(Scope))
    agent = {"agent_id": "agent-3", "endpoint": "http://127.0.0.1:9000/", "capabilities": ["embed"]}
    bearer = {"Authorization": f"Bearer {card}"}
    known = await service.ask("POST", "/register_agent", json=agent, headers=bearer)
    assert known.json["state"] == "quarantined"
    page = await visitor.go("/")
    await page.get_by_label("API key or token").fill(text)
    await page.keyboard.press("Enter")
    row = page.get_by_role("row").filter(has=page.get_by_role("rowheader", name="agent-3"))
    await expect(row).to_contain_text("quarantined")
    await row.get_by_role("link", name="Allow agent-3").click()
    dialog = page.get_by_role("dialog")
    await expect(dialog).to_contain_text("Allow agent-3?")
    await dialog.get_by_role("button", name="Allow").click()
    await expect(row).not_to_contain_text("quarantined")
    entries = (await service.ask("GET", "/audit?limit=1000", headers={"Authorization": f"Bearer {text}"})).json[
        "entries"
    ]
    assert [e["principal"] for e in entries if e["event"] == "agent_allowed" and e["agent_id"] == "agent-3"] == [
        "operator-3"
    ]
    await service.ask("DELETE", "/agents/agent-3", headers=bearer)
    for each in (own, key):
        await gateway.revoke_key(each.key_id)
