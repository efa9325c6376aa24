"""Time goes forward, whatever the machine's clock does."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.kernel.clock import PACE, Clock


class Machine:
    """A clock that is set, and one that only counts."""

    def __init__(self) -> None:
        self.wall, self.counted = 1_000.0, 50.0
        self.clock = Clock(lambda: self.wall, lambda: self.counted)

    def pass_by(self, seconds: float) -> None:
        self.wall += seconds
        self.counted += seconds


def test_usual() -> None:
    """It is the machine's time, and nothing is behind."""
    machine = Machine()
    for seconds in (0.0, 1.5, 3_600.0):
        machine.pass_by(seconds)
        assert (machine.clock.now(), machine.clock.behind()) == (machine.wall, 0.0)


def test_set_forward() -> None:
    """It goes along."""
    machine = Machine()
    machine.wall += 86_400.0
    assert machine.clock.now() == machine.wall


@pytest.mark.parametrize("back", [0.5, 300.0, 1_000.0])
def test_set_back(back: float) -> None:
    """It stays where it was and goes on a little slower, until the machine has caught up; meanwhile it says so."""
    machine = Machine()
    before = machine.clock.now()
    machine.wall -= back
    assert (machine.clock.now(), machine.clock.behind()) == (before, back)
    machine.pass_by(10.0 * min(back, 10.0) / 10.0)
    assert before < machine.clock.now() <= before + 10.0
    machine.pass_by(back / (1.0 - PACE) + 1.0)
    assert machine.clock.behind() < 1e-6
    assert machine.clock.now() == pytest.approx(machine.wall)


def test_what_is_known() -> None:
    """A machine that starts in 1970 goes on from what it knew when it was stopped."""
    machine = Machine()
    machine.clock.not_before(1_700_000_000.0)
    assert machine.clock.now() == 1_700_000_000.0
    assert machine.clock.behind() == 1_700_000_000.0 - 1_000.0
    machine.clock.not_before(5.0)
    assert machine.clock.now() == 1_700_000_000.0
    machine.wall = 1_700_000_100.0
    assert (machine.clock.now(), machine.clock.behind()) == (machine.wall, 0.0)


@given(st.lists(st.tuples(st.floats(-1e9, 1e9), st.floats(0, 1e6))))
def test_never_back(steps: list[tuple[float, float]]) -> None:
    """Whatever is done to the machine."""
    machine, last = Machine(), float("-inf")
    for jump, seconds in steps:
        machine.wall += jump
        machine.pass_by(seconds)
        now = machine.clock.now()
        assert now >= max(last, machine.wall)
        last = now
