"""A form that sends a task, or says what would be decided about it."""

from collections.abc import Mapping
from typing import Any

from quart import Blueprint, Response, request

from orchestrator.domain.errors import OrchestratorError
from orchestrator.domain.strict_json import Bounds, decode
from orchestrator.domain.task import Priority
from orchestrator.web import wire
from orchestrator.web.dashboard import stories
from orchestrator.web.dashboard.pages import Pages, check_origin, see
from orchestrator.web.problems import fields_of

EMPTY: Mapping[str, str] = {
    "case_id": "", "task_type": "", "payload": "{}", "priority": Priority.NORMAL.value, "site": "", "deadline_s": "",
    "consent_given": "", "consent_id": "", "idempotency_key": "",
}  # fmt: skip


def add(blueprint: Blueprint, pages: Pages) -> None:
    """`/ui/send`."""
    context = pages.context
    types, classes = sorted(context.settings.tasks.types), [priority.value for priority in Priority]

    def form(status: int = 200, **values: Any) -> Response:
        known: dict[str, Any] = {"fields": EMPTY, "problem": None, "judged": None, "refused": False}
        return pages.page("send.html", status, **(known | values), types=types, classes=classes)

    @blueprint.get("/ui/send")
    async def send() -> Response:
        return form()

    @blueprint.post("/ui/send")
    async def sent() -> Response:
        check_origin()
        given, _ = await wire.read_fields(request, context.bounds)
        fields = {name: str(given.get(name, "")) for name in EMPTY}
        try:
            task = wire.task_request(body_of(fields, context.bounds), [])
            if given.get("action") == "explain":
                decision = await context.gateway.explain(task)
                return form(fields=fields, judged=stories.judged(decision), refused=decision.refused)
            context.rates.admit_task(request, task)
            routed = await context.gateway.route(task)
        except OrchestratorError as error:
            status, problem = fields_of(error)
            return form(status, fields=fields, problem=problem)
        return see(f"/ui/task/{routed.record.task.task_id}")


def body_of(fields: Mapping[str, str], bounds: Bounds) -> dict[str, Any]:
    """The body that an API client would send for what stands in the form. Raises an OrchestratorError."""
    consent: dict[str, Any] = {"consent_given": fields["consent_given"] == "yes"}
    if fields["consent_id"]:
        consent["consent_id"] = fields["consent_id"]
    body: dict[str, Any] = {name: fields[name] for name in ("case_id", "task_type", "priority")}
    body |= {"payload": decode(fields["payload"].encode(), bounds), "consent": consent}
    if fields["site"]:
        body["meta"] = {"site": fields["site"]}
    if fields["idempotency_key"]:
        body["idempotency_key"] = fields["idempotency_key"]
    if fields["deadline_s"]:
        body["deadline_s"] = wire.seconds(fields["deadline_s"], "deadline_s", 1e9)
    return body
