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


async def _cancel(gateway: Gateway, name: str) -> str:
    await gateway.cancel(name)
    return f"/ui/task/{name}"


async def _replay(gateway: Gateway, name: str) -> str:
    return f"/ui/task/{(await gateway.replay(name)).record.task.task_id}"


ACTIONS = (
    Action(
        "/ui/agents/<agent_id>/drain", "Drain",
        "It gets no more work until it registers again. What it has in hand goes on.", _drain,
    ),
    Action(
        "/ui/agents/<agent_id>/allow", "Allow",
        "It is not what it was when it was first known. From now on what it is counts as right, and it gets work.",
        _allow, risk=True,
    ),
    Action(
        "/ui/task/<task_id>/cancel", "Cancel",
        "It ends for good, whatever an agent may still answer.", _cancel, risk=True,
    ),
    Action(
        "/ui/task/<task_id>/replay", "Replay",
        "A new task is made of it, decided anew by the consent and the agents of now. The dead one stays as it is.",
        _replay,
    ),
)  # fmt: skip


def add(blueprint: Blueprint, pages: Pages) -> None:
    """For each action a page that asks, and the call that does it."""
    for action in ACTIONS:
        name = action.verb.lower()
        blueprint.add_url_rule(action.rule, f"ask_{name}", _asking(pages, action), methods=["GET"])
        blueprint.add_url_rule(action.rule, name, _doing(pages, action), methods=["POST"])


def _asking(pages: Pages, action: Action) -> Callable[..., Any]:
    async def ask(**names: str) -> Response:
        (name,) = names.values()
        if "HX-Request" in request.headers:
            return pages.html(pages.text("part_confirm.html", {"action": action, "name": name, "here": request.path}))
        return pages.page("confirm.html", action=action, name=name)

    return ask


def _doing(pages: Pages, action: Action) -> Callable[..., Any]:
    async def do(**names: str) -> Response:
        check_origin()
        (name,) = names.values()
        return see(await action.do(pages.context.gateway, name))

    return do
