"""The last hour, as the page draws it: from left to right, and no more than an hour."""

from orchestrator.domain.agent import Agent, AgentView
from orchestrator.domain.identity import ANONYMOUS
from orchestrator.history import EVERY_S, History, Point
from orchestrator.web.dashboard.views import agents, plots


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
    """Of each sample what was counted in the minute before it; the first has nothing to be compared with."""
    counts = {0.0: 5, 30.0: 6, 60.0: 10, 90.0: 11, 100.0: 11, 160.0: 12}
    drawn = plots(a_history(*(a_point(at, accepted) for at, accepted in counts.items())).points)["rates"]
    assert drawn == [[*counts], [None, 1.0, 5.0, 5.0, 4.3, 1.0], [None] + [0.0] * 5, [None] + [0.0] * 5]


def test_the_seconds_after_a_start():
    """They are not taken for a minute: eighteen tasks are eighteen."""
    history = a_history(a_point(0.0), a_point(0.5, accepted=18), a_point(10.5, accepted=18))
    assert plots(history.points)["rates"][1] == [None, 18.0, 18.0]


def test_while_nobody_counted():
    """What was done in ten minutes is a tenth of it in each."""
    assert plots(a_history(a_point(0.0), a_point(600.0, accepted=50)).points)["rates"][1] == [None, 5.0]


def test_nothing_yet():
    """Empty lines, as many as there are series."""
    assert plots(History().points) == {"ready": [[]] * 5, "oldest": [[]] * 5, "rates": [[]] * 4}


def test_how_long_a_pull_agent_takes():
    """An average of what it did, as of agents that are called; who was never seen to end a task has none."""
    history = History()
    directory = {name: AgentView(Agent(agent_id=name, capabilities=("embed",))) for name in ("asks-1", "asks-2")}
    for seconds in (2.0, 2.0):
        history.pulled("asks-1", seconds)
    rows = agents(directory, 0.0, 60.0, history, [], ANONYMOUS)
    assert [(row.agent_id, row.latency) for row in rows] == [("asks-1", 2.0), ("asks-2", None)]
