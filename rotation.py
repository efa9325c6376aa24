"""A new master key: the data keys of all tasks are wrapped anew. What they encrypt stays as it is."""

from orchestrator.domain.audit import AuditDraft
from orchestrator.kernel.environment import Environment
from orchestrator.settings import Settings
from orchestrator.storage.commands import Note, Rewrap, Rewrapped
from orchestrator.storage.opening import open_ledger
from orchestrator.storage.ports import Unreadable
from orchestrator.storage.sealing import codec_of

EVENT = "encryption_rotated"


async def rotate(settings: Settings) -> int:
    """Puts every data key under the first master key, and returns how many were not. Broken off, it can go on.

    Raises InvalidMasterKey, and what the ledger raises; LedgerLocked while a process serves from a SQLite file.
    """
    environment, storage = Environment.real(), settings.storage
    codec = codec_of(storage.encryption_key, environment.entropy)
    ledger = await open_ledger(storage.database_url, writer=storage.writer, now=environment.now, codec=codec)
    try:
        changed, last = 0, 0
        while last is not None:
            (outcome,) = await ledger.commit([Rewrap(last)])
            if not isinstance(outcome, Rewrapped):
                raise Unreadable("the ledger did not take the new keys")
            changed, last = changed + outcome.changed, outcome.last
        await ledger.commit([Note(AuditDraft(event=EVENT, created_at=environment.now()))])
        return changed
    finally:
        await ledger.close()
