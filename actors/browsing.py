"""What people look through, as a principal may see it."""

from collections.abc import AsyncIterator

from msgspec import Struct
from msgspec.structs import replace

from orchestrator.actors.reading import read
from orchestrator.actors.verifying import Report, verifying
from orchestrator.domain.audit import AuditEntry, Head
from orchestrator.domain.errors import AuditUnavailable, Forbidden, NotFound
from orchestrator.domain.evidence import Evidence
from orchestrator.domain.identity import Principal
from orchestrator.storage.browsing import AuditSearch, Found, TaskPage, TaskQuery
from orchestrator.storage.ports import LedgerError, LedgerReader


class Trail(Struct, frozen=True):
    """The end of each chain, and the newest signed checkpoint, if there is one."""

    heads: list[Head]
    checkpoint: AuditEntry | None


class Browser:
    """All methods raise an OrchestratorError for what a caller should be told."""

    def __init__(self, reader: LedgerReader, principal: Principal) -> None:
        self._reader, self._principal = reader, principal

    async def tasks(self, query: TaskQuery) -> TaskPage:
        """Tasks that fit, newest first; who does not operate sees his own."""
        own = None if self._principal.operates else self._principal.subject
        return await read(self._reader.briefs(replace(query, principal=own)))

    async def audit(self, search: AuditSearch) -> Found:
        """Audit entries that fit, newest first. Who does not operate asks for those of a task of his own."""
        if not self._principal.operates:
            if search.task_id is None:
                raise Forbidden("Without the scope operate, audit entries are those of a task: name it.")
            record = await read(self._reader.task(search.task_id))
            if record is None or not self._principal.owns(record.task.principal):
                raise NotFound("There is no such task.")
        return await read(self._reader.newest(search))

    async def events(self) -> list[str]:
        """The events that there are entries of, by their names."""
        return await read(self._reader.events())

    async def trail(self) -> Trail:
        """Where the chains end; for operators."""
        self._check_operates()
        return Trail(await read(self._reader.audit_heads()), await read(self._reader.last_checkpoint()))

    async def verify(self, evidence: Evidence) -> AsyncIterator[int | Report]:
        """Checks the whole trail as it is now; tells how many entries it looked at, then the report. For operators."""
        self._check_operates()
        try:
            heads = await self._reader.audit_heads()
            async for step in verifying(heads, self._reader.audit_chain, evidence, growing=True):
                yield step
        except LedgerError:
            raise AuditUnavailable("The ledger cannot be read.", retry_after=1) from None

    def _check_operates(self) -> None:
        if not self._principal.operates:
            raise Forbidden("The scope operate is needed.")
