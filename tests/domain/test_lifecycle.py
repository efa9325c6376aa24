"""The life of a task: the whole table, and any walk through it."""

from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from orchestrator.domain.lifecycle import (
    MAX_LOST_LEASES,
    TRANSITIONS,
    IllegalTransition,
    Progress,
    State,
    Step,
    diagram,
)

# The specification (design, §3), written once more and by hand: state, step, state.
TABLE = """
queued      leased           leased
queued      due              queued
queued      cancelled        cancelled
queued      expired          expired
queued      denied           denied
leased      moved            leased
leased      extended         leased
leased      succeeded        succeeded
leased      retry_scheduled  retry_wait
leased      dead             dead
leased      given_back       queued
leased      lease_lost       queued
leased      cancelled        cancelled
leased      expired          expired
leased      denied           denied
retry_wait  due              queued
retry_wait  cancelled        cancelled
retry_wait  expired          expired
retry_wait  denied           denied
"""
LEGAL = {
    (State(state), Step(step)): State(target)
    for state, step, target in (row.split() for row in TABLE.split("\n")[1:-1])
}
FINAL = {State.SUCCEEDED, State.DEAD, State.CANCELLED, State.EXPIRED, State.DENIED}
MAX_RETRIES = 3


def in_state(state: State) -> Progress:
    if state is State.LEASED:
        return Progress().lease("agent", "owner", 60.0)
    return Progress(state=state)


def take(progress: Progress, step: Step) -> Progress:
    """The task after the step, by the method that a caller would use for it."""
    match step:
        case Step.LEASE | Step.MOVE:
            return progress.lease("another", "owner", 90.0, step)
        case Step.EXTEND:
            return progress.extend(120.0)
        case Step.SUCCEED:
            return progress.succeed()
        case Step.RETRY | Step.GIVE_UP:
            retryable = step is Step.RETRY
            return progress.fail("timeout", retryable=retryable, max_retries=MAX_RETRIES, due_at=70.0)[1]
        case Step.GIVE_BACK:
            return progress.give_back("interrupted")
        case Step.LOSE:
            return progress.lose()[1]
        case Step.COME_DUE:
            return progress.come_due()
        case Step.CANCEL | Step.EXPIRE | Step.DENY:
            return progress.end(step, "why")


def test_the_table():
    """It holds just the transitions of the specification, for every state."""
    found = {(state, step): target for state, steps in TRANSITIONS.items() for step, target in steps.items()}
    assert found == LEGAL
    assert set(TRANSITIONS) == set(State)


@pytest.mark.parametrize(("state", "step"), list(product(State, Step)))
def test_every_step_from_every_state(state, step):
    """It leads where the table says, or raises an error that names both, and changes nothing."""
    before = in_state(state)
    if (state, step) in LEGAL:
        assert take(before, step).state is LEGAL[state, step]
        return
    with pytest.raises(IllegalTransition) as illegal:
        take(before, step)
    assert f"'{step.value}'" in str(illegal.value)
    assert f"'{state.value}'" in str(illegal.value)


def test_final_states():
    """They are those that nothing leads out of."""
    assert {state for state in State if state.final} == FINAL
    assert {state for state, steps in TRANSITIONS.items() if not steps} == FINAL


def test_a_lease():
    """It is a new attempt with a holder; what the last attempt left behind is gone."""
    before = Progress(attempt=2, failures=1, due_at=5.0, tried=("a",), reason="timeout")
    after = before.lease("b", "owner", 60.0)
    assert after == Progress(State.LEASED, 3, 1, 0, None, "b", "owner", 60.0, ("a",), None)


def test_a_move():
    """It is a new attempt by another agent under the same holder's lease; nothing else is counted."""
    leased = Progress().lease("a", "owner", 60.0)
    assert leased.lease("b", "owner", 70.0, Step.MOVE) == Progress(State.LEASED, 2, 0, 0, None, "b", "owner", 70.0)


def test_success():
    """The lease is over; the agent that did it is remembered, and under which lease."""
    done = Progress().lease("a", "owner", 60.0).succeed()
    assert done == Progress(State.SUCCEEDED, 1, agent_id="a", owner="owner")


def test_an_extension():
    """The same attempt under the same lease, for longer."""
    extended = Progress().lease("a", "owner", 60.0).extend(90.0)
    assert extended == Progress(State.LEASED, 1, agent_id="a", owner="owner", lease_until=90.0)


def test_a_failure():
    """It is counted, the agent and its lease are remembered as those that failed, and the task waits."""
    step, waits = Progress().lease("a", "owner", 60.0).fail("timeout", retryable=True, max_retries=1, due_at=9.0)
    assert step is Step.RETRY
    failed = Progress(attempt=1, failures=1, agent_id="a", owner="owner", tried=("a",), reason="timeout")
    assert waits == replace(failed, state=State.RETRY_WAIT, due_at=9.0)


@pytest.mark.parametrize(("retryable", "max_retries"), [(False, 9), (True, 0)])
def test_the_last_failure(retryable, max_retries):
    """Where trying again is no use, or not allowed any more, the task is dead and waits for nothing."""
    leased = Progress().lease("a", "owner", 60.0)
    step, dead = leased.fail("agent_error", retryable=retryable, max_retries=max_retries, due_at=9.0)
    assert step is Step.GIVE_UP
    assert dead == Progress(State.DEAD, 1, 1, agent_id="a", owner="owner", tried=("a",), reason="agent_error")


def test_an_agent_that_fails_twice():
    """Is remembered once."""
    progress = Progress()
    for agent in ("a", "b", "a"):
        _, waits = progress.lease(agent, "o", 1.0).fail("x", retryable=True, max_retries=9, due_at=1.0)
        progress = waits.come_due()
    assert progress.tried == ("a", "b")


def test_given_back():
    """An attempt that we broke off counts nothing but itself."""
    assert Progress().lease("a", "owner", 60.0).give_back("interrupted") == Progress(
        attempt=1, agent_id="a", reason="interrupted"
    )


def test_lost_leases():
    """Two are forgiven and use up no retry, the third is the end."""
    progress, steps = Progress(), []
    while not progress.state.final:
        step, progress = progress.lease("a", "owner", 60.0).lose()
        steps.append(step)
    assert steps == [Step.LOSE, Step.LOSE, Step.GIVE_UP]
    assert (progress.state, progress.lost, progress.failures) == (State.DEAD, 3, 0)
    assert (progress.reason, progress.tried, progress.owner) == ("lease_lost", (), None)


@pytest.mark.parametrize("state", [State.RETRY_WAIT, State.QUEUED])
def test_coming_due(state):
    """From now on it is ready."""
    assert Progress(state, 1, due_at=9.0, reason="timeout").come_due() == Progress(State.QUEUED, 1)


@given(st.lists(st.sampled_from(Step)))
def test_any_walk(steps):
    """Final states never change, attempts only grow, and by one at a lease; retries and lost leases are bounded."""
    progress = Progress()
    for step in steps:
        try:
            after = take(progress, step)
        except IllegalTransition:
            assert (progress.state, step) not in LEGAL
            continue
        assert not progress.state.final
        assert after.attempt == progress.attempt + (step in (Step.LEASE, Step.MOVE))
        assert progress.failures <= after.failures <= MAX_RETRIES + 1
        assert progress.lost <= after.lost <= MAX_LOST_LEASES
        assert len(after.tried) == len(set(after.tried)) <= after.failures
        assert (after.lease_until is None) == (after.state is not State.LEASED)
        # A dead task that nobody answered for belongs to nobody.
        kept = after.state in (State.LEASED, State.SUCCEEDED, State.RETRY_WAIT) or step is Step.GIVE_UP
        assert (after.owner is not None) == (kept and after.reason != "lease_lost")
        assert after.due_at is None or after.state is State.RETRY_WAIT
        if after.failures > MAX_RETRIES or after.lost == MAX_LOST_LEASES:
            assert after.state.final
        progress = after


@given(st.lists(st.sampled_from([Step.RETRY, Step.LOSE])))
def test_any_bad_luck(fates):
    """Whatever becomes of its attempts, a task that always fails is dead after so many of them."""
    progress, attempts = Progress(), 0
    for fate in [*fates, *[Step.RETRY] * (MAX_RETRIES + 1)]:
        if progress.state is State.RETRY_WAIT:
            progress = progress.come_due()
        if progress.state is State.QUEUED:
            progress, attempts = take(progress.lease("a", "o", 1.0), fate), attempts + 1
    assert progress.state is State.DEAD
    assert attempts <= (MAX_RETRIES + 1) + (MAX_LOST_LEASES - 1)


@pytest.mark.parametrize("step", [Step.CANCEL, Step.EXPIRE, Step.DENY])
def test_an_end_from_outside(step):
    """Is told with its reason; who held the task holds it no more."""
    ended = Progress().lease("a", "owner", 60.0).end(step, "why")
    assert ended == Progress(LEGAL[State.LEASED, step], 1, agent_id="a", reason="why")


def test_a_step_on_a_copy():
    """A step returns a new value; the old one stays as it was."""
    leased = Progress().lease("a", "owner", 60.0)
    before = replace(leased)
    leased.succeed()
    assert leased == before


def test_the_diagram():
    """It is the table, one line for each transition, the same every time."""
    lines = diagram().split("\n")
    assert lines[:2] == ["stateDiagram-v2", "    [*] --> queued: accepted"]
    arrows = {f"    {state.value} --> {target.value}: {step.value}" for (state, step), target in LEGAL.items()}
    ends = {f"    {state.value} --> [*]" for state in FINAL}
    assert sorted(lines[2:]) == sorted(arrows | ends)
    assert diagram() == diagram()
