"""What the one writer of the embedded ledger knows of it while it writes."""

from orchestrator.storage.sqlite.keys import KnownKeys
from orchestrator.storage.work import Book


class SqliteBook(Book, frozen=True, kw_only=True):
    """The same as every ledger's, and which keys stand in it. Those follow the transactions by themselves."""

    keys: KnownKeys
