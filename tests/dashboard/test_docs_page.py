"""The description of the API as a browser shows it."""

import pytest
from visiting import Visitor

pytestmark = pytest.mark.anyio


async def test_a_call_that_is_tried_out(visitor: Visitor) -> None:
    """The example of a task is sent as it stands and accepted; nobody else is asked, and the policy is kept to."""
    page = await visitor.go("/docs")
    call = page.locator("#operations-tasks-post_route_task")
    await call.locator(".opblock-summary").click()
    await call.locator(".try-out__btn").click()
    await call.locator(".execute").click()
    answer = call.locator(".live-responses-table .response")
    assert (await answer.locator(".response-col_status").first.inner_text()).startswith("202")
    assert '"status": "queued"' in await answer.locator(".microlight").first.inner_text()
    await visitor.shoot("docs-tried-out")
