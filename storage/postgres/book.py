"""The book as its row in the database, in which the classes have their columns in this order."""

from collections.abc import Sequence

from msgspec.structs import replace

from orchestrator.domain.task import Priority
from orchestrator.storage.work import Book

_ORDER = (Priority.URGENT, Priority.HIGH, Priority.NORMAL, Priority.LOW)


def counts(row: Sequence[int]) -> tuple[dict[Priority, int], dict[Priority, int]]:
    """Ready and open tasks of each class, from a row of the book."""
    return dict(zip(_ORDER, row[1:5], strict=True)), dict(zip(_ORDER, row[5:9], strict=True))


def as_found(row: Sequence[int], book: Book) -> Book:
    """The book with what replicas share of it as the row says."""
    ready, unfinished = counts(row)
    return replace(book, last_seq=row[0], ready=ready, open=unfinished)


def columns(book: Book) -> list[int]:
    """The row."""
    return [book.last_seq, *(book.ready[p] for p in _ORDER), *(book.open[p] for p in _ORDER)]
