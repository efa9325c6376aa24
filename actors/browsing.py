"""What people look through, as a principal may see it."""

from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing

from msgspec import Struct
from msgspec.structs import replace

from orchestrator.actors.reading import read
from orchestrator.actors.verifying import Report, verifying
from orchestrator.domain.audit import AuditEntry, Head
from orchestrator.domain.errors import AuditUnavailable, Forbidden, NotFound
from orchestrator.domain.evidence import Evidence
from orchestrator.domain.identity import Principal
from orchestrator.domain.retention import Begin
from orchestrator.storage.browsing import AuditSearch, Found, TaskPage, TaskQuery
from orchestrator.storage.ports import LedgerError, LedgerReader


class Trail(Struct, frozen=True):
    """Each chain's end, its beginning where that was removed, and the newest signed checkpoint, if there is one."""

    heads: list[Head]
    begins: list[Begin]
    checkpoint: AuditEntry | None

    @property
    def entries(self) -> dict[str, int]:
        """How many entries of each writer there are."""
        gone = {begin.place.writer: begin.place.seq for begin in self.begins}
        return {head.writer: head.seq - gone.get(head.writer, 0) for head in self.heads}


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
        heads, begins = await read(self._reader.audit_heads()), await read(self._reader.begins())
        return Trail(heads, begins, await read(self._reader.last_checkpoint()))

    async def verify(self, evidence: Callable[[], Evidence]) -> AsyncGenerator[int | Report]:
        """Checks the whole trail as it is now; tells how many entries it looked at, then the report. For operators.

        It begins anew, with new `evidence`, where entries were removed under its hands: they would seem to be missing.
        """
        self._check_operates()
        try:
            while True:
                begins, heads = await self._reader.begins(), await self._reader.audit_heads()
                async with aclosing(verifying(heads, self._reader.audit_chain, evidence(), growing=True)) as steps:
                    async for step in steps:
                        if isinstance(step, Report) and step.flaws and begins != await self._reader.begins():
                            break
                        yield step
                    else:
                        return
        except LedgerError:
            raise AuditUnavailable("The ledger cannot be read.", retry_after=1) from None

    def _check_operates(self) -> None:
        if not self._principal.operates:
            raise Forbidden("The scope operate is needed.")
