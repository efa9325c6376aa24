"""What a client or an agent shows for itself: a token, an API key or a certificate, from the environment and files."""

import re
import ssl
from collections.abc import Mapping
from pathlib import Path

from orchestrator.tls import client_context

VARIABLES = ("ORCHESTRATOR_TOKEN", "ORCHESTRATOR_API_KEY")
TLS_VARIABLES = ("ORCHESTRATOR_TLS_CA_FILE", "ORCHESTRATOR_TLS_CERTIFICATE_FILE", "ORCHESTRATOR_TLS_KEY_FILE")
"""For https: whom the orchestrator's certificate must come from, and our own with its key."""
_TOKEN = re.compile(r"[\x21-\x7e]+")
"""What one may be made of: anything else, such as a second line, would not be sent as it is, or not at all."""


class NoCredential(Exception):
    """A file that should hold a token or a certificate cannot be used."""


def tls(environ: Mapping[str, str]) -> ssl.SSLContext | None:
    """How to speak with an orchestrator that is reached by https; None where nothing is set. Raises NoCredential.

    The files are read once: a certificate that is replaced is shown from the next start on.
    """
    files = [environ.get(name, "") for name in TLS_VARIABLES]
    if not any(files):
        return None
    try:
        return client_context(*files)
    except (OSError, ValueError) as error:
        raise NoCredential(f"{', '.join(TLS_VARIABLES)}: cannot be used ({type(error).__name__})") from None


def authorization(environ: Mapping[str, str]) -> dict[str, str]:
    """The header for a request; empty where nothing is set. Raises NoCredential.

    Files are read anew each time, since short-lived tokens are replaced in them.
    """
    for name in VARIABLES:
        token = (environ.get(name) or _content(environ.get(f"{name}_FILE"), name)).strip()
        if token and not _TOKEN.fullmatch(token):
            raise NoCredential(f"{name}: what it holds, or the file that it names, is no token")
        if token:
            return {"Authorization": f"Bearer {token}"}
    return {}


def _content(path: str | None, name: str) -> str:
    if not path:
        return ""
    try:
        return Path(path).read_text("utf-8")
    except (OSError, ValueError):
        raise NoCredential(f"{name}_FILE: the file that it names cannot be read") from None
