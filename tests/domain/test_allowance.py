"""What an agent may be is the operator's list; a registration only narrows it."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.domain.agent import Agent
from orchestrator.domain.allowance import Allowance, Gate, Line, listed

RAW = frozenset({"raw_image", "raw_video"})
ALL = ("embed", "indexing", "audit", "raw_image", "raw_video")
OPEN, CLOSED = Gate(raw_media=RAW), Gate(raw_media=RAW, strangers=False, changes=False)


def an_agent(**fields: Any) -> Agent:
    known: dict[str, Any] = {
        "agent_id": "agent-1", "endpoint": "http://127.0.0.1:9000/", "capabilities": ("embed",), "model_version": "1",
        "location": "edge-1",
    }  # fmt: skip
    return Agent(**(known | fields))


def under(**line: Any) -> Gate:
    """A gate with one line for the agent."""
    said: dict[str, Any] = {"agent_id": "agent-1", "capabilities": ("embed",)}
    return Gate(listed([Allowance(**said | line)]), RAW, False, False)


capabilities = st.lists(st.sampled_from(ALL), min_size=1, unique=True).map(tuple)
models = st.sampled_from(["1", "2", None])
agents = st.builds(an_agent, capabilities=capabilities, model_version=models, location=st.sampled_from(["", "edge-1"]))
lines = st.fixed_dictionaries(
    {"capabilities": capabilities, "raw_media": st.booleans()},
    optional={"models": st.just(("1",)), "locations": st.just(("edge-1",))},
)


@pytest.mark.parametrize(
    "change",
    [
        {"endpoint": "http://127.0.0.1:9001/"}, {"model_version": "2"}, {"model_version": None},
        {"capabilities": ("embed", "indexing")}, {"capabilities": ("audit",)}, {"endpoint": None},
        {"location": "edge-2"}, {"location": "cloud"}, {"site": "ward-2"},
    ],
)  # fmt: skip
def test_what_is_a_change(change: dict[str, Any]) -> None:
    """Where it is called, for which site, which model, what it does: each waits for an operator; so does going back."""
    known, changed = an_agent(), an_agent(**change)
    quarantined = CLOSED.admitted(known, changed)
    assert quarantined.quarantined
    assert CLOSED.admitted(quarantined, known).quarantined
    assert not OPEN.admitted(known, changed).quarantined


@pytest.mark.parametrize("change", [{}, {"cost": 3.0}, {"max_concurrency": 1}, {"location": "edge", "site": "edge-1"}])
def test_what_is_no_change(change: dict[str, Any]) -> None:
    """How much it takes and costs is its own affair."""
    known = an_agent(capabilities=("a", "b"))
    assert not CLOSED.admitted(known, an_agent(capabilities=("b", "a"), **change)).quarantined


def test_stranger() -> None:
    """Waits for a word, unless the gate is open, an operator registers it, or it stands in the list."""
    assert CLOSED.admitted(None, an_agent()).quarantined
    assert not CLOSED.admitted(None, an_agent(), by_operator=True).quarantined
    assert not OPEN.admitted(None, an_agent()).quarantined
    assert not under().admitted(None, an_agent()).quarantined
    assert under().admitted(None, an_agent(agent_id="agent-2")).quarantined


@pytest.mark.parametrize(
    ("line", "card", "left", "quarantined"),
    [
        ({}, {}, ("embed",), False),
        ({}, {"capabilities": ("indexing", "embed")}, ("embed",), False),
        ({"capabilities": ("embed", "indexing")}, {}, ("embed",), False),
        ({}, {"capabilities": ("indexing",)}, (), True),
        ({"models": ("1", "2")}, {}, ("embed",), False),
        ({"models": ("2",)}, {}, ("embed",), True),
        ({"models": ("2",)}, {"model_version": None}, ("embed",), True),
        ({"locations": ("edge-1",)}, {}, ("embed",), False),
        ({"locations": ("edge",)}, {}, ("embed",), True),
        ({"capabilities": ("embed", "raw_image")}, {"capabilities": ("embed", "raw_image")}, ("embed",), False),
        ({"capabilities": ("raw_image",)}, {"capabilities": ("raw_image",)}, (), True),
        (
            {"capabilities": ("embed", "raw_image"), "raw_media": True},
            {"capabilities": ("embed", "raw_image", "raw_video")},
            ("embed", "raw_image"),
            False,
        ),
        ({"raw_media": True}, {"capabilities": ("embed", "raw_image")}, ("embed",), False),
    ],
)
def test_lines_against_claims(line, card, left, quarantined) -> None:
    """What both say is left; a model or place that the line does not have, and nothing left, waits."""
    agent = under(**line).admitted(None, an_agent(**card))
    assert (agent.capabilities, agent.quarantined) == (left, quarantined)
    assert agent.without_raw_media is not line.get("raw_media", False)


@given(st.none() | agents, agents, lines, st.booleans())
def test_nothing_goes_beyond_the_list(known, coming, line, by_operator) -> None:
    """Whoever registers what, whatever was known, and whatever an operator says: the list bounds it, twice is once."""
    gate, allowance = under(**line), Allowance(agent_id="agent-1", **line)
    admitted = gate.admitted(known, coming, by_operator=by_operator)
    for agent in (admitted, gate.allowed(admitted, raw_media=True), gate.bounded(coming)):
        if agent is None:
            continue
        assert set(agent.capabilities) <= {*coming.capabilities} & {*allowance.capabilities}
        assert allowance.raw_media or (agent.without_raw_media and RAW.isdisjoint(agent.capabilities))
        outside = (allowance.models and agent.model_version not in allowance.models) or (
            allowance.locations and agent.location not in allowance.locations
        )
        assert agent.quarantined or (agent.capabilities and not outside)
        assert gate.bounded(agent) == agent


@given(agents, st.booleans())
def test_word_of_an_operator(agent, raw_media) -> None:
    """The agent is what it said, raw media only where the word says so; saying the same again changes nothing."""
    waiting = CLOSED.admitted(None, agent)
    allowed = CLOSED.allowed(waiting, raw_media=raw_media)
    assert allowed is not None
    assert not allowed.quarantined
    assert allowed.without_raw_media is not raw_media
    assert raw_media or RAW.isdisjoint(allowed.capabilities)
    assert CLOSED.admitted(allowed, agent) == allowed


def test_word_that_is_widened_and_narrowed() -> None:
    """Counts at once for what the agent claimed all along, and it comes back without waiting; a new claim waits."""
    claim = an_agent(capabilities=("embed", "raw_image"))
    without = CLOSED.allowed(CLOSED.admitted(None, claim), raw_media=False)
    assert without is not None
    widened = CLOSED.allowed(CLOSED.admitted(without, claim), raw_media=True)
    assert widened is not None
    assert (widened.capabilities, widened.withheld) == (("embed", "raw_image"), ())
    assert CLOSED.admitted(widened, claim) == widened
    assert CLOSED.admitted(widened, an_agent(capabilities=("embed", "raw_image", "raw_video"))).quarantined
    assert CLOSED.admitted(widened, an_agent()).quarantined
    assert CLOSED.allowed(widened, raw_media=False) == without


def test_line_that_is_widened() -> None:
    """Counts for who is known from before, whether it registers anew or not; what it never claimed still waits."""
    claim = an_agent(capabilities=("embed", "raw_image", "audit"))
    known = under().admitted(None, claim)
    assert known.withheld == ("raw_image", "audit")
    wider = under(capabilities=("embed", "raw_image", "indexing"), raw_media=True)
    for now in (wider.bounded(known), wider.admitted(known, claim)):
        assert (now.capabilities, now.quarantined) == (("embed", "raw_image"), False)
    assert wider.admitted(known, an_agent(capabilities=("embed", "indexing"))).quarantined


def test_agent_that_stands_in_the_list_twice() -> None:
    """Is refused: which line counts is not to be guessed."""
    line = Allowance(agent_id="agent-1", capabilities=("embed",))
    with pytest.raises(ValueError, match="twice"):
        listed([line, line])


def test_line() -> None:
    """Says it in words, for a file and a variable alike."""
    line = Line("eye-1 embed raw_image model=a%20b model=2 location=edge-1 raw_media=yes")
    assert line.allowance() == Allowance(
        agent_id="eye-1",
        capabilities=("embed", "raw_image"),
        models=("a b", "2"),
        locations=("edge-1",),
        raw_media=True,
    )


@pytest.mark.parametrize(
    "text", ["", "eye-1", " embed", "eye-1  embed", "e/1 embed", "a b raw_media=no", "a b c=d", "a b="]
)
def test_line_that_is_none(text: str) -> None:
    """It is refused, whatever it may have meant."""
    with pytest.raises(ValueError, match="such as"):
        Line(text)
