"""Asynchronous generators of a check of the trail: which were begun, and which of them nobody has closed."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import AsyncGeneratorType
from typing import Any


@contextmanager
def watched() -> "Iterator[list[AsyncGeneratorType[object]]]":
    """The generators of the check that are begun: kept, so that nothing ends them but whoever began them."""
    hooks, found = sys.get_asyncgen_hooks(), list[AsyncGeneratorType[object]]()

    def first(generator: Any) -> None:
        if generator.ag_code.co_name in ("verify", "verifying", "audit_chain"):
            found.append(generator)
        assert hooks.firstiter
        hooks.firstiter(generator)

    sys.set_asyncgen_hooks(firstiter=first)
    try:
        yield found
    finally:
        sys.set_asyncgen_hooks(*hooks)


def left(begun: list[AsyncGeneratorType[object]]) -> Iterator[str]:
    return (generator.ag_code.co_name for generator in begun if generator.ag_frame is not None)
