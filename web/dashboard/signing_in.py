"""Signing in to the page by key, token or certificate, and out again. Without authentication nobody needs to."""

from quart import Blueprint, Response, request

from orchestrator.domain.errors import Unauthenticated
from orchestrator.web import wire
from orchestrator.web.dashboard.pages import Pages, check_origin, see
from orchestrator.web.dashboard.sessions import COOKIE, LASTS_S, cookie_of
from orchestrator.web.identity.authenticator import MAX_TOKEN
from orchestrator.web.identity.strangers import Strangers

WORDS = {
    "": "",
    "ended": "You were signed out: the session is over, or its key is not valid any more.",
    "out": "You are signed out.",
}
NOT_VALID = "That key, token or certificate is not valid, or it is not of the one whose certificate the browser shows."


def add(blueprint: Blueprint, pages: Pages) -> None:
    """`/ui/sign-in` and `/ui/sign-out`."""
    sessions, context = pages.sessions, pages.context
    strangers = Strangers(context.telemetry)

    async def form(status: int, said: str) -> Response:
        return pages.page("sign_in.html", status, said=said, certified=await sessions.certified(request))

    @blueprint.get("/ui/sign-in")
    async def sign_in() -> Response:
        if not sessions.needed:
            return see("/")
        return await form(200, WORDS.get(request.args.get("why", ""), ""))

    @blueprint.post("/ui/sign-in")
    async def signed_in() -> Response:
        check_origin()
        fields, _ = await wire.read_fields(request, context.bounds)
        # Without the field, whoever is asked for means his certificate.
        credential = str(fields["credential"]).strip() if "credential" in fields else None
        try:
            if credential is not None and not 0 < len(credential) <= MAX_TOKEN:
                raise Unauthenticated("That is neither a key nor a token.")
            cookie = await sessions.open(request, credential)
        except Unauthenticated:
            strangers.seen()
            context.rates.admit_stranger(request)
            return await form(401, NOT_VALID)
        response, secure = see("/"), request.scheme == "https"
        response.set_cookie(COOKIE, cookie, int(LASTS_S), secure=secure, httponly=True, samesite="Strict")
        return response

    @blueprint.post("/ui/sign-out")
    async def sign_out() -> Response:
        check_origin()
        response = see("/ui/sign-in?why=out")
        sessions.close(cookie_of(request))
        response.delete_cookie(COOKIE, httponly=True, samesite="Strict")
        return response
