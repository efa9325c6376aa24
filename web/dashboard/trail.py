"""The audit: browsed, filtered, verified, and how its chains stand."""

from contextlib import aclosing
from typing import Any

import anyio.lowlevel
from quart import Blueprint, Response, request

from orchestrator.actors.verifying import Report
from orchestrator.domain.errors import InvalidRequest
from orchestrator.domain.evidence import Evidence
from orchestrator.storage.browsing import NEWEST, AuditSearch
from orchestrator.web import wire
from orchestrator.web.dashboard import stories
from orchestrator.web.dashboard.live import END, Parts, live
from orchestrator.web.dashboard.pages import Pages, cursor
from orchestrator.web.rights import asked_again, caller
from orchestrator.web.streaming import Streams

FIELDS = ("task_id", "case_id", "event", "since")


def add(blueprint: Blueprint, pages: Pages) -> None:
    """`/ui/audit…`. One check of the whole trail at a time: it reads all of it."""
    context, checks = pages.context, Streams(1)

    async def listed(search: AuditSearch, problem: str = "") -> Response:
        operates, browser = caller().operates, context.gateway.browser
        seen = operates or search.task_id is not None
        return pages.page(
            "audit.html",
            problem=problem,
            search=search,
            fields=FIELDS,
            events=await browser.events(),
            found=await browser.audit(search) if seen and not problem else None,
            trail=await browser.trail() if operates else None,
            judged=lambda entry: None if (d := stories.decision_of(entry)) is None else stories.judged(d),  # pyright: ignore[reportUnknownLambdaType, reportUnknownArgumentType]
            newest=NEWEST,
        )

    @blueprint.get("/ui/audit")
    async def audit() -> Response:
        return await listed(_search(request.args))

    @blueprint.post("/ui/audit")
    async def filtered() -> Response:
        fields, _ = await wire.read_fields(request, context.bounds)
        try:
            return await listed(_search(fields))
        except InvalidRequest as error:
            return await listed(AuditSearch(), error.detail)

    @blueprint.get("/ui/audit/verify")
    async def verify() -> Response:
        return pages.page("verify.html", trail=await context.gateway.browser.trail())

    @blueprint.get("/ui/audit/verification")
    async def verification() -> Response:
        from orchestrator.crypto.signing import verifies

        steps = context.gateway.browser.verify(lambda: Evidence(verifies))

        async def take() -> Parts:
            step = await anext(steps)
            if not isinstance(step, Report):
                return {"check": pages.text("part_check.html", {"seen": step, "report": None})}
            return {"check": pages.text("part_check.html", {"seen": 0, "report": step}), END: ""}

        wait, around = anyio.lowlevel.checkpoint, aclosing(steps)
        return live(checks, take, asked_again(), lambda: context.system.closing, wait, around)


def _search(fields: Any) -> AuditSearch:
    task_id, case_id, event, since = (str(fields.get(name) or "").strip() or None for name in FIELDS)
    return AuditSearch(task_id, case_id, event, wire.instant(since, "since"), cursor(fields.get("before")))
