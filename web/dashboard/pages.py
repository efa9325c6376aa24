"""What every page is made with: the templates, the policy of its content, and what stands on each of them."""

import re
from collections.abc import Mapping
from hashlib import sha256
from importlib import resources
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from quart import Response, request

from orchestrator import __version__
from orchestrator.domain.errors import Forbidden
from orchestrator.domain.identity import Principal
from orchestrator.storage.browsing import NEWEST
from orchestrator.web import wire
from orchestrator.web.context import Context
from orchestrator.web.dashboard import words
from orchestrator.web.dashboard.sessions import Sessions
from orchestrator.web.origins import here
from orchestrator.web.rights import caller

POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; form-action 'self';"
    " base-uri 'none'; frame-ancestors 'none'"
)
TYPES = {"js": "text/javascript; charset=utf-8", "css": "text/css; charset=utf-8", "svg": "image/svg+xml"}
FOLDERS = ("static", "vendor")


class Pages:
    """Renders templates for whoever is signed in."""

    def __init__(self, context: Context, sessions: Sessions) -> None:
        self.context, self.sessions = context, sessions
        self.files = {
            file.name: file.read_bytes()
            for folder in FOLDERS
            for file in resources.files("orchestrator.web.dashboard").joinpath(folder).iterdir()
            if file.name.rpartition(".")[2] in TYPES
        }
        self._environment = Environment(
            loader=PackageLoader("orchestrator.web.dashboard"),
            autoescape=True,
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
        )
        self._environment.filters.update(words.FILTERS)
        given: dict[str, Any] = self._environment.globals
        given |= {"file": self._file_url, "version": __version__}

    def page(self, template: str, status: int = 200, **values: Any) -> Response:
        """A whole page."""
        principal = caller()
        signed_in = self.sessions.needed and bool(principal.subject)
        known: dict[str, Any] = {
            "dangers": self.context.dangers,
            "reasons": self.context.system.unready(),
            "principal": principal,
            "may": rights_of(principal),
            "signed_in": signed_in,
            "here": request.path,
        }
        return self.html(self.text(template, {**known, **values}), status)

    def text(self, template: str, values: Mapping[str, Any]) -> str:
        """A template with `values`: what is in them is text, never markup."""
        return self._environment.get_template(template).render(values)

    def html(self, text: str, status: int = 200) -> Response:
        """`text` as an answer of the page."""
        return strict(Response(text, status=status, content_type="text/html; charset=utf-8"))

    def _file_url(self, name: str) -> str:
        # The name changes with the content, so that a browser may keep it.
        return f"/ui/static/{name}?v={sha256(self.files[name]).hexdigest()[:12]}"


def strict(response: Response) -> Response:
    """With the policy of the page on it. The referrer stays, within the page: without it browsers hide the origin."""
    response.headers["Content-Security-Policy"] = POLICY
    response.headers["Referrer-Policy"] = "same-origin"
    response.headers["Cross-Origin-Opener-Policy"] = "same-origin"
    return response


def see(path: str) -> Response:
    """After an action: look there."""
    return strict(Response("", status=303, headers={"Location": path}))


def cursor(before: Any) -> int:
    """Below which place a page of a list is looked for, by a field of that name. Raises InvalidRequest."""
    return wire.whole(None if before is None else str(before), "before", NEWEST, 1, NEWEST)


def rights_of(principal: Principal) -> frozenset[str]:
    """The scopes as templates ask for them: `tasks_read` for `tasks:read`."""
    return frozenset(re.sub(r"\W", "_", scope.value) for scope in principal.scopes)


def check_origin() -> None:
    """Raises Forbidden for an action that another site asked the browser for (CSRF).

    Browsers name the origin of each POST, and no script can change it.
    """
    origin, site = request.headers.get("Origin", ""), request.headers.get("Sec-Fetch-Site", "same-origin")
    if not here(origin, request.host) or site != "same-origin":
        raise Forbidden("The request does not come from this page.")
