"""What no database could store, found without one: the ledger in memory refuses it as the others do."""

import msgspec

from orchestrator.storage.commands import (
    Accept,
    Command,
    EndWebhook,
    Erase,
    ExpireKeys,
    ForgetAgent,
    ForgetApiKey,
    Note,
    RelayAgain,
    Relayed,
    Remove,
    RemoveEntries,
    RevokeConsent,
    Rewrap,
    SaveAgent,
    SaveApiKey,
    TellSightings,
    Transition,
    TryWebhook,
)

_encode = msgspec.json.Encoder().encode


def check_storable(command: Command) -> None:
    """Raises what a database's codec would raise over the command's values, or for integers beyond 64 bits."""
    match command:
        case Accept(progress=progress):
            _encode(command)
            numbers = [progress.attempt, progress.failures, progress.lost, command.audit.attempt or 0]
        case Transition(progress=progress, result=result, audit=audit):
            _encode((progress, result, audit))
            numbers = [progress.attempt, progress.failures, progress.lost, audit.attempt or 0]
            numbers += [result.attempt] if result else []
        case (
            Note(audit=audit)
            | RevokeConsent(audit=audit)
            | Erase(audit=audit)
            | SaveAgent(audit=audit)
            | ForgetAgent(audit=audit)
            | SaveApiKey(audit=audit)
            | ForgetApiKey(audit=audit)
            | EndWebhook(audit=audit)
            | Remove(audit=audit)
            | RemoveEntries(audit=audit)
        ):
            _encode(command)
            numbers = [audit.attempt or 0]
        case ExpireKeys() | RelayAgain() | TellSightings() | Rewrap():
            numbers = []
        case TryWebhook(webhook):
            numbers = [webhook.attempts]
        case Relayed(positions):
            numbers = list(positions)
    for number in numbers:
        number.to_bytes(8, signed=True)
