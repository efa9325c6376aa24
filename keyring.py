"""API keys in a ledger that no other process owns: how the first one is made, before anything serves."""

from collections.abc import Awaitable, Callable, Set
from typing import TypeVar

from orchestrator.actors.keyring import Keyring
from orchestrator.domain.api_key import ApiKey
from orchestrator.domain.identity import Principal, Scope
from orchestrator.kernel.environment import Environment
from orchestrator.storage.commands import Command, Outcome
from orchestrator.storage.opening import UnsupportedURL, open_ledger
from orchestrator.storage.sealing import PLAIN, Codec

T = TypeVar("T")

CONSOLE = Principal("console", frozenset(Scope))
"""Whoever may write the database itself."""


async def create(url: str, codec: Codec = PLAIN, *, subject: str, scopes: Set[Scope]) -> tuple[ApiKey, str]:
    """A new key in the ledger at `url`, and its text. Raises LedgerLocked while an orchestrator serves from it."""
    return await _on(url, codec, lambda keyring: keyring.create(CONSOLE, subject, scopes))


async def revoke(url: str, codec: Codec = PLAIN, *, key_id: str) -> None:
    """Removes a key. Raises NotFound, or LedgerLocked."""
    await _on(url, codec, lambda keyring: keyring.revoke(CONSOLE, key_id))


async def all_keys(url: str, codec: Codec = PLAIN) -> list[ApiKey]:
    """All keys. Raises LedgerLocked."""
    return await _on(url, codec, lambda keyring: keyring.all())


async def _on(url: str, codec: Codec, work: Callable[[Keyring], Awaitable[T]]) -> T:
    if url == "memory://":
        raise UnsupportedURL("a ledger in memory has no keys but while it serves: name the orchestrator by --url")
    ledger = await open_ledger(url, codec=codec)

    async def commit(command: Command) -> Outcome:
        return (await ledger.commit([command]))[0]

    try:
        return await work(Keyring(Environment.real(), ledger, commit))
    finally:
        await ledger.close()
