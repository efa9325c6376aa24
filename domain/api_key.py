"""API keys: a name and a secret of 256 bits, of which only a hash is kept.

The secret comes from the entropy of the machine and not from a person, so one round of SHA-256 is enough: there is no
dictionary to try.
"""

import re
from collections.abc import Set
from hashlib import sha256
from hmac import compare_digest

from msgspec import Struct

from orchestrator.domain.audit import rfc3339
from orchestrator.domain.identity import Grant, Principal, Scope

PREFIX = "rok_"
ENTROPY = 40
"""Bytes: 8 for the name, 32 for the secret."""
_FORM = re.compile(r"rok_([0-9a-f]{16})_([0-9a-f]{64})", re.ASCII)
_HASH = re.compile(r"[0-9a-f]{64}", re.ASCII)


class ApiKey(Struct, frozen=True):
    """A key as it is kept. `created_at` is in seconds since the epoch."""

    key_id: str
    subject: str
    scopes: tuple[Scope, ...]
    secret_hash: str
    created_at: float

    @property
    def principal(self) -> Principal:
        """Who presents the key."""
        return Principal(self.subject, frozenset(self.scopes))

    def matches(self, secret: str) -> bool:
        """Whether the key was made with `secret`; takes as long either way."""
        return compare_digest(self.secret_hash, _hashed(secret))

    def shown(self) -> dict[str, object]:
        """What operators may see of it."""
        return {
            "key_id": self.key_id,
            "subject": self.subject,
            "scopes": list(self.scopes),
            "created_at": rfc3339(self.created_at),
        }


class FirstKey(str):
    """A key that the settings give: the SHA-256 of its text in hex digits, its holder, what it may; spaces between.

    Raises ValueError.
    """

    def __new__(cls, text: str) -> "FirstKey":
        line = super().__new__(cls, text)
        if not _HASH.fullmatch(line._hash):
            raise ValueError("is no SHA-256 of a key with its holder and scopes, such as `9f86… root operate`")
        Grant(line._granted)
        return line

    @property
    def principal(self) -> Principal:
        """Who presents the key."""
        grant = Grant(self._granted)
        return Principal(grant.subject, grant.scopes)

    def matches(self, text: str) -> bool:
        """Whether it is the key that is written so; takes as long either way."""
        return _FORM.fullmatch(text) is not None and compare_digest(self._hash, _hashed(text))

    @property
    def _hash(self) -> str:
        return self.partition(" ")[0]

    @property
    def _granted(self) -> str:
        return self.partition(" ")[2]


def make(subject: str, scopes: Set[Scope], entropy: bytes, now: float) -> tuple[ApiKey, str]:
    """A key for `subject`, and its text, which is shown once and kept nowhere. `entropy` has ENTROPY bytes."""
    key_id, secret = entropy[:8].hex(), entropy[8:].hex()
    key = ApiKey(key_id, subject, tuple(sorted(scopes)), _hashed(secret), now)
    return key, f"{PREFIX}{key_id}_{secret}"


def parts(text: str) -> tuple[str, str] | None:
    """The name and the secret of a key as a caller presents it; None for what is no key."""
    found = _FORM.fullmatch(text)
    return (found[1], found[2]) if found else None


def _hashed(secret: str) -> str:
    return sha256(secret.encode()).hexdigest()
