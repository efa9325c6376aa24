"""Who asks, and what he may ask for."""

from collections.abc import Iterable
from enum import StrEnum
from typing import Annotated

from msgspec import Meta, Struct, ValidationError, convert

Subject = Annotated[str, Meta(min_length=1, max_length=200, pattern=r"^[\x21-\x7e]+$(?!\n)")]
"""The name of a principal: printable ASCII without spaces."""


class Scope(StrEnum):
    """A right. None implies another; `operate` lifts the bounds of ownership, and is needed to administer."""

    TASKS_SUBMIT = "tasks:submit"
    TASKS_READ = "tasks:read"
    TASKS_CANCEL = "tasks:cancel"
    AGENTS_REGISTER = "agents:register"
    AGENTS_READ = "agents:read"
    AUDIT_READ = "audit:read"
    DLQ_REPLAY = "dlq:replay"
    OPERATE = "operate"
    BREAKGLASS = "breakglass"


class Grant(str):
    """A caller and what it may do, with spaces between: `ward-3.clinic tasks:submit`. Raises ValueError."""

    def __new__(cls, text: str) -> "Grant":
        grant = super().__new__(cls, text)
        words = text.split(" ")[1:]
        if not is_subject(grant.subject) or not words or any(word not in list(Scope) for word in words):
            raise ValueError("is no caller with its scopes, such as `ward-3.clinic tasks:submit tasks:read`")
        return grant

    @property
    def subject(self) -> str:
        return self.partition(" ")[0]

    @property
    def scopes(self) -> frozenset[Scope]:
        return scopes_of(self.partition(" ")[2])


_ANONYMOUS = "anonymous"


class Principal(Struct, frozen=True):
    """Whoever stands behind a request: the subject of a token, of an API key or of a certificate, and its rights."""

    subject: str
    scopes: frozenset[Scope] = frozenset()

    @property
    def operates(self) -> bool:
        """Whether it sees, and acts on, what belongs to others."""
        return Scope.OPERATE in self.scopes

    @property
    def breaks_glass(self) -> bool:
        """Whether it may override consent: who does must be somebody that can be named."""
        return Scope.BREAKGLASS in self.scopes and self.subject != _ANONYMOUS

    def owns(self, subject: str) -> bool:
        """Whether it may see and change what belongs to `subject`."""
        return self.operates or self.subject == subject


ANONYMOUS = Principal(_ANONYMOUS, frozenset(Scope))
"""Everybody, where no authentication is configured; and the program that embeds the orchestrator."""

NOBODY = Principal("")
"""Who was not asked who he is. It owns nothing, since nothing belongs to the empty name."""


def scopes_of(text: str) -> frozenset[Scope]:
    """The scopes in a list with spaces between (RFC 6749 §3.3). What is no scope of ours gives no right."""
    words = text.split()
    return frozenset(scope for scope in Scope if scope.value in words)


def is_subject(text: str) -> bool:
    """Whether a principal may be called so."""
    try:
        convert(text, Subject)
    except ValidationError:
        return False
    return True


def certified_subject(names: Iterable[tuple[str, str]]) -> str | None:
    """Who a certificate is for, by its subjectAltNames with their kinds (RFC 5280 §4.2.1.6): one DNS name or URI.

    None where there are none, or several, or one that stands for many. The common name never counts (RFC 9525 §2).
    """
    listed = list(names)
    if len(listed) != 1:
        return None
    kind, name = listed[0]
    return name if kind in ("DNS", "URI") and "*" not in name and is_subject(name) else None
