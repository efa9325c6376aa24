"""Consents: the end of one."""

from quart import Blueprint, Response

from orchestrator.domain.errors import InvalidRequest
from orchestrator.web import wire
from orchestrator.web.context import Context, json_response


def routes(context: Context) -> Blueprint:
    """`POST /consents/{consent_id}/revoke`."""
    blueprint = Blueprint("consents", __name__)

    @blueprint.post("/consents/<path:consent_id>/revoke")
    async def revoke(consent_id: str) -> Response:
        if not wire.is_identifier(consent_id):
            raise InvalidRequest("consent_id: Expected 1 to 200 characters, none of them a control character.")
        return json_response(wire.revoked(consent_id, await context.gateway.revoke(consent_id)))

    return blueprint
