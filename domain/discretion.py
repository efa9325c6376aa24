"""Values that do not show what may be health data or a secret, wherever they are printed."""

from typing import Any

HIDDEN = frozenset(
    ("payload", "meta", "output", "body", "message", "note", "key", "idempotency_key", "fingerprint", "secret")
)
"""Fields by their names: what clients send, what agents give back and say, what is kept from others."""


def discreet(self: Any) -> str:
    """The `__repr__` of a struct that holds such a field: in its place stands `***`."""
    shown = (f"{name}={'***' if name in HIDDEN else repr(getattr(self, name))}" for name in self.__struct_fields__)
    return f"{type(self).__name__}({', '.join(shown)})"
