"""What an operator does on the page: asked again first, then done under the same rights as over the API."""

from collections.abc import Awaitable, Callable
from typing import Any

from msgspec import Struct
from quart import Blueprint, Response, request

from orchestrator.actors.gateway import Gateway
from orchestrator.web.dashboard.pages import Pages, check_origin, see


class Action(Struct, frozen=True):
    """One thing to do with what `rule` names; `do` returns where to look then."""

    rule: str
    verb: str
    what: str
    """What becomes of it, for whoever is about to confirm."""
    do: Callable[[Gateway, str], Awaitable[str]]
    risk: bool = False


async def _drain(gateway: Gateway, name: str) -> str:
    await gateway.drain(name)
    return "/"


async def _allow(gateway: Gateway, name: str) -> str:
    await gateway.allow(name)
    return "/"


ACTIONS = (
    Action(
        "/ui/agents/<name>/drain", "Drain",
        "It gets no more work until it registers again. What it has in hand goes on.", _drain,
    ),
    Action(
        "/ui/agents/<name>/allow", "Allow",
        "It is not what it was when it was first known. From now on what it is counts as right, and it gets work.",
        _allow, risk=True,
    ),
)  # fmt: skip


def add(blueprint: Blueprint, pages: Pages) -> None:
    """For each action a page that asks, and the call that does it."""
    for action in ACTIONS:
        name = action.verb.lower()
        blueprint.add_url_rule(action.rule, f"ask_{name}", _asking(pages, action), methods=["GET"])
        blueprint.add_url_rule(action.rule, name, _doing(pages, action), methods=["POST"])


def _asking(pages: Pages, action: Action) -> Callable[[str], Any]:
    async def ask(name: str) -> Response:
        if "HX-Request" in request.headers:
            return pages.html(pages.text("part_confirm.html", {"action": action, "name": name, "here": request.path}))
        return pages.page("confirm.html", action=action, name=name)

    return ask


def _doing(pages: Pages, action: Action) -> Callable[[str], Any]:
    async def do(name: str) -> Response:
        check_origin()
        return see(await action.do(pages.context.gateway, name))

    return do
