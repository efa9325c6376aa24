"""Agents: register, beat, drain, leave; and the list of them."""

from quart import Blueprint, Response, request

from orchestrator.kernel.monotonic import monotonic
from orchestrator.web import wire
from orchestrator.web.context import Context, json_response


def routes(context: Context) -> Blueprint:
    """`/register_agent` and `/agents/…`."""
    blueprint = Blueprint("agents", __name__)
    bounds, ttl = context.bounds, context.settings.agents.ttl_s

    @blueprint.post("/register_agent")
    async def register() -> Response:
        fields, text = await wire.read_fields(request, bounds)
        agent = wire.agent(fields, lax=text)
        view = await context.gateway.register(agent)
        return json_response({"status": "ok", **wire.agent_status(view, monotonic(), ttl)})

    @blueprint.get("/agents")
    async def agents() -> Response:
        now = monotonic()
        views = sorted(context.gateway.agents().values(), key=lambda view: view.agent.agent_id)
        return json_response({"agents": [wire.agent_status(view, now, ttl) for view in views]})

    @blueprint.post("/agents/<agent_id>/heartbeat")
    async def heartbeat(agent_id: str) -> Response:
        fields = await wire.read_optional(request, bounds)
        beat = wire.converted(fields, wire.Beat)
        view = await context.gateway.heartbeat(agent_id, beat.load)
        return json_response({"status": "ok", **wire.agent_status(view, monotonic(), ttl)})

    @blueprint.post("/agents/<agent_id>/allow")
    async def allow(agent_id: str) -> Response:
        word = wire.converted(await wire.read_optional(request, bounds), wire.Allow)
        view = await context.gateway.allow(agent_id, raw_media=word.raw_media)
        return json_response({"status": "ok", **wire.agent_status(view, monotonic(), ttl)})

    @blueprint.post("/agents/<agent_id>/drain")
    async def drain(agent_id: str) -> Response:
        view = await context.gateway.drain(agent_id)
        return json_response({"status": "ok", **wire.agent_status(view, monotonic(), ttl)})

    @blueprint.delete("/agents/<agent_id>")
    async def remove(agent_id: str) -> Response:
        await context.gateway.remove(agent_id)
        return json_response({"status": "ok", "agent_id": agent_id})

    return blueprint
