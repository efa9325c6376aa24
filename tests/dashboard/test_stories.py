"""From a decision to what the page says of it."""

import pytest

from orchestrator.domain.decision import Candidate, Decision, Exclusion
from orchestrator.testing import Service
from orchestrator.web.dashboard.stories import judged


@pytest.mark.parametrize("reason", Exclusion)
def test_why_an_agent_is_left_out(reason: Exclusion) -> None:
    """There are words for each reason; one without would take every page with it that shows such a decision."""
    (told,) = judged(Decision((Candidate("eye-1", reason),), ()))
    assert told.verdict.removeprefix("left out: ")


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("before", "said"),
    [(5, None), (0, "Expected a whole number"), (True, "Expected a whole number"), ([1], "Expected")],
)
async def test_a_cursor_that_is_no_text(service: Service, before: object, said: str | None) -> None:
    """Whoever sends JSON instead of a form is understood, or told what was expected."""
    origin = {"Origin": f"http://127.0.0.1:{service.port}"}
    reply = await service.ask("POST", "/ui/audit", json={"before": before}, headers=origin)
    assert reply.status == 200
    assert said is None or said.encode() in reply.body
