from hypothesis import given
from hypothesis import strategies as st

from orchestrator.domain.retry import backoff

# The largest double below 1: what a uniform draw from [0, 1) may at most be.
ALMOST_ONE = 1 - 2**-53


def test_the_most_it_may_be():
    """It doubles with each failure, up to the cap."""
    most = [round(backoff(failures, 1.0, 10.0, ALMOST_ONE), 6) for failures in range(1, 7)]
    assert most == [1.0, 2.0, 4.0, 8.0, 10.0, 10.0]


def test_the_jitter():
    """It is full: the draw alone says what part of the whole range it is."""
    assert [backoff(3, 1.0, 10.0, chance) for chance in (0.0, 0.25, 0.5)] == [0.0, 1.0, 2.0]


@given(
    st.integers(-1, 10**9),
    st.floats(0.001, 1e6),
    st.floats(0.001, 1e6),
    st.floats(0, 1, exclude_max=True),
)
def test_any_failure(failures, base, cap, chance):
    """It is never below nothing nor above the cap, and no number of failures is too large for it."""
    wait = backoff(failures, base, cap, chance)
    assert 0 <= wait <= cap
    if failures <= 1:
        assert wait <= base
    assert backoff(failures + 1, base, cap, chance) >= wait
