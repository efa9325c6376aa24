"""What is accepted as a task or an agent, and the part of it that routing looks at."""

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.domain.agent import Agent, AgentView
from orchestrator.domain.task import (
    MAX_DEADLINE_S,
    Consent,
    Demand,
    PlainRequest,
    Priority,
    Task,
    TaskRequest,
    demand_of,
    demand_of_lane,
    site_of,
)

REQUEST: dict[str, Any] = {"case_id": "case-1", "task_type": "embed", "payload": {}}
AGENT: dict[str, Any] = {"agent_id": "a", "endpoint": "http://a", "capabilities": ["embed"]}


def a_task(**more: Any) -> Task:
    fields: dict[str, Any] = {
        "task_id": "task-1",
        "case_id": "case-1",
        "task_type": "embed",
        "payload": {"canary": 1},
        "priority": Priority.NORMAL,
        "consent": Consent(),
        "meta": {},
        "raw_media": False,
        "created_at": 0.0,
        "deadline_at": 60.0,
    }
    return Task(**{**fields, **more})


@pytest.mark.parametrize(
    "fields",
    [
        {"task_id": "task-1"},
        {"state": "succeeded"},
        {"attempt": 7},
        {"agent_id": "mine"},
        {"raw_media": False},
        {"consents": {}},
        {"case_id": ""},
        {"case_id": "x" * 201},
        {"case_id": 7},
        {"case_id": None},
        {"case_id": "a\nb"},
        {"case_id": "case-1\n"},
        {"case_id": "\x1b[2J"},
        {"case_id": "\x7f"},
        {"task_type": "embed\n"},
        {"idempotency_key": "key\n"},
        {"consent": {"consent_id": "consent\n"}},
        {"priority": "URGENT"},
        {"priority": None},
        {"payload": []},
        {"payload": None},
        {"meta": None},
        {"deadline_s": 0},
        {"deadline_s": -1},
        {"deadline_s": MAX_DEADLINE_S + 1},
        {"deadline_s": float("nan")},
        {"deadline_s": "60"},
        {"deadline_s": True},
        {"not_before": "2030-01-01T00:00:00"},
    ],
    ids=repr,
)
def test_a_task_that_does_not_fit(fields):
    """Is refused: what is unknown, of another type, out of range, or holds a control character, at the end as well."""
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert({**REQUEST, **fields}, TaskRequest)


def test_a_request_of_plain_json():
    """Is held to all that another is, but for the control characters that cannot be in it."""
    shown, expected = (msgspec.json.schema(kind)["$defs"] for kind in (PlainRequest, TaskRequest))
    task, plain = expected.pop("TaskRequest"), shown.pop("PlainRequest")
    for field in ("case_id", "task_type", "idempotency_key"):
        text = task["properties"][field]
        del text.get("anyOf", [text])[0]["pattern"]
    assert plain["properties"] == task["properties"]
    assert (set(plain["required"]), plain["additionalProperties"]) == (set(task["required"]), False)
    assert shown == expected


@pytest.mark.parametrize("name", REQUEST)
def test_a_task_with_something_missing(name):
    """Is refused."""
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert({key: value for key, value in REQUEST.items() if key != name}, TaskRequest)


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"case_id": "x" * 200},
        {"case_id": "Fall 7, Straße; it's \u00e9"},
        {"deadline_s": MAX_DEADLINE_S},
        {"deadline_s": 1},
        {"idempotency_key": "k"},
        {"idempotency_key": None},
    ],
)
def test_a_task_that_fits(fields):
    """Just inside of each bound."""
    msgspec.convert({**REQUEST, **fields}, TaskRequest)


@pytest.mark.parametrize(
    "fields",
    [
        {"agent_id": ""},
        {"agent_id": "a/b"},
        {"agent_id": ".."},
        {"agent_id": "a b"},
        {"agent_id": "a\n"},
        {"agent_id": "é"},
        {"agent_id": "x" * 129},
        {"capabilities": []},
        {"capabilities": ["embed", ""]},
        {"capabilities": ["embed\n"]},
        {"capabilities": ["a|b"]},
        {"capabilities": ["x"] * 65},
        {"endpoint": ""},
        {"site": ""},
        {"site": "east\n"},
        {"max_concurrency": 0},
        {"max_concurrency": 1025},
        {"max_concurrency": True},
        {"max_concurrency": 1.5},
        {"cost": -0.1},
        {"cost": float("nan")},
        {"cost": float("inf")},
        {"health": {}},
        {"in_flight": 0},
    ],
    ids=repr,
)
def test_an_agent_that_does_not_fit(fields):
    """Is refused; its id stands in paths, so that it is made of few characters."""
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert({**AGENT, **fields}, Agent)


@pytest.mark.parametrize("agent_id", ["a", "7", "spiffe:clinic.example@1", "A-b_c.d", "x" * 128])
def test_an_agent_that_fits(agent_id):
    """Just inside of each bound."""
    agent = msgspec.convert({**AGENT, "agent_id": agent_id, "max_concurrency": 1, "cost": 0}, Agent)
    assert agent.agent_id == agent_id


@pytest.mark.parametrize(
    ("location", "site", "edge", "serves"),
    [
        ("edge", None, True, "edge"),
        ("edge-7", None, True, "edge-7"),
        ("edge-7", "east", True, "east"),
        ("cloud-edge", "east", False, "east"),
        ("Edge", None, False, "Edge"),
        ("", None, False, ""),
    ],
)
def test_where_an_agent_is(location, site, edge, serves):
    """At the edge if its location starts so; it serves its site, which is its location if it names none."""
    agent = Agent(agent_id="a", endpoint="http://a", capabilities=("embed",), location=location, site=site)
    assert (agent.edge, agent.serves_site) == (edge, serves)


@pytest.mark.parametrize(
    ("slots", "in_flight", "urgent", "normal"), [(1, 0, 1, 1), (1, 1, 0, 0), (2, 0, 2, 1), (8, 7, 1, 0), (8, 8, 0, -1)]
)
def test_free_slots(slots, in_flight, urgent, normal):
    """One of several is kept for urgent work; an only one is not."""
    agent = Agent(agent_id="a", endpoint="http://a", capabilities=("embed",), max_concurrency=slots)
    view = AgentView(agent, in_flight=in_flight)
    assert (view.free(urgent=True), view.free(urgent=False)) == (urgent, normal)


@pytest.mark.parametrize(
    ("site", "read"),
    [
        ("east", "east"),
        ("x" * 200, "x" * 200),
        ("x" * 201, None),
        ("", None),
        (7, None),
        (None, None),
        (["east"], None),
    ],
)
def test_the_site_of_a_task(site, read):
    """Is `meta.site` where that is a proper string; else it names none."""
    assert site_of({"site": site}) == read
    assert a_task(meta={"site": site}).site == read
    assert a_task().site is None


def test_a_demand():
    """Is what routing needs of a task, as it is now: whether consent holds, not what was said when it came."""
    consent = msgspec.convert({"consent_given": True, "expires_at": "1970-01-01T00:00:10Z"}, Consent)
    task = a_task(consent=consent, raw_media=True, priority=Priority.URGENT, meta={"site": "east"})
    before, after = (demand_of(task, now, frozenset({"a"})) for now in (9.0, 10.0))
    assert before == Demand("embed", True, True, "east", True, frozenset({"a"}), "task-1")
    assert after == msgspec.structs.replace(before, consented=False)
    assert (before.refused, after.refused) == (False, True)
    assert "canary" not in repr(before)


demands = st.builds(
    Demand,
    task_type=st.text(st.sampled_from("abc_.:-"), min_size=1),
    consented=st.booleans(),
    raw_media=st.booleans(),
    site=st.none() | st.text(st.sampled_from("ab|-cm \n'é"), min_size=1),
    urgent=st.booleans(),
)


@given(demands)
def test_a_lane(demand):
    """Says all of the demand but its class, the agents it has met and the task itself; also if the site holds bars."""
    assert demand_of_lane(demand.lane, urgent=demand.urgent) == demand
    met = msgspec.structs.replace(demand, key="task-1", avoid=frozenset({"a"}), urgent=not demand.urgent)
    assert met.lane == demand.lane


@given(demands, demands)
def test_two_lanes(one, other):
    """Are one lane only if all that routing asks is the same."""
    same = msgspec.structs.replace(one, urgent=False) == msgspec.structs.replace(other, urgent=False)
    assert (one.lane == other.lane) == same
