"""API keys: made, listed, found and revoked. They are in the ledger, so that replicas share them."""

from collections.abc import Awaitable, Callable, Set

from orchestrator.actors.reading import read
from orchestrator.domain import api_key
from orchestrator.domain.api_key import ApiKey
from orchestrator.domain.audit import AuditDraft
from orchestrator.domain.errors import AuditUnavailable, Forbidden, NotFound
from orchestrator.domain.identity import Principal, Scope
from orchestrator.kernel.environment import Environment
from orchestrator.storage.commands import Command, ForgetApiKey, Noted, Outcome, SaveApiKey
from orchestrator.storage.ports import LedgerReader

Commit = Callable[[Command], Awaitable[Outcome]]


class Keyring:
    """All methods raise an OrchestratorError for what a caller should be told."""

    def __init__(self, environment: Environment, reader: LedgerReader, commit: Commit) -> None:
        self._environment, self._reader, self._commit = environment, reader, commit

    async def create(self, by: Principal, subject: str, scopes: Set[Scope]) -> tuple[ApiKey, str]:
        """A key and its text, which is kept nowhere. Nobody hands out a right that it has not got itself."""
        if not scopes <= by.scopes:
            raise Forbidden("A key can have those scopes only that its maker has.")
        now = self._environment.now()
        key, text = api_key.make(subject, scopes, self._environment.entropy(api_key.ENTROPY), now)
        await self._store(SaveApiKey(key, _audit("key_created", key, by, now)))
        return key, text

    async def revoke(self, by: Principal, key_id: str) -> None:
        """Removes the key. From the commit on no replica takes it."""
        key = await read(self._reader.api_key(key_id))
        if key is None:
            raise NotFound("There is no such key.")
        await self._store(ForgetApiKey(key_id, _audit("key_revoked", key, by, self._environment.now())))

    async def all(self) -> list[ApiKey]:
        """All keys, by their ids."""
        return await read(self._reader.api_keys())

    async def find(self, text: str) -> ApiKey | None:
        """The key that was handed out as `text`. Asks the ledger each time: a revoked key ends at once, everywhere."""
        found = api_key.parts(text)
        if found is None:
            return None
        key_id, secret = found
        key = await read(self._reader.api_key(key_id))
        return key if key is not None and key.matches(secret) else None

    async def _store(self, command: Command) -> None:
        if not isinstance(await self._commit(command), Noted):
            raise AuditUnavailable("The ledger did not take this key.")


def _audit(event: str, key: ApiKey, by: Principal, now: float) -> AuditDraft:
    """The entry says which key and who did it; whose key it is stands in the reason."""
    return AuditDraft(event=event, created_at=now, principal=by.subject, reason=f"{key.key_id} {key.subject}")
