"""How idempotency keys stand in a ledger: as digests under a secret of its own, so that reading it tells no key.

HMAC-SHA256 (RFC 2104), cut to 128 bits. The secret is in the ledger, since its replicas must agree on it; where there
is a master key it is sealed like a task's payload, and then no guess at a key can be tried without that either.
"""

from hashlib import sha256

from msgspec import Struct

from orchestrator.domain.discretion import discreet
from orchestrator.kernel.environment import Environment
from orchestrator.storage.commands import Key
from orchestrator.storage.sealing import Codec

PURPOSE = "idempotency_keys"
"""The secret's name in the ledger, and what it is sealed for."""
_SIZE, _KEPT = 32, 16
_BLOCK, _INNER, _OUTER = 64, 0x36, 0x5C
"""Of SHA-256, and of RFC 2104."""


class Kept(Struct, frozen=True):
    """The secret as it stands in the ledger; `data_key` is wrapped, and None where nothing is sealed."""

    data_key: bytes | None
    secret: bytes

    __repr__ = discreet


class Worn(Struct, frozen=True):
    """A key as it is stored and looked for: 16 bytes for it within its scope, 16 for what it stands for."""

    scope: str
    digest: bytes
    fingerprint: bytes
    expires_at: float | None

    __repr__ = discreet


class Disguise:
    """Digests of keys, and of what they stand for. The same for the same, in one ledger."""

    def __init__(self, secret: bytes) -> None:
        # Keyed once, and written out: to copy two hashes costs half of what an object of the module `hmac` does.
        key = secret.ljust(_BLOCK, b"\0")
        self._inner = sha256(bytes(byte ^ _INNER for byte in key))
        self._outer = sha256(bytes(byte ^ _OUTER for byte in key))

    def wear(self, key: Key) -> Worn:
        """What stands for the key and its fingerprint. Equal keys of two scopes, or bodies under two, differ.

        Raises ValueError for what is no text.
        """
        digest = self._digest(f"{len(key.scope)}:{key.scope}{key.key}")
        return Worn(key.scope, digest, self._digest(f"{digest.hex()}{key.fingerprint}"), key.expires_at)

    def _digest(self, text: str) -> bytes:
        inner, outer = self._inner.copy(), self._outer.copy()
        inner.update(text.encode())
        outer.update(inner.digest())
        return outer.digest()[:_KEPT]


def settled(kept: Kept | None, codec: Codec) -> tuple[Disguise, Kept]:
    """The ledger's disguise, made if there is none, and how its secret is to be kept from here on.

    That is sealed as soon as there is a master key, and under the current one. Raises Unreadable.
    """
    if kept is None or kept.data_key is None:
        secret, key = kept.secret if kept else Environment.real().entropy(_SIZE), codec.new_key(PURPOSE)
        return Disguise(secret), Kept(key, codec.seal(key, PURPOSE, "secret", secret))
    secret = codec.open(kept.data_key, PURPOSE, "secret", kept.secret)
    return Disguise(secret), Kept(codec.rewrapped(kept.data_key, PURPOSE) or kept.data_key, kept.secret)
