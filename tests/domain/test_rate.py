"""How often a caller may ask: never more than the rate and the burst, whatever it tries."""

from hypothesis import given
from hypothesis import strategies as st

from orchestrator.domain.rate import Meter, Rate


def test_a_burst_and_then_the_rate():
    """A caller that was silent takes its burst at once, then one each time that one comes."""
    meter = Meter(Rate(per_s=2.0, burst=3), callers=10)
    assert [meter.take("a", 0.0) is None for _ in range(5)] == [True, True, True, False, False]
    assert meter.take("a", 0.0) == 0.5
    assert meter.take("a", 0.49) is not None
    assert meter.take("a", 0.5) is None
    assert meter.take("a", 0.5) == 0.5
    assert [meter.take("a", 100.0) is None for _ in range(4)] == [True, True, True, False]


def test_no_limit():
    """A rate of none at all lets everything through, and remembers nobody."""
    meter = Meter(Rate(per_s=0.0, burst=1), callers=10)
    assert all(meter.take("a", 0.0) is None for _ in range(1000))
    assert repr(meter) == "<Meter 0/10 callers>"


def test_other_callers():
    """Have shares of their own."""
    meter = Meter(Rate(per_s=1.0, burst=1), callers=10)
    assert meter.take("a", 0.0) is None
    assert meter.take("a", 0.0) is not None
    assert meter.take("b", 0.0) is None


def test_more_callers_than_are_remembered():
    """The one that was silent for longest is forgotten: memory has a bound, and who goes on asking is not let off."""
    meter = Meter(Rate(per_s=0.001, burst=2), callers=3)
    for caller in ("a", "b", "c", "a", "d"):
        assert meter.take(caller, 0.0) is None
    assert repr(meter) == "<Meter 3/3 callers>"
    assert meter.take("a", 0.0) is not None
    assert [meter.take("b", 0.0) is None for _ in range(3)] == [True, True, False]


@given(
    st.floats(0.1, 100),
    st.integers(1, 20),
    st.lists(st.floats(0, 2), min_size=1, max_size=200),
)
def test_any_caller(per_s, burst, pauses):
    """Takes in any stretch of time at most the burst and what the rate brings; waiting as it is told is enough."""
    meter = Meter(Rate(per_s, burst), callers=4)
    now, taken = 0.0, []
    for pause in pauses:
        now += pause
        wait = meter.take("a", now)
        if wait is None:
            taken.append(now)
        elif pause > 1:
            now += wait
            assert meter.take("a", now) is None
            taken.append(now)
    for first, begin in enumerate(taken):
        for last in range(first, len(taken)):
            assert last - first + 1 <= burst + (taken[last] - begin) * per_s + 1e-3
