"""A ledger copied to another disk, and a ledger made of a copy. Each is checked, chain and all, before it counts."""

from pathlib import Path
from urllib.parse import quote

from anyio.to_thread import run_sync

from orchestrator.auditing import Report, verify
from orchestrator.domain.audit import AuditDraft
from orchestrator.kernel.environment import Environment
from orchestrator.storage.commands import Note
from orchestrator.storage.opening import UnsupportedURL, open_ledger, sqlite_path
from orchestrator.storage.ports import LedgerCorrupt
from orchestrator.storage.sealing import PLAIN, Codec
from orchestrator.storage.sqlite import copying


async def back_up(url: str, file: Path) -> Report:
    """Copies the embedded ledger at `url`, in use or not, to the new `file`, which gets its name once it is verified.

    Raises FileExistsError, FileNotFoundError, OSError, UnsupportedURL, or a LedgerError; then there is no `file`.
    """
    source, partial = _embedded(url), f"{file}.partial"
    await run_sync(copying.check, source)
    await run_sync(copying.copy, source, partial)
    try:
        report = await _sound(partial)
        await run_sync(copying.publish, partial, str(file))
    finally:
        copying.discard(partial)
    return report


async def restore(url: str, file: Path, codec: Codec = PLAIN) -> Report:
    """Puts the backup `file` in the place of the embedded ledger at `url`, after verifying its trail.

    That it was restored becomes an entry of the trail. Raises LedgerLocked while a process owns the ledger, and what
    `back_up` raises.
    """
    target = _embedded(url)
    await run_sync(copying.check, str(file))
    report = await _sound(str(file))
    await run_sync(copying.put_in_place, str(file), target)
    ledger = await open_ledger(url, codec=codec)
    try:
        ends = ", ".join(f"{head.writer}-{head.seq}" for head in report.heads)
        draft = AuditDraft(event="restored", created_at=Environment.real().now(), reason=f"backup up to {ends}")
        await ledger.commit([Note(draft)])
    finally:
        await ledger.close()
    return report


def _embedded(url: str) -> str:
    try:
        return sqlite_path(url)
    except UnsupportedURL:
        raise UnsupportedURL("only the embedded ledger is backed up here; for PostgreSQL use its own tools") from None


async def _sound(file: str) -> Report:
    """What is said of the trail of a copy. Raises LedgerCorrupt where it does not hold."""
    report = await verify(f"sqlite:///{quote(file)}")
    if report.flaws:
        flaw = report.flaws[0]
        raise LedgerCorrupt(f"the audit trail does not hold: {flaw.audit_id or flaw.writer}: {flaw.what}")
    return report
