"""The audit trail, page by page."""

from quart import Blueprint, Response, request

from orchestrator.storage.ports import AuditQuery
from orchestrator.web import wire
from orchestrator.web.context import Context, json_response


def routes(context: Context) -> Blueprint:
    """`GET /audit`."""
    blueprint = Blueprint("audit", __name__)

    @blueprint.get("/audit")
    async def entries() -> Response:
        page = await context.gateway.audit(
            AuditQuery(
                task_id=wire.query(request, "task_id"),
                case_id=wire.query(request, "case_id"),
                event=wire.query(request, "event"),
                since=wire.instant(wire.query(request, "since"), "since"),
                after=wire.whole(wire.query(request, "after"), "after", 0, 0, 2**53),
                limit=wire.whole(wire.query(request, "limit"), "limit", 100, 1, 1000),
            )
        )
        # Asked afterwards: what is removed in between is said to be missing, never the other way round.
        since = await context.gateway.audit_complete_since()
        entries = [wire.audit_entry(entry) for entry in page.entries]
        return json_response({"entries": entries, "next": page.next, "complete_since": since})

    return blueprint
