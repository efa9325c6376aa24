"""Whether a web page elsewhere had a browser send a request (cross-site request forgery)."""

from orchestrator.domain.errors import Forbidden
from orchestrator.web.asked import Asked

SAFE = frozenset({"GET", "HEAD", "OPTIONS"})


def refuse_foreign(request: Asked) -> None:
    """Raises Forbidden for what would change something and was asked for by a page of another origin.

    A form needs no leave to be sent anywhere, and where nobody need say who he is, reaching this machine is enough.
    Browsers name the origin of each such request, and no script can change it; programs name none (RFC 6454).
    """
    if request.method in SAFE:
        return
    origin = request.headers.get("Origin", "")
    if not origin:
        return
    site, host = request.headers.get("Sec-Fetch-Site", ""), request.headers.get("Host", "")
    # A proxy may change the host, and then the browser itself says that the page is of the same origin.
    if site != "same-origin" and (site or not here(origin, host)):
        raise Forbidden("The request comes from a page of another site.")


def here(origin: str, host: str) -> bool:
    """Whether the origin is that of this host; behind a proxy the scheme is not known here."""
    return bool(host) and origin.partition("://")[2].lower() == host.lower()
