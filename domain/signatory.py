"""Who testifies to the trail, with one key: that it was so long, and that its beginning was removed."""

from collections.abc import Iterable

from msgspec import Struct

from orchestrator.domain.anchor import anchor
from orchestrator.domain.audit import AuditDraft, Head
from orchestrator.domain.checkpoint import Sign, checkpoint


class Signatory(Struct, frozen=True):
    """A public key in hex digits, and what signs with the private one."""

    public_key: str
    sign: Sign

    def checkpoint(self, heads: Iterable[Head], now: float) -> AuditDraft:
        """The entry that testifies to the ends of all chains at `now`, in seconds since the epoch."""
        return checkpoint(heads, now, self.public_key, self.sign)

    def anchor(self, begins: Iterable[Head], kept_s: int, now: float) -> AuditDraft:
        """The entry that testifies to the removal of all up to `begins`, which was kept for `kept_s` seconds."""
        return anchor(begins, kept_s, now, self.public_key, self.sign)
