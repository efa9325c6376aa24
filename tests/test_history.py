"""The last hour, as the page draws it: from left to right, and no more than an hour."""

from orchestrator.history import EVERY_S, History, Point
from orchestrator.web.dashboard.views import plots


def a_point(at: float, accepted: float = 0) -> Point:
    return Point(at, {}, {}, accepted)


def a_history(*points: Point) -> History:
    history = History()
    for point in points:
        history.add(point)
    return history


def test_a_clock_that_is_set_back():
    """What lay ahead of it is forgotten: of the samples that stay each stands right of the one before it."""
    history = a_history(*(a_point(at) for at in (100.0, 110.0, 120.0, 105.0)))
    assert [point.at for point in history.points] == [100.0, 105.0]
    assert history.due(100.0)
    assert not history.due(105.0 + EVERY_S - 0.1)


def test_an_hour_and_no_more():
    """A machine that slept for a night draws the night neither as a line nor as an empty hour."""
    history = a_history(*(a_point(at) for at in (0.0, 10.0, 30_000.0, 33_590.0, 33_600.0)))
    assert plots(history.points)["ready"][0] == [30_000.0, 33_590.0, 33_600.0]


def test_what_is_done_each_minute():
    """Counts become rates between two samples; the first has nothing to be compared with."""
    history = a_history(a_point(0.0, accepted=5), a_point(30.0, accepted=6), a_point(40.0, accepted=6))
    drawn = plots(history.points)["rates"]
    assert drawn == [[0.0, 30.0, 40.0], [None, 2.0, 0.0], [None, 0.0, 0.0], [None, 0.0, 0.0]]


def test_nothing_yet():
    """Empty lines, as many as there are series."""
    assert plots(History().points) == {"ready": [[]] * 5, "oldest": [[]] * 5, "rates": [[]] * 4}
