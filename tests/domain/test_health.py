"""What calls and heartbeats tell of an agent: every change of what is known, and when."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.domain.decision import Exclusion
from orchestrator.domain.health import EJECTION_CAP_S, Availability, Health

TTL = 120.0
WELL = Health(last_seen=0.0)


def state(health: Health, now: float) -> str:
    return health.availability(now, TTL).value


def ejected(times: int = 1, now: float = 0.0) -> Health:
    """Health after so many refused connections, each at its trial."""
    health = WELL
    for _ in range(times):
        health = health.called().failed(now if health.ejected_until is None else health.ejected_until, refused=True)
    return health


def test_every_reason_has_its_exclusion():
    """What is not usable is excluded under the same name."""
    for availability in Availability:
        assert availability.usable == (availability.value not in set(Exclusion))


def test_never_heard_of():
    """An agent of the ledger is unknown, which is usable, until it is stale."""
    health = Health(since=10.0)
    assert [state(health, now) for now in (10.0, 130.0, 130.001)] == ["unknown", "unknown", "stale"]


def test_the_time_to_live():
    """It counts from the last sign of life, which may be as old as the bound, but no older."""
    assert [state(WELL, now) for now in (0.0, TTL, TTL + 0.001)] == ["ready", "ready", "stale"]


@pytest.mark.parametrize(
    "sign",
    [
        lambda health: health.heard(TTL + 1),
        lambda health: health.answered(TTL + 1, 0.1),
        lambda health: health.paused(TTL + 1, 0.0),
    ],
    ids=["heartbeat", "answer", "answer that it is busy"],
)
def test_signs_of_life(sign):
    """Each makes a stale agent ready, and an unknown one known."""
    assert state(sign(WELL), TTL + 1) == "ready"
    assert state(sign(Health()), TTL + 1) == "ready"


def test_failed_calls():
    """The third in a row ejects; they are no sign of life."""
    health = WELL
    states = []
    for _ in range(3):
        health = health.called().failed(1.0, refused=False)
        states.append(state(health, 1.0))
    assert states == ["ready", "ready", "ejected"]
    assert health.last_seen == 0.0


@pytest.mark.parametrize(
    "between", [lambda h: h.answered(1.0, 0.1), lambda h: h.heard(1.0), lambda h: h.paused(1.0, 0)]
)
def test_failures_that_are_not_in_a_row(between):
    """Any answer between them, or a heartbeat, starts the count again."""
    health = between(WELL.failed(1.0, refused=False).failed(1.0, refused=False))
    health = health.failed(1.0, refused=False).failed(1.0, refused=False)
    assert state(health, 1.0) == "ready"


def test_a_refused_connection():
    """Ejects at once."""
    assert state(WELL.called().failed(1.0, refused=True), 1.0) == "ejected"


def test_an_answer_that_declines():
    """Is an answer like any other: whoever answers is well."""
    health = WELL
    for _ in range(9):
        health = health.called().answered(1.0, 0.1)
    assert (state(health, 1.0), health.failures) == ("ready", 0)


@pytest.mark.parametrize("end", [lambda h: h.answered(10.0, 0.1), lambda h: h.heard(10.0), lambda h: h.paused(10.0, 0)])
def test_the_end_of_a_trial(end):
    """Is known as such: whoever asks whether one is on its way is told no, and no failure is left."""
    health = ejected().called()
    assert (health.on_trial, health.failures) == (True, 1)
    assert (end(health).on_trial, end(health).failures) == (False, 0)


def test_the_end_of_an_ejection():
    """After ten seconds one call may try it; while that is on its way no other may."""
    health = ejected()
    assert [state(health, now) for now in (0.0, 9.999, 10.0)] == ["ejected", "ejected", "trial"]
    assert state(health.called(), 10.0) == "ejected"
    assert state(health.called(), 100.0) == "ejected"


def test_a_trial_that_was_not_made():
    """Leaves it to another call to try."""
    assert state(ejected().called().untried(), 10.0) == "trial"


def test_a_trial_that_succeeds():
    """Brings it back, with nothing held against it."""
    health = ejected(3).called().answered(80.0, 0.1)
    assert (state(health, 80.0), health.failures, health.ejections) == ("ready", 0, 0)
    assert health.failed(80.0, refused=True).ejected_until == 90.0


@pytest.mark.parametrize("refused", [True, False])
@pytest.mark.parametrize("released_before", [True, False])
def test_a_trial_that_fails(refused, released_before):
    """Ejects again for twice as long: by whatever failure, also if its slot is freed before it is judged."""
    health = ejected().called()
    health = health.untried() if released_before else health
    health = health.failed(10.0, refused=refused)
    assert [state(health, now) for now in (10.0, 29.999, 30.0)] == ["ejected", "ejected", "trial"]


def test_one_outage_after_the_other():
    """Ten seconds, doubled each time, up to five minutes, however often."""
    lengths, health = [], WELL
    for _ in range(50):
        at = health.ejected_until or 0.0
        health = health.called().failed(at, refused=True)
        lengths.append((health.ejected_until or 0.0) - at)
    assert lengths[:7] == [10.0, 20.0, 40.0, 80.0, 160.0, 300.0, 300.0]
    assert max(lengths) == EJECTION_CAP_S


def test_many_calls_in_flight_at_an_outage():
    """They all fail for the same reason, which is one: the ejection does not grow with their number."""
    health = WELL
    for _ in range(20):
        health = health.called()
    for call in range(20):
        health = health.failed(1.0 + call / 100, refused=call % 2 == 0)
    assert (health.ejected_until, health.ejections) == (11.0, 1)


def test_a_heartbeat_of_an_ejected_agent():
    """Brings it back at once; if it fails again, it is away for longer than before."""
    health = ejected().heard(5.0)
    assert state(health, 5.0) == "ready"
    assert health.failed(5.0, refused=True).ejected_until == 25.0


def test_retry_after():
    """Is obeyed to the second."""
    health = WELL.called().paused(1.0, 7.0)
    assert [state(health, now) for now in (1.0, 7.999, 8.0)] == ["paused", "paused", "ready"]


@pytest.mark.parametrize(("asked", "obeyed"), [(300.0, 300.0), (1e9, 300.0), (0.0, 0.0), (-5.0, 0.0)])
def test_an_absurd_retry_after(asked, obeyed):
    """Is obeyed for five minutes at most, and never backwards."""
    assert WELL.paused(1.0, asked).paused_until == 1.0 + obeyed


def test_retry_after_at_a_trial():
    """It is back, and asks to be left alone: it is not called before its time."""
    health = ejected().called().paused(10.0, 60.0)
    assert [state(health, now) for now in (10.0, 69.999, 70.0)] == ["paused", "paused", "ready"]


def test_a_heartbeat_during_a_pause():
    """Says that it lives, not that it has time."""
    assert state(WELL.paused(0.0, 60.0).heard(5.0), 5.0) == "paused"


def test_draining():
    """It gets no more work, until it registers again."""
    assert state(WELL.drained(), 1.0) == "draining"
    assert state(WELL.drained().answered(1.0, 0.1), 1.0) == "draining"
    assert state(ejected().drained(), 10.0) == "draining"
    assert state(WELL.drained().heard(2.0), 2.0) == "ready"


def test_several_reasons():
    """The first in the order of the exclusions counts."""
    health = Health(last_seen=0.0, ejected_until=50.0, paused_until=60.0, draining=True)
    assert [state(health, now) for now in (0.0, 50.0, 60.0, 121.0)] == ["ejected", "paused", "draining", "stale"]


def test_latency():
    """The first answer sets it, each later one moves it by a fifth of the difference."""
    health = WELL.answered(1.0, 1.0)
    assert health.latency == 1.0
    assert health.answered(2.0, 2.0).latency == pytest.approx(1.2)
    assert health.failed(2.0, refused=False).latency == 1.0


def test_load():
    """Is what the last heartbeat said of it; one that says nothing leaves it."""
    assert WELL.heard(1.0, 0.5).load == 0.5
    assert WELL.heard(1.0, 0.5).heard(2.0).load == 0.5


events = st.lists(
    st.tuples(
        st.sampled_from(["call", "answer", "fail", "refuse", "busy", "beat", "drain", "untried"]), st.floats(0, 100)
    ),
    max_size=30,
)


@given(events)
def test_any_history(history):
    """Away for no longer than the cap, at most one trial at a time, and never called when it is not usable."""
    health, now = WELL, 0.0
    for event, passes in history:
        now += passes
        match event:
            case "call" if health.availability(now, TTL).usable:
                trial = health.availability(now, TTL) is Availability.TRIAL
                health = health.called()
                assert health.availability(now, TTL).usable != trial
            case "answer":
                health = health.answered(now, passes)
            case "fail" | "refuse":
                health = health.failed(now, refused=event == "refuse")
            case "busy":
                health = health.paused(now, passes * 10)
            case "beat":
                health = health.heard(now)
            case "drain":
                health = health.drained()
            case _:
                health = health.untried()
        for until in (health.ejected_until, health.paused_until):
            assert until is None or until <= now + 300.0
        assert health.failures < 3 or health.ejected_until is not None


@given(
    health=st.builds(
        Health,
        since=st.floats(0, 500),
        last_seen=st.none() | st.floats(0, 500),
        ejected_until=st.none() | st.floats(0, 1000),
        paused_until=st.none() | st.floats(0, 1000),
        on_trial=st.booleans(),
        draining=st.booleans(),
    ),
    now=st.integers(0, 500),
    share=st.floats(0, 1, exclude_max=True),
)
def test_until_nothing_turns(health, now, share):
    """As long as it is said to be settled, time alone does not change the availability of an agent."""
    until = min(health.settled_until(now, TTL), now + 2_000.0)
    assert until >= now
    between = now + share * (until - now)
    # Within a microsecond of a turn the last digit of a float decides.
    assert until - between < 1e-6 or state(health, between) == state(health, now)
