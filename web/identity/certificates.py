"""Callers known by the certificate of their connection (mutual TLS), and what the settings let them do."""

from collections.abc import Callable, Mapping
from ssl import cert_time_to_seconds
from typing import Any

from msgspec import Struct

from orchestrator.domain.errors import Unauthenticated
from orchestrator.domain.identity import Principal, Scope, certified_subject
from orchestrator.settings import Auth

STATE = "orchestrator.certificate"
"""Where the server leaves it in `scope["state"]`. No client can write there, and other servers do not."""
LEAVING = "orchestrator.leaving"
"""Beside it, what says whether the connection is to end: certificates are shown anew after that."""


class Certificate(Struct, frozen=True):
    """A certificate that was shown and verified; its `subject` is None where it names nobody, or several.

    `ends_at` is in seconds since the epoch: connections may last for longer.
    """

    subject: str | None
    ends_at: float


def certificate_of(peer: Mapping[str, Any] | None) -> Certificate | None:
    """The certificate of a connection, from what `ssl` tells of it; None where none was shown, or without TLS."""
    if not peer:
        return None
    return Certificate(certified_subject(peer.get("subjectAltName", ())), cert_time_to_seconds(peer["notAfter"]))


def with_certificate(
    state: Mapping[str, Any], certificate: Certificate | None, leaving: Callable[[], bool]
) -> dict[str, Any]:
    """The state of the scopes of a connection: what all have, with whom this one is with, and whether it is to end."""
    return {**state, STATE: certificate, LEAVING: leaving}


class CertificateHolders:
    """From a certificate to the principal behind it."""

    def __init__(self, auth: Auth, now: Callable[[], float]) -> None:
        self._now = now
        self._taken = bool(auth.certificate_ca_file)
        self._everybody = frozenset(auth.certificate_scopes)
        self._single: dict[str, frozenset[Scope]] = {}
        for grant in auth.certificates:
            self._single[grant.subject] = self._single.get(grant.subject, frozenset()) | grant.scopes

    def principal(self, state: Mapping[str, Any]) -> Principal | None:
        """Who the connection is with, by the state of its scope; None without a certificate. Raises Unauthenticated."""
        shown = state.get(STATE) if self._taken else None
        if shown is None:
            return None
        if shown.subject is None:
            raise Unauthenticated("The certificate does not name one caller, by one DNS name or URI.")
        if self._now() >= shown.ends_at:
            raise Unauthenticated("The certificate has ended.")
        return Principal(shown.subject, self._everybody | self._single.get(shown.subject, frozenset()))
