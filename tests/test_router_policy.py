"""The policy's specification: who may do a task, in which order the others are told why not, and who does it best."""

from collections import Counter
from itertools import combinations, product
from random import Random
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.domain.agent import Agent, AgentView
from orchestrator.domain.decision import Decision, Exclusion
from orchestrator.domain.health import Health
from orchestrator.domain.policy import Policy, TaskType, Weights, decide
from orchestrator.domain.raw_media import RawMedia
from orchestrator.domain.task import Consent, Demand, Priority, Task, demand_of

NOW = 1_000.0
TTL = 120.0
POLICY = Policy(
    task_types={
        "embed": TaskType(("embed",), 10.0, raw_media=True),
        "analyze_monitor": TaskType(("analyze_light", "analyze_monitor"), 10.0, sync=True),
    },
    raw_media_capabilities=frozenset({"raw_image", "raw_audio"}),
    agent_ttl_s=TTL,
)

WELL = Health(last_seen=NOW)
UNKNOWN = Health(since=NOW)
STALE = Health(last_seen=NOW - TTL - 1)
EJECTED = Health(last_seen=NOW, ejected_until=NOW + 1)
ON_TRIAL = Health(last_seen=NOW, ejected_until=NOW - 1, on_trial=True)
TRIAL_DUE = Health(last_seen=NOW, ejected_until=NOW - 1)
PAUSED = Health(last_seen=NOW, paused_until=NOW + 1)
DRAINING = Health(last_seen=NOW, draining=True)

HEALTHS = [WELL, UNKNOWN, STALE, EJECTED, ON_TRIAL, TRIAL_DUE, PAUSED, DRAINING]

KEYS = [f"task-{Random(n).randbytes(16).hex()}" for n in range(2_000)]


def an_agent(
    name: str = "a", health: Health = WELL, in_flight: int = 0, capabilities: tuple[str, ...] = ("embed",), **more: Any
) -> AgentView:
    return AgentView(Agent(agent_id=name, endpoint="http://a", capabilities=capabilities, **more), health, in_flight)


def an_edge(name: str, *more: Any, **others: Any) -> AgentView:
    return an_agent(name, *more, location="edge", **others)


def a_demand(**more: Any) -> Demand:
    return msgspec.structs.replace(Demand("embed", consented=True, raw_media=False), **more)


def ranked(*agents: AgentView, **demand: Any) -> list[str]:
    return list(decide(a_demand(**demand), agents, NOW, POLICY).ranking)


def reason(view: AgentView, **demand: Any) -> Exclusion | None:
    (candidate,) = decide(a_demand(**demand), [view], NOW, POLICY).candidates
    return candidate.excluded


# --- Who may.


@pytest.mark.parametrize(
    ("why", "view", "demand"),
    [
        ("capability", an_agent(capabilities=("indexing",)), {}),
        ("capability", an_agent(capabilities=("Embed",)), {}),
        ("consent", an_agent(capabilities=("embed", "raw_image")), {"consented": False}),
        ("consent", an_agent(), {"consented": False, "raw_media": True}),
        ("raw_media", an_agent(without_raw_media=True), {"raw_media": True}),
        ("raw_media", an_agent(without_raw_media=True, quarantined=True), {"raw_media": True}),
        ("consent", an_agent(without_raw_media=True), {"raw_media": True, "consented": False}),
        ("quarantined", an_agent(quarantined=True), {}),
        ("stale", an_agent(health=STALE), {}),
        ("stale", an_agent(health=Health(since=NOW - TTL - 1)), {}),
        ("ejected", an_agent(health=EJECTED), {}),
        ("ejected", an_agent(health=ON_TRIAL), {}),
        ("paused", an_agent(health=PAUSED), {}),
        ("draining", an_agent(health=DRAINING), {}),
        ("site", an_agent(location="edge-7"), {"site": "edge-8"}),
        ("site", an_agent(location="edge-7", site="east"), {"site": "edge-7"}),
        ("capacity", an_agent(max_concurrency=1, in_flight=1), {}),
        ("capacity", an_agent(max_concurrency=2, in_flight=1), {}),
        ("capacity", an_agent(max_concurrency=2, in_flight=2), {"urgent": True}),
    ],
)
def test_an_agent_that_may_not(why, view, demand):
    """It is left out, and the decision says why; it is no choice, and has no score."""
    decision = decide(a_demand(**demand), [view], NOW, POLICY)
    assert decision.candidates[0].excluded == why
    assert decision.candidates[0].score is None
    assert (decision.ranking, decision.agent_id) == ((), None)


@pytest.mark.parametrize(
    ("view", "demand"),
    [
        (an_agent(), {}),
        (an_agent(), {"consented": False}),
        (an_agent(capabilities=("embed", "raw_image")), {}),
        (an_agent(capabilities=("embed", "raw_image")), {"raw_media": True}),
        (an_agent(), {"raw_media": True}),
        (an_agent(without_raw_media=True), {}),
        (
            an_agent(without_raw_media=True, capabilities=("analyze_light",)),
            {"task_type": "analyze_monitor", "raw_media": True},
        ),
        (an_agent(capabilities=("other", "analyze_monitor")), {"task_type": "analyze_monitor"}),
        (an_agent(health=UNKNOWN), {}),
        (an_agent(health=TRIAL_DUE), {}),
        (an_agent(health=Health(last_seen=NOW - TTL)), {}),
        (an_agent(health=Health(last_seen=NOW, paused_until=NOW)), {}),
        (an_agent(location="edge-7"), {"site": "edge-7"}),
        (an_agent(location="edge-7", site="east"), {"site": "east"}),
        (an_agent(location="edge-7"), {}),
        (an_agent(location="cloud-7", site="west"), {"site": "east"}),
        (an_agent(max_concurrency=1), {}),
        (an_agent(max_concurrency=2, in_flight=1), {"urgent": True}),
        (an_agent(), {"avoid": frozenset({"a"})}),
    ],
)
def test_an_agent_that_may(view, demand):
    """Just inside of each bound nothing stands against it; that it failed the task before does not exclude it."""
    assert reason(view, **demand) is None
    assert ranked(view, **demand) == ["a"]


# Each row gives an agent one thing more that stands against it.
AGAINST: dict[Exclusion, dict[str, Any]] = {
    Exclusion.CAPABILITY: {"capabilities": ("raw_image",)},
    Exclusion.CONSENT: {"capabilities": ("embed", "raw_image")},
    Exclusion.RAW_MEDIA: {"without_raw_media": True},
    Exclusion.QUARANTINED: {"quarantined": True},
    Exclusion.STALE: {"last_seen": STALE.last_seen},
    Exclusion.EJECTED: {"ejected_until": NOW + 1},
    Exclusion.PAUSED: {"paused_until": NOW + 1},
    Exclusion.DRAINING: {"draining": True},
    Exclusion.SITE: {"site": "elsewhere"},
    Exclusion.CAPACITY: {"in_flight": 1},
}


@pytest.mark.parametrize(("first", "second"), list(combinations(Exclusion, 2)))
def test_two_reasons_against_an_agent(first, second):
    """The first one asked is told: what it can, whether it may, how it is, where it is, whether it has room."""
    told = {**AGAINST[second], **AGAINST[first]}
    health = Health(last_seen=NOW)
    for name in ("last_seen", "ejected_until", "paused_until", "draining"):
        health = msgspec.structs.replace(health, **{name: told.pop(name, getattr(health, name))})
    view = an_edge("a", health, max_concurrency=1, **told)
    both = (first, second)
    demand = {"consented": Exclusion.CONSENT not in both, "raw_media": Exclusion.RAW_MEDIA in both}
    assert reason(view, site="here", **demand) == first


def test_the_list_of_reasons():
    """Every reason has its rows above, and the list itself is in the order in which they are asked."""
    assert list(AGAINST) == list(Exclusion)


# --- Raw media and consent.


def test_raw_media_without_consent():
    """The task is refused: nobody is a candidate for it, however harmless."""
    agents = [an_agent("a"), an_agent("b", capabilities=("embed", "raw_image")), an_edge("c", capabilities=("audit",))]
    decision = decide(a_demand(consented=False, raw_media=True), agents, NOW, POLICY)
    assert (decision.refused, decision.ranking) == (True, ())
    assert [c.excluded for c in decision.candidates] == ["consent", "consent", "capability"]


def test_raw_media_without_consent_or_agents():
    """It is refused all the same: it does not wait for an agent to come."""
    assert decide(a_demand(consented=False, raw_media=True), [], NOW, POLICY).refused


@pytest.mark.parametrize(("consented", "raw_media"), [(True, True), (True, False), (False, False)])
def test_everything_else(consented, raw_media):
    """Is not refused, even if nobody can do it now."""
    assert not decide(a_demand(consented=consented, raw_media=raw_media), [], NOW, POLICY).refused


def test_a_task_type_that_nobody_configured():
    """There is no decision to make."""
    with pytest.raises(KeyError):
        decide(a_demand(task_type="other"), [an_agent()], NOW, POLICY)


# --- Who should.


@pytest.mark.parametrize(
    ("better", "worse"),
    [
        # A healthy edge agent goes first, however slow, busy and dear.
        (an_edge("z", Health(last_seen=NOW, latency=60.0, load=1.0), 6, cost=100.0), an_agent("a")),
        (an_agent("z", location="edge-clinic-7"), an_agent("a", location="cloud-edge")),
        # Then the score: capability match, latency, load, cost.
        (an_agent("z", capabilities=("analyze_light",)), an_agent("a", capabilities=("analyze_monitor",))),
        (an_agent("z", Health(last_seen=NOW, latency=0.1)), an_agent("a", Health(last_seen=NOW, latency=0.2))),
        (an_agent("z", in_flight=1), an_agent("a", in_flight=2)),
        (an_agent("z", in_flight=2, max_concurrency=8), an_agent("a", in_flight=2, max_concurrency=4)),
        (an_agent("z", Health(last_seen=NOW, load=0.2)), an_agent("a", Health(last_seen=NOW, load=0.3))),
        (an_agent("z", cost=1.0), an_agent("a", cost=2.0)),
        # An agent that failed the task before comes after the others, even after those in the cloud.
        (an_agent("z"), an_edge("failed")),
        # An agent not heard of since the start comes last, even after those that failed it.
        (an_edge("z"), an_edge("a", UNKNOWN)),
        (an_agent("z"), an_edge("a", UNKNOWN)),
        (an_agent("failed"), an_edge("a", UNKNOWN)),
        (an_agent("z"), an_edge("a", Health(since=NOW, ejected_until=NOW - 1))),
    ],
)
def test_preference(better, worse):
    """The better one is chosen, the other is kept behind it, in whatever order they are given."""
    kind = "analyze_monitor" if better.agent.capabilities[0].startswith("analyze") else "embed"
    for agents, key in product(([better, worse], [worse, better]), KEYS[:20]):
        found = ranked(*agents, task_type=kind, avoid=frozenset({"failed"}), key=key)
        assert found == [better.agent.agent_id, worse.agent.agent_id]


def test_an_agent_that_says_it_is_busy():
    """Of its own word and our count the higher load counts, its word for no more than full."""
    view = an_agent("a", Health(last_seen=NOW, load=7.0), in_flight=4)
    assert decide(a_demand(), [view], NOW, POLICY).candidates[0].score == 1.0


def test_weights():
    """A score is the weighted sum of its four parts; a weight of nothing takes a part out of it."""
    health = Health(last_seen=NOW, latency=0.5)
    view = an_agent("a", health, 2, capabilities=("analyze_monitor",), cost=3.0)
    parts = {"capability": 1.0, "latency": 0.5, "load": 0.25, "cost": 3.0}
    for name, part in parts.items():
        weights = Weights(**{**dict.fromkeys(parts, 0.0), name: 2.0})
        policy = msgspec.structs.replace(POLICY, weights=weights)
        assert decide(a_demand(task_type="analyze_monitor"), [view], NOW, policy).candidates[0].score == 2 * part


# --- Equals.


def test_equals_and_many_tasks():
    """The lot of the task's id spreads work over all of them, evenly enough that each gets its share within a fifth."""
    agents = [an_agent(f"a{n}") for n in range(8)]
    chosen = Counter(ranked(*agents, key=key)[0] for key in KEYS)
    assert len(chosen) == 8
    assert all(0.8 * 250 < count < 1.2 * 250 for count in chosen.values())


def test_equals_and_one_busier():
    """Power of two choices: the busier one is chosen only by luck of the draw of itself, so never."""
    policy = msgspec.structs.replace(POLICY, equal_within=10.0)
    agents = [an_agent(f"a{n}") for n in range(3)] + [an_agent("busy", in_flight=1)]
    chosen = Counter(decide(a_demand(key=key), agents, NOW, policy).agent_id for key in KEYS)
    assert set(chosen) == {"a0", "a1", "a2"}


def test_near_equals_and_the_less_busy_of_two():
    """Among several degrees of business the idle are chosen most, the next less: two are drawn, the less busy wins."""
    policy = msgspec.structs.replace(POLICY, equal_within=10.0)
    agents = [an_agent(f"a{n}", in_flight=n) for n in range(4)]
    chosen = Counter(decide(a_demand(key=key), agents, NOW, policy).agent_id for key in KEYS)
    # Chances of being the least of two out of four: 3/6, 2/6, 1/6, 0.
    assert [round(chosen[f"a{n}"] / len(KEYS) * 6) for n in range(4)] == [3, 2, 1, 0]


def test_two_of_different_size():
    """The less busy is the one with the smaller share of its slots in use, not with fewer calls."""
    policy = msgspec.structs.replace(POLICY, equal_within=10.0)
    agents = [an_agent("small", in_flight=1, max_concurrency=2), an_agent("large", in_flight=2, max_concurrency=8)]
    chosen = {decide(a_demand(key=key, urgent=True), agents, NOW, policy).agent_id for key in KEYS[:100]}
    assert chosen == {"large"}


def test_an_equal_by_score_of_a_lower_tier():
    """Draws no lot with the better tier."""
    chosen = {ranked(an_edge("edge"), an_agent("cloud"), key=key)[0] for key in KEYS[:100]}
    assert chosen == {"edge"}


def test_not_quite_equals():
    """A difference of `equal_within` is a difference; the others keep their order behind the one that was drawn."""
    agents = [an_agent("a", cost=1.0), an_agent("b", cost=1.0499), an_agent("c", cost=1.05), an_agent("d", cost=9.0)]
    rankings = {tuple(ranked(*agents, key=key)) for key in KEYS[:100]}
    assert rankings == {("a", "b", "c", "d"), ("b", "a", "c", "d")}


# --- Over the whole lattice.

PAYLOADS: list[dict[str, Any]] = [
    {"note": "canary-of-the-payload"},
    {"image_ref": "canary-of-the-payload"},
    {"a": [{"b": "data:image/png;base64,canary-of-the-payload"}]},
]
CONSENTS = {
    "given": Consent(consent_given=True),
    "not given": Consent(),
    "expired": msgspec.convert({"consent_given": True, "expires_at": "1970-01-01T00:16:40Z"}, Consent),
    "not expired": msgspec.convert({"consent_given": True, "expires_at": "1970-01-01T00:16:41Z"}, Consent),
}

agents_of_any_kind = st.builds(
    an_agent,
    name=st.sampled_from([f"agent-{n}" for n in range(6)]),
    health=st.sampled_from(HEALTHS),
    in_flight=st.integers(0, 3),
    capabilities=st.lists(
        st.sampled_from(["embed", "analyze_light", "analyze_monitor", "raw_image", "raw_audio", "audit"]),
        min_size=1,
        unique=True,
    ).map(tuple),
    location=st.sampled_from(["", "edge", "edge-7", "cloud"]),
    site=st.sampled_from([None, "east", "west"]),
    max_concurrency=st.integers(1, 3),
    cost=st.sampled_from([0.0, 0.01, 1.0]),
)
clinics = st.lists(agents_of_any_kind, max_size=6, unique_by=lambda view: view.agent.agent_id)
tasks = st.builds(
    Task,
    task_id=st.sampled_from(KEYS[:50]),
    case_id=st.just("canary-of-the-case"),
    task_type=st.sampled_from(list(POLICY.task_types)),
    payload=st.sampled_from(PAYLOADS),
    priority=st.sampled_from(Priority),
    consent=st.sampled_from(list(CONSENTS.values())),
    meta=st.sampled_from([{}, {"site": "east"}, {"site": "edge-7"}]),
    raw_media=st.just(False),
    created_at=st.just(NOW),
    deadline_at=st.just(NOW + 60),
).map(lambda task: msgspec.structs.replace(task, raw_media=RawMedia(frozenset({"image_ref"})).is_in(task.payload)))
avoided = st.frozensets(st.sampled_from([f"agent-{n}" for n in range(6)]))


def decided(task: Task, agents: list[AgentView], avoid: frozenset[str]) -> Decision:
    return decide(demand_of(task, NOW, avoid), agents, NOW, POLICY)


@given(tasks, clinics, avoided)
def test_promise_4(task, agents, avoid):
    """Raw media without consent reaches no agent at all; without consent no agent for raw media is ever chosen."""
    decision = decided(task, agents, avoid)
    given_now = task.consent in (CONSENTS["given"], CONSENTS["not expired"])
    assert decision.refused == (task.raw_media and not given_now)
    if decision.refused:
        assert decision.ranking == ()
    if not given_now:
        capabilities = {view.agent.agent_id: set(view.agent.capabilities) for view in agents}
        assert all(not capabilities[name] & {"raw_image", "raw_audio"} for name in decision.ranking)


@given(tasks, clinics, avoided)
def test_only_who_can_and_is_well(task, agents, avoid):
    """Whoever is ranked has a capability of the row, is neither stale nor away, serves the site and has room."""
    views = {view.agent.agent_id: view for view in agents}
    for name in decided(task, agents, avoid).ranking:
        agent, health = views[name].agent, views[name].health
        assert set(agent.capabilities) & set(POLICY.task_types[task.task_type].capabilities)
        assert health in (WELL, UNKNOWN, TRIAL_DUE)
        if agent.location.startswith("edge") and "site" in task.meta:
            assert task.meta["site"] == (agent.site or agent.location)
        kept = 0 if task.priority is Priority.URGENT or agent.max_concurrency == 1 else 1
        assert views[name].in_flight + kept < agent.max_concurrency


@given(tasks, clinics, avoided)
def test_every_agent_is_accounted_for(task, agents, avoid):
    """Each is a candidate exactly once, and the ranking is those that were kept, each with a score."""
    decision = decided(task, agents, avoid)
    assert sorted(c.agent_id for c in decision.candidates) == sorted(view.agent.agent_id for view in agents)
    kept = [c.agent_id for c in decision.candidates if c.excluded is None]
    assert sorted(decision.ranking) == sorted(kept)
    assert all((c.score is None) == (c.excluded is not None) for c in decision.candidates)


@given(tasks, clinics, avoided, st.randoms(use_true_random=False))
def test_the_same_question_again(task, agents, avoid, random):
    """Gets the same answer, byte for byte, in whatever order the agents are given."""
    shuffled = random.sample(agents, len(agents))
    assert msgspec.json.encode(decided(task, shuffled, avoid)) == msgspec.json.encode(decided(task, agents, avoid))


@given(tasks, clinics, avoided)
def test_tiers(task, agents, avoid):
    """Known before unknown, then not failed before failed, then edge before cloud: no score turns that around."""
    views = {view.agent.agent_id: view for view in agents}
    tiers = [
        (views[name].health.last_seen is None, name in avoid, not views[name].agent.location.startswith("edge"))
        for name in decided(task, agents, avoid).ranking
    ]
    assert tiers == sorted(tiers)


@given(tasks, agents_of_any_kind)
def test_two_that_differ_in_their_place_alone(task, view):
    """A healthy edge agent always goes before its equal in the cloud, whatever the lot says."""
    twins = [
        AgentView(msgspec.structs.replace(view.agent, agent_id=location, location=location, site=None), WELL, 0)
        for location in ("cloud", "edge")
    ]
    task = msgspec.structs.replace(task, meta={})
    ranking = decided(task, twins, frozenset()).ranking
    assert ranking in ((), ("edge", "cloud"))


@given(tasks, clinics, avoided)
def test_what_a_decision_says(task, agents, avoid):
    """Nothing of the payload, nor of the case: agent ids, reasons and numbers."""
    said = msgspec.json.encode(decided(task, agents, avoid))
    assert b"canary" not in said
    assert b"image" not in said
