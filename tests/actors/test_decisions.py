"""What was decided once is decided so again, until an agent changes or its time is over. Time is virtual."""

import anyio
import msgspec
import pytest

from orchestrator.actors.decisions import Decisions
from orchestrator.actors.messages import Directory
from orchestrator.domain.agent import AgentView
from orchestrator.domain.decision import Decision
from orchestrator.domain.health import Health
from orchestrator.domain.policy import decide
from orchestrator.domain.task import Demand
from orchestrator.kernel.watch import Watch
from orchestrator.settings import load
from orchestrator.testing import an_agent

pytestmark = pytest.mark.anyio

POLICY = load(environ={}).decision_policy()
LANE = Demand("embed", consented=False, raw_media=False).lane


@pytest.fixture
def anyio_backend(virtual_clock):
    return virtual_clock


def view(number: int, in_flight: int = 0) -> AgentView:
    return AgentView(an_agent(f"agent-{number}", "embed"), Health(last_seen=anyio.current_time()), in_flight)


def directory(*views: AgentView) -> Directory:
    return {it.agent.agent_id: it for it in views}


def told(decisions: Decisions, key: str = "task-1", *, urgent: bool = False) -> Decision:
    return decisions.about(key, LANE, anyio.current_time(), urgent=urgent).decision


async def test_an_agent_falls_silent():
    """Nothing is told of it, so the directory stays the same; all the same it is left out once its time is over."""
    decisions = Decisions(POLICY, Watch(directory(view(1))))
    assert told(decisions).agent_id == "agent-1"
    await anyio.sleep(POLICY.agent_ttl_s)
    assert told(decisions).agent_id == "agent-1"
    await anyio.sleep(0.001)
    assert told(decisions).agent_id is None


async def test_an_agent_fills_up():
    """The registry publishes it, and the next decision knows; the slot for urgent work is left to it."""
    watch = Watch(directory(view(1)))
    decisions = Decisions(POLICY, watch)
    assert told(decisions).agent_id == "agent-1"
    slots = an_agent().max_concurrency
    watch.publish(directory(view(1, slots - 1)))
    assert told(decisions).agent_id is None
    assert told(decisions, urgent=True).agent_id == "agent-1"


async def test_equal_agents_share_the_work():
    """The lot is drawn for each task, remembered or not: as if each had been decided by itself."""
    views = [view(number) for number in range(4)]
    decisions = Decisions(POLICY, Watch(directory(*views)))
    keys = [f"task-{number}" for number in range(200)]
    chosen = [told(decisions, key) for key in keys]
    now = anyio.current_time()
    assert chosen == [
        decide(Demand("embed", consented=False, raw_media=False, key=key), views, now, POLICY) for key in keys
    ]
    assert {it.agent_id for it in chosen} == {f"agent-{number}" for number in range(4)}


async def test_the_text_is_that_of_the_decision():
    """What the audit holds says what was decided, for the first task as for those after it."""
    decisions = Decisions(POLICY, Watch(directory(view(1), view(2))))
    for number in range(20):
        decided = decisions.about(f"task-{number}", LANE, anyio.current_time(), urgent=False)
        assert msgspec.json.decode(decided.text, type=Decision) == decided.decision


async def test_endless_lanes():
    """Sites are named by clients: however many there are, what is remembered stays small, and right."""
    decisions = Decisions(POLICY, Watch(directory(view(1))))
    for number in range(3_000):
        lane = Demand("embed", consented=False, raw_media=False, site=f"site-{number}").lane
        assert decisions.about("task-1", lane, anyio.current_time(), urgent=False).decision.agent_id == "agent-1"
    assert decisions.remembered <= 2_048
