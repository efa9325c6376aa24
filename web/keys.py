"""API keys: made, listed, revoked by operators."""

from quart import Blueprint, Response, request

from orchestrator.web import wire
from orchestrator.web.context import Context, json_response


def routes(context: Context) -> Blueprint:
    """`/keys`."""
    blueprint = Blueprint("keys", __name__)

    @blueprint.get("/keys")
    async def keys() -> Response:
        return json_response({"keys": [key.shown() for key in await context.gateway.keys()]})

    @blueprint.post("/keys")
    async def create() -> Response:
        wanted = wire.converted(wire.as_object(await wire.read_json(request, context.bounds)), wire.NewKey)
        key, text = await context.gateway.create_key(wanted.subject, frozenset(wanted.scopes))
        return json_response({**key.shown(), "api_key": text}, 201)

    @blueprint.delete("/keys/<key_id>")
    async def revoke(key_id: str) -> Response:
        await context.gateway.revoke_key(key_id)
        return json_response({"status": "ok", "key_id": key_id})

    return blueprint
