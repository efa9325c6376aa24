"""What a client or an agent shows for itself: a token or an API key, from the environment or a file that it names."""

from collections.abc import Mapping
from pathlib import Path

VARIABLES = ("ORCHESTRATOR_TOKEN", "ORCHESTRATOR_API_KEY")


class NoCredential(Exception):
    """The file that should hold the token cannot be read."""


def authorization(environ: Mapping[str, str]) -> dict[str, str]:
    """The header for a request; empty where nothing is set. Raises NoCredential.

    Files are read anew each time, since short-lived tokens are replaced in them.
    """
    for name in VARIABLES:
        token = environ.get(name) or _content(environ.get(f"{name}_FILE"), name)
        if token:
            return {"Authorization": f"Bearer {token.strip()}"}
    return {}


def _content(path: str | None, name: str) -> str:
    if not path:
        return ""
    try:
        return Path(path).read_text("utf-8")
    except (OSError, ValueError):
        raise NoCredential(f"{name}_FILE: the file that it names cannot be read") from None
