"""What the one writer of the embedded ledger knows of it while it writes."""

from orchestrator.storage.sqlite.keys import KnownKeys
from orchestrator.storage.work import Book


class SqliteBook(Book, frozen=True, kw_only=True):
    """The same as every ledger's, which keys stand in it, and up to where it is noted by parts."""

    keys: KnownKeys
    """They follow the transactions by themselves."""
    in_parts: int
    """The `seq` up to which the entries of our chain are in parts of the trail."""
