"""Callbacks: whoever asked is told that a task has ended, signed, until it answers; and never what is private."""

import json
from typing import Any

import anyio
import pytest
import structlog.testing

from orchestrator.domain.errors import InvalidRequest
from orchestrator.domain.lifecycle import State
from orchestrator.domain.webhook import key_of, signed
from orchestrator.kernel.watch import Watch
from orchestrator.outbound.ports import Declined, Ending, Garbled, Notice, Refused, Succeeded, TimedOut
from orchestrator.storage.memory import MemoryLedger
from orchestrator.testing import ScriptedAgents, a_request, an_agent, check_history, embedded, trail

pytestmark = pytest.mark.anyio

SECRET = "whsec_" + "QUJD" * 8
SETTINGS: Any = {
    "ORCHESTRATOR_WEBHOOKS_SECRET": SECRET,
    "ORCHESTRATOR_WEBHOOKS_MAX_ATTEMPTS": "4",
    "ORCHESTRATOR_WEBHOOKS_BASE_S": "1",
}
URL = "https://sender.example/ended"


@pytest.fixture
def anyio_backend(virtual_clock):
    return virtual_clock


class Receiver(ScriptedAgents):
    """Agents, and somebody who is called back: by `answers` in turn, the last one for ever."""

    def __init__(self, **scripts: Any) -> None:
        super().__init__(**scripts)
        self.notices: list[Notice] = []
        self.answers: list[Ending] = [Succeeded(None)]
        self._told = Watch(0)

    async def post(self, notice: Notice, within: float) -> Ending:
        self.notices.append(notice)
        self._told.publish(len(self.notices))
        return self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]

    async def until_told(self, times: int) -> None:
        while len(self.notices) < times:
            await self._told.changed()


async def told(agents: Receiver, times: int) -> None:
    """Waits until the receiver was called so often, and then for what follows from it."""
    with anyio.fail_after(3_600):
        await agents.until_told(times)
        await anyio.sleep(2)


async def history(ledger: MemoryLedger) -> list[tuple[str, int | None, str | None]]:
    """What the audit says of callbacks: event, attempts, reason."""
    return [(e.event, e.attempt, e.reason) for e in await trail(ledger) if e.event.startswith("call")]


async def test_a_task_that_succeeds():
    """Its sender is told once, signed over exactly the body, and told nothing of the payload or the result."""
    agents, ledger = Receiver(agent_1=[Succeeded({"private": "finding"})]), MemoryLedger()
    async with embedded(agents, ledger, **SETTINGS) as system:
        await system.gateway.register(an_agent())
        routed = await system.route(a_request(callback_url=URL))
        await told(agents, 1)
        await anyio.sleep(60)
    (notice,) = agents.notices
    task_id, body = routed.record.task.task_id, json.loads(notice.body)
    assert notice.url == URL
    assert body == {
        "type": "task.succeeded",
        "timestamp": body["timestamp"],
        "data": {"task_id": task_id, "status": "succeeded"},
    }
    at = int(notice.headers["webhook-timestamp"])
    assert dict(notice.headers) == dict(signed(key_of(SECRET), task_id, at, notice.body))
    assert await history(ledger) == [("called_back", 1, None)]
    await check_history(ledger)


async def test_the_result_goes_with_it_where_the_settings_say_so():
    """And only there."""
    agents = Receiver(agent_1=[Succeeded({"finding": 1})])
    async with embedded(agents, **SETTINGS, ORCHESTRATOR_WEBHOOKS_INCLUDE_RESULT="true") as system:
        await system.gateway.register(an_agent())
        await system.route(a_request(callback_url=URL))
        await told(agents, 1)
    assert json.loads(agents.notices[0].body)["result"] == {"finding": 1}


@pytest.mark.parametrize("end", ["cancelled", "dead", "expired"])
async def test_every_end_is_told(end: str):
    """Not only the good one."""
    agents = Receiver(agent_1=[Declined(retryable=False)])
    async with embedded(agents, **SETTINGS) as system:
        if end == "dead":
            await system.gateway.register(an_agent())
        routed = await system.route(a_request(callback_url=URL, deadline_s=5.0))
        if end == "cancelled":
            await system.gateway.cancel(routed.record.task.task_id)
        await told(agents, 1)
    assert json.loads(agents.notices[0].body)["data"]["status"] == State(end).value


async def test_a_receiver_that_is_away_for_a_while():
    """Is tried again, under the same id, later each time; then told, and that is all."""
    agents, ledger = Receiver(), MemoryLedger()
    agents.answers = [Refused(), TimedOut(), Garbled("status_500"), Succeeded(None)]
    async with embedded(agents, ledger, **SETTINGS) as system:
        await system.gateway.register(an_agent())
        await system.route(a_request(callback_url=URL))
        await told(agents, 4)
        await anyio.sleep(120)
    assert len(agents.notices) == 4
    assert len({notice.headers["webhook-id"] for notice in agents.notices}) == 1
    at = [int(notice.headers["webhook-timestamp"]) for notice in agents.notices]
    assert at == sorted(set(at))
    assert await history(ledger) == [("called_back", 4, None)]
    await check_history(ledger)


@pytest.mark.parametrize(("ending", "times"), [(Garbled("status_500"), 4), (Garbled("status_410"), 1)])
async def test_a_receiver_that_never_takes_it(ending: Garbled, times: int):
    """Is given up after so many attempts, or at once where it says so; the audit tells why."""
    agents, ledger = Receiver(), MemoryLedger()
    agents.answers = [ending]
    async with embedded(agents, ledger, **SETTINGS) as system:
        await system.gateway.register(an_agent())
        await system.route(a_request(callback_url=URL))
        await told(agents, times)
        await anyio.sleep(300)
    assert len(agents.notices) == times
    assert await history(ledger) == [("callback_given_up", times, ending.reason)]


async def test_a_process_that_ends_before_the_receiver_was_told():
    """The next one tells it: the ledger remembers."""
    agents, ledger = Receiver(), MemoryLedger()
    agents.answers = [Refused()]
    async with embedded(agents, ledger, **SETTINGS) as system:
        await system.gateway.register(an_agent())
        await system.route(a_request(callback_url=URL))
        await told(agents, 1)
    again = Receiver()
    async with embedded(again, ledger, **SETTINGS):
        await told(again, 1)
    assert await history(ledger) == [("called_back", len(agents.notices) + 1, None)]


async def test_callbacks_that_are_not_set_up():
    """Without a secret the task is refused: an unsigned call could come from anybody."""
    async with embedded(Receiver()) as system:
        with pytest.raises(InvalidRequest, match="callback_url"):
            await system.route(a_request(callback_url=URL))


async def promised(ledger: MemoryLedger) -> None:
    """A task ends whose sender could not be told before the process ended."""
    agents = Receiver()
    agents.answers = [Refused()]
    async with embedded(agents, ledger, **SETTINGS) as system:
        await system.gateway.register(an_agent())
        await system.route(a_request(callback_url=URL))
        await told(agents, 1)


async def test_a_secret_that_is_taken_away():
    """What was promised before is not sent unsigned and does not wait for ever: it is said, and given up in the end."""
    agents, ledger = Receiver(), MemoryLedger()
    await promised(ledger)
    with structlog.testing.capture_logs() as logs:
        async with embedded(agents, ledger, ORCHESTRATOR_WEBHOOKS_MAX_ATTEMPTS="4"):
            await anyio.sleep(3_600)
            assert await ledger.webhooks(1e12, 9) == []
    assert agents.notices == []
    assert await history(ledger) == [("callback_given_up", 4, "no_secret")]
    said = [log["log_level"] for log in logs if log["event"] == "callbacks_unsigned"]
    assert said == ["error"]


async def test_a_secret_that_comes_back():
    """Whoever was not given up meanwhile is told."""
    agents, ledger = Receiver(), MemoryLedger()
    await promised(ledger)
    async with embedded(agents, ledger, ORCHESTRATOR_WEBHOOKS_MAX_ATTEMPTS="4"):
        await anyio.sleep(30)
    assert await history(ledger) == []
    async with embedded(agents, ledger, **SETTINGS):
        await told(agents, 1)
    assert [event for event, _, _ in await history(ledger)] == ["called_back"]
    assert agents.notices[0].headers["webhook-signature"]


@pytest.mark.parametrize("url", ["ftp://a.example", "http://169.254.169.254/x", "http://user:pw@a.example", "x"])
async def test_an_address_that_may_not_be_called(url: str):
    """The rules for agents' endpoints hold for callbacks."""
    async with embedded(Receiver(), **SETTINGS) as system:
        with pytest.raises(InvalidRequest):
            await system.route(a_request(callback_url=url))


def test_the_signature_of_the_specification():
    """The example that the specification gives."""
    key = key_of("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")
    headers = signed(key, "msg_p5jXN8AQM9LWM0D4loKWxJek", 1614265330, b'{"test": 2432232314}')
    assert headers["webhook-signature"] == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="
