from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.kernel.errors import Fatal, root_cause
from orchestrator.kernel.restart import Backoff, Intensity, delay_before_restart

times = st.lists(st.floats(0, 1e6), min_size=1, max_size=30).map(sorted)
intensities = st.builds(Intensity, restarts=st.integers(1, 10), period=st.floats(0, 1e4))
backoffs = st.builds(Backoff, base=st.floats(0, 10), cap=st.floats(0, 100))


def test_third_failure_within_the_period():
    """Two are answered by a restart; the third in thirty seconds is the end."""
    decide = [delay_before_restart(at, Intensity(), Backoff(), Random(0)) for at in ([0], [0, 10], [0, 10, 30])]
    assert [delay is None for delay in decide] == [False, False, True]


def test_third_failure_after_the_period():
    """A failure that is long past does not count."""
    assert delay_before_restart([0, 10, 30.1], Intensity(), Backoff(), Random(0)) is not None


@given(times, intensities, backoffs, st.integers())
def test_any_history(failures, intensity, backoff, seed):
    """It gives up exactly when the period holds too many; else the delay is within the bounds, and seeded."""
    delay = delay_before_restart(failures, intensity, backoff, Random(seed))
    recent = sum(failures[-1] - at <= intensity.period for at in failures)
    assert (delay is None) == (recent >= intensity.restarts)
    if delay is not None:
        assert 0 <= delay <= min(backoff.cap, backoff.base * 2 ** (recent - 1))
        assert delay == delay_before_restart(failures, intensity, backoff, Random(seed))


@given(st.integers(1, 10**9), st.integers())
def test_any_attempt(attempt, seed):
    """However long it goes on, the delay is never above the cap."""
    assert 0 <= Backoff(base=0.1, cap=5.0).delay(attempt, Random(seed)) <= 5.0


def test_jitter():
    """It is full: delays come from the whole range, so that those who failed together do not come back together."""
    delays = [Backoff(base=1.0, cap=60.0).delay(4, Random(seed)) for seed in range(200)]
    assert min(delays) < 1.0
    assert max(delays) > 7.0


class Broken(Fatal):
    pass


@pytest.mark.parametrize(
    ("error", "cause"),
    [
        (KeyError("x"), KeyError),
        (ExceptionGroup("", [KeyError("x")]), KeyError),
        (ExceptionGroup("", [ExceptionGroup("", [KeyError("x")])]), KeyError),
        (ExceptionGroup("", [KeyError("x"), ValueError("y")]), ExceptionGroup),
        (ExceptionGroup("", [KeyError("x"), ExceptionGroup("", [OSError(), Broken()])]), Broken),
        (ExceptionGroup("", [ExceptionGroup("", [Broken()]), Broken(), OSError()]), Broken),
    ],
)
def test_error_groups(error, cause):
    """A fatal error counts wherever it is; a group of one is its content; other groups stay what they are."""
    assert type(root_cause(error)) is cause
