"""One batch of commands, from BEGIN to COMMIT, as one synchronous function over a connection.

It runs in the ledger's thread, or inline in a simulation. First all commands in bulk; where that does not come out as
expected (a stale compare-and-set, a key that exists, a bad value) it is rolled back and done again one by one, each
under a savepoint, so that one bad command fails alone.
"""

import contextlib
import json
import sqlite3
from collections.abc import Collection, Iterator, Sequence
from itertools import chain, groupby
from operator import itemgetter

from orchestrator.domain.anchor import begins_of
from orchestrator.domain.audit import Head
from orchestrator.domain.lifecycle import NEW
from orchestrator.storage import erasure, revocation, rows
from orchestrator.storage.commands import (
    Accept,
    Command,
    Duplicate,
    EntriesRemoved,
    Erase,
    Erased,
    Failed,
    Full,
    Note,
    Outcome,
    RelayAgain,
    Remove,
    RemoveEntries,
    Requeued,
    Reused,
    RevokeConsent,
    Revoked,
    Rewrap,
    Rewrapped,
    Stale,
    TaskRecord,
)
from orchestrator.storage.ports import CommitUnknown, LedgerCorrupt, NotCommitted, Unreadable
from orchestrator.storage.sealing import changed_keys
from orchestrator.storage.sqlite import parts, sql
from orchestrator.storage.sqlite.book import SqliteBook
from orchestrator.storage.work import Unexpected, Work, is_full

_QUEUED = ("queued", 0, None, None)
_said_of_one_accepted = itemgetter(0, 1, 2, 4, 5, 6, 7, 10, 15, 16, 17)
_BROKEN = ("SQLITE_CORRUPT", "SQLITE_NOTADB")
_OF_THE_COMMAND = (
    sqlite3.IntegrityError,
    sqlite3.DataError,
    sqlite3.InterfaceError,
    sqlite3.ProgrammingError,
    OSError,
    OverflowError,
    RecursionError,
    TypeError,
    ValueError,
)
"""What a single command can bring about by the values in it: too large, too deep, of no type that can be stored."""


def commit(
    connection: sqlite3.Connection, book: SqliteBook, commands: Sequence[Command]
) -> tuple[SqliteBook, list[Outcome]]:
    """Applies `commands` in one transaction, and returns the new book and an outcome for each.

    Raises NotCommitted, CommitUnknown or LedgerCorrupt; `book` then still holds, unless the commit is unknown.
    """
    try:
        book, outcomes = _transact(connection, book, commands)
        book.keys.enter(connection)
        book = parts.noted(connection, book)
    except sqlite3.Error as error:
        _roll_back(connection)
        raise _verdict(error) from error
    except BaseException:
        _roll_back(connection)
        raise
    try:
        connection.execute("COMMIT")
    except sqlite3.Error as error:
        if _is_unknown(connection, error):
            raise CommitUnknown(_name(error)) from error
        _roll_back(connection)
        raise _verdict(error) from error
    book.keys.committed()
    return book, outcomes


def empty_log(connection: sqlite3.Connection, wait: str = sql.HARDLY_WAIT) -> bool:
    """Puts the log into the file and cuts it to nothing; False where a reader is in the way, or the disk."""
    try:
        connection.execute(wait)
        try:
            (busy, _, _) = connection.execute(sql.EMPTY_LOG).fetchone()
        finally:
            connection.execute(sql.WAIT)
    except sqlite3.Error:
        # What was committed is safe in the log, which the next commit tries to empty again.
        return False
    return not busy


def _transact(
    connection: sqlite3.Connection, book: SqliteBook, commands: Sequence[Command]
) -> tuple[SqliteBook, list[Outcome]]:
    _begin(connection, book)
    if not commands:
        for statement in sql.PROBE:
            connection.execute(statement)
        return book, []
    try:
        return _bulk(connection, book, commands)
    except (Unexpected, *_OF_THE_COMMAND):
        connection.execute("ROLLBACK")
    _begin(connection, book)
    return _one_by_one(connection, book, commands)


def _begin(connection: sqlite3.Connection, book: SqliteBook) -> None:
    connection.execute("BEGIN IMMEDIATE")
    book.keys.begin()


def _one_by_one(
    connection: sqlite3.Connection, book: SqliteBook, commands: Sequence[Command]
) -> tuple[SqliteBook, list[Outcome]]:
    outcomes: list[Outcome] = []
    for command in commands:
        connection.execute("SAVEPOINT command")
        try:
            book, outcome = _single(connection, book, command)
        except (Unreadable, *_OF_THE_COMMAND) as error:
            connection.execute("ROLLBACK TO command")
            outcome = Failed(type(error).__name__)
        connection.execute("RELEASE command")
        outcomes.append(outcome)
    return book, outcomes


def _single(connection: sqlite3.Connection, book: SqliteBook, command: Command) -> tuple[SqliteBook, Outcome]:
    if isinstance(command, RelayAgain):
        return book, _relay_again(connection, command)
    if isinstance(command, RevokeConsent):
        return _revoke(connection, book, command)
    if isinstance(command, Erase):
        return _erase(connection, book, command)
    if isinstance(command, Remove):
        return _remove(connection, book, command)
    if isinstance(command, RemoveEntries):
        return _remove_entries(connection, book, command)
    if isinstance(command, Rewrap):
        return book, _rewrap(connection, book, command)
    refusal = _refusal(connection, book, command)
    if refusal is not None:
        return book, refusal
    if isinstance(command, Accept) and _any_revoked(connection, {command.task.consent.consent_id}):
        book, (noted,) = _bulk(connection, book, [revocation.refusal(command)])
        return book, revocation.denied(noted)
    try:
        book, outcomes = _bulk(connection, book, [command])
    except Unexpected:
        return book, Stale()
    return book, outcomes[0]


def _revoke(connection: sqlite3.Connection, book: SqliteBook, command: RevokeConsent) -> tuple[SqliteBook, Outcome]:
    at = command.audit.created_at
    if not connection.execute(sql.REVOKE, (command.consent_id, at)).rowcount:
        return book, Revoked()
    found = connection.execute(sql.READ_UNDER_CONSENT, (command.consent_id,)).fetchall()
    denials = revocation.denials(map(rows.closed_record, found), at)
    book, outcomes = _bulk(connection, book, [*denials, Note(command.audit)])
    return book, revocation.revoked(outcomes)


def _erase(connection: sqlite3.Connection, book: SqliteBook, command: Erase) -> tuple[SqliteBook, Erased]:
    if command.task_id is not None:
        found = connection.execute(sql.READ_TO_ERASE, (command.task_id,)).fetchall()
    else:
        found = connection.execute(sql.READ_CASE_TO_ERASE, (command.case_id, command.limit)).fetchall()
    records = [rows.closed_record(row) for row in found]
    book, outcomes = _bulk(connection, book, erasure.steps(records, command))
    connection.executemany(sql.ERASE_TASK, [(record.task.task_id,) for record in records])
    connection.executemany(sql.ERASE_RESULT, [(record.seq,) for record in records])
    if book.outbox:
        connection.executemany(sql.ADD_OUTGOING, [(rows.WITHDRAWN, record.task.task_id) for record in records])
    return book, erasure.erased(records, outcomes)


def _remove(connection: sqlite3.Connection, book: SqliteBook, command: Remove) -> tuple[SqliteBook, Outcome]:
    for statement, names, must in _removals(command):
        cursor = connection.executemany(statement, [(name,) for name in names])
        if must and names and cursor.rowcount != len(names):
            connection.execute("ROLLBACK TO command")
            return book, Stale()
    book, (noted,) = _bulk(connection, book, [Note(command.audit)])
    return book, noted


def _remove_entries(
    connection: sqlite3.Connection, book: SqliteBook, command: RemoveEntries
) -> tuple[SqliteBook, Outcome]:
    begins = begins_of(command.audit)
    for begin in begins:
        if connection.execute(sql.GOES_ON_BEHIND, (begin.writer, begin.seq, begin.entry_hash)).fetchone() is None:
            return book, Stale()
    before = book
    book, _ = _bulk(connection, book, [Note(command.audit)])
    up_to = [(begin.writer, begin.seq) for begin in begins]
    connection.executemany(sql.UNLIST_TASKS, up_to)
    removed = connection.executemany(sql.REMOVE_ENTRIES, up_to).rowcount
    if not removed:
        connection.execute("ROLLBACK TO command")
        return before, Stale()
    parts.entries_removed(connection, up_to)
    return book, EntriesRemoved(book.head, removed)


def _rewrap(connection: sqlite3.Connection, book: SqliteBook, command: Rewrap) -> Rewrapped:
    found = connection.execute(sql.READ_DATA_KEYS, (command.after, command.limit)).fetchall()
    changes = changed_keys(found, book.codec)
    connection.executemany(sql.SAVE_DATA_KEY, changes)
    return Rewrapped(len(changes), found[-1][0] if len(found) == command.limit else None)


def _any_revoked(connection: sqlite3.Connection, consents: Collection[str | None]) -> bool:
    return connection.execute(sql.ANY_REVOKED, (json.dumps([*consents]),)).fetchone() is not None


def _relay_again(connection: sqlite3.Connection, command: RelayAgain) -> Requeued:
    connection.execute(sql.RELAY_AGAIN, (*command.after, command.limit))
    return Requeued(connection.execute(sql.RELAYED_UP_TO, (*command.after, command.limit)).fetchone())


def _refusal(connection: sqlite3.Connection, book: SqliteBook, command: Command) -> Outcome | None:
    """What stands against accepting a task: its key, or a full class."""
    if not isinstance(command, Accept):
        return None
    if command.key is not None:
        worn = book.disguise.wear(command.key)
        found = book.keys.find(connection, worn.digest)
        if found is not None:
            seq, fingerprint, task_id, expires_at = found
            if expires_at is None or expires_at > command.audit.created_at:
                return _duplicate(connection, book, task_id) if fingerprint == worn.fingerprint else Reused()
            connection.execute(sql.FORGET_KEY, (seq,))
    return Full(command.task.priority) if is_full(book, command) else None


def _duplicate(connection: sqlite3.Connection, book: SqliteBook, task_id: str) -> Duplicate:
    receipt = connection.execute(sql.READ_RECEIPT, (task_id,)).fetchone()
    return Duplicate(read_task(connection, book, task_id), Head(*receipt) if receipt else None)


def read_task(connection: sqlite3.Connection, book: SqliteBook, task_id: str) -> TaskRecord:
    """The task as it is inside this transaction, with its result."""
    row = connection.execute(sql.READ_TASK, (task_id,)).fetchone()
    result = connection.execute(sql.READ_RESULT, row[:1]).fetchone()
    return rows.whole_record(row, book.codec, result)


def _bulk(
    connection: sqlite3.Connection, book: SqliteBook, commands: Sequence[Command]
) -> tuple[SqliteBook, list[Outcome]]:
    """All commands, a few statements; raises Unexpected where one of them would not simply succeed."""
    work = Work(book)
    outcomes = [work.add(command) for command in commands]
    if work.consents and _any_revoked(connection, work.consents):
        raise Unexpected
    if work.keys and book.keys.any_stands(connection, [worn.digest for _, worn in work.keys]):
        raise Unexpected
    for statement, parameters, must_match in _statements(work):
        if _executed(connection, statement, parameters) != len(parameters) and must_match:
            raise Unexpected
    book.keys.add((worn.digest, record.seq) for record, worn in work.keys)
    if work.head != book.head:
        connection.execute(sql.SAVE_HEAD, (work.head.writer, work.head.seq, work.head.entry_hash))
    return work.book(), outcomes


def _executed(connection: sqlite3.Connection, statement: str, parameters: Sequence[rows.Row]) -> int:
    """How many rows the statement changed, in the order of its parameters.

    What of them depends on one another, as two moves of one task do, changes fewer where it is done at once.
    """
    if len(parameters) == 1:
        return connection.execute(statement, parameters[0]).rowcount
    changed = done = 0
    for size, at_once in sql.AT_ONCE.get(statement, ()):
        while len(parameters) - done >= size:
            some = parameters[done : done + size]
            changed += connection.execute(at_once, [*chain.from_iterable(some)]).rowcount
            done += size
    if done < len(parameters):
        changed += connection.executemany(statement, parameters[done:]).rowcount
    return changed


def _statements(work: Work[SqliteBook]) -> list[tuple[str, list[rows.Row], bool]]:
    """Each statement with its rows, and whether every row must change one."""
    new, begun = _new_and_begun(work)
    gathered: list[tuple[str, list[rows.Row], bool]] = [
        (sql.EXPIRE_KEYS, [(now,) for now in work.expiries], False),
        (sql.ADD_KEY, [rows.key_row(record.seq, worn) for record, worn in work.keys], True),
        (sql.ADD_TASK, new, True),
        (sql.ADD_BEGUN_TASK, begun, True),
        (sql.MOVE_TASK, work.moves, True),
        (sql.ADD_RESULT, [(row[0], *row[2:]) for row in work.results], True),
        (sql.SAVE_AGENT, work.agents, True),
        (sql.FORGET_AGENT, [(agent_id,) for agent_id in work.gone], False),
        (sql.ADD_WEBHOOK, work.webhooks, True),
        (sql.WEBHOOK_DUE, work.callbacks, False),
        (sql.TRY_WEBHOOK, work.tries, True),
        (sql.END_WEBHOOK, work.told_off, True),
        (sql.TELL_SIGHTING, [rows.sighting_row(sighting) for sighting in work.sightings.values()], False),
        (sql.REMOVE_RELAYED, [(position,) for position in work.relayed], False),
        (sql.REMOVE_OUTGOING, list(work.told(wanted=False)), False),
        (sql.ADD_OUTGOING, list(work.told(wanted=True)), True),
        (sql.SAVE_API_KEY, work.api_keys, True),
        (sql.FORGET_API_KEY, [(key_id,) for key_id in work.gone_api_keys], False),
        *_entries(work.audit),
    ]
    return [(statement, parameters, must) for statement, parameters, must in gathered if parameters]


def _entries(audit: Sequence[rows.Row]) -> Iterator[tuple[str, list[rows.Row], bool]]:
    """The rows in their order; of those that accept a task only what the statement does not say already."""
    for accepted, some in groupby(audit, _accepts):
        if accepted:
            yield sql.ADD_ACCEPTED, [*map(_said_of_one_accepted, some)], True
        else:
            yield sql.ADD_AUDIT, [*some], True


def _accepts(row: rows.Row) -> bool:
    return row[3] == "accepted" and row[11:15] == _QUEUED and row[8] is None and row[9] is None


def _new_and_begun(work: Work[SqliteBook]) -> tuple[list[rows.Row], list[rows.Row]]:
    """New tasks, and apart from them those that are further on already: put off, or leased."""
    if all(record.progress is NEW for record in work.accepted):
        return work.tasks, []
    new: list[rows.Row] = []
    begun: list[rows.Row] = []
    for row, record in zip(work.tasks, work.accepted, strict=True):
        if record.progress == NEW:
            new.append(row)
        else:
            begun.append((*row, *rows.progress_row(record.progress)))
    return new, begun


def _removals(command: Remove) -> tuple[tuple[str, Sequence[str], bool], ...]:
    """Each statement with the tasks that it is about, and whether each of these must change a row."""
    return (
        (sql.REMOVE_RESULT, command.results, True),
        (sql.EMPTY_TASK, command.payloads, True),
        (sql.FORGET_DATA_KEY, command.results, False),
        (sql.REMOVE_RESULT, command.tasks, False),
        (sql.REMOVE_REPLAY, command.tasks, False),
        (sql.REMOVE_KEY, command.tasks, False),
        (sql.REMOVE_TOLD, command.tasks, False),
        (sql.REMOVE_TASK, command.tasks, True),
    )


def _roll_back(connection: sqlite3.Connection) -> None:
    """A rollback that fails changes nothing of the verdict: without COMMIT nothing is stored."""
    if connection.in_transaction:
        with contextlib.suppress(sqlite3.Error):
            connection.execute("ROLLBACK")


def _is_unknown(connection: sqlite3.Connection, error: sqlite3.Error) -> bool:
    """Whether a COMMIT that failed may be on the disk all the same.

    An I/O error may have come after the write. A transaction that SQLite ended by itself may have ended either way, but
    for a full disk: then the frame that would have committed it is cut short in the WAL, and recovery passes over it.
    """
    name = _name(error)
    if name.startswith("SQLITE_IOERR"):
        return True
    return not connection.in_transaction and name != "SQLITE_FULL"


def _verdict(error: sqlite3.Error) -> Exception:
    """Before COMMIT was sent nothing can have been stored, whatever went wrong."""
    if _name(error).startswith(_BROKEN):
        return LedgerCorrupt("the database file is damaged")
    return NotCommitted(_name(error))


def _name(error: sqlite3.Error) -> str:
    return getattr(error, "sqlite_errorname", "") or type(error).__name__
