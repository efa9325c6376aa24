"""Calls from an agent to its orchestrator: JSON there and back, a deadline for each, no redirect, no retry."""

import json
import logging
from collections.abc import Mapping
from typing import Any, cast

from aiohttp import ClientError, ClientSession, ClientTimeout, StreamReader

from orchestrator.credentials import NoCredential, authorization

log = logging.getLogger("orchestrator.workers")

DEADLINE_S = 5.0
MOST_BYTES = 64 << 20
"""More than a lease of a hundred tasks holds."""


class Calls:
    """`environ` holds the credential."""

    def __init__(self, client: ClientSession, orchestrator: str, environ: Mapping[str, str]) -> None:
        self._client, self._base, self._environ = client, orchestrator.rstrip("/"), environ

    async def post(
        self, path: str, body: Mapping[str, Any], within: float = DEADLINE_S
    ) -> tuple[int, Mapping[str, Any]]:
        """The status and the object of the answer; 0 when there was none within so many seconds."""
        options: dict[str, Any] = {"allow_redirects": False, "timeout": ClientTimeout(total=within)}
        data = json.dumps(body, allow_nan=False).encode()
        try:
            headers = {"Content-Type": "application/json", **authorization(self._environ)}
            async with self._client.post(self._base + path, data=data, headers=headers, **options) as response:
                return response.status, _object(await _body(response.content))
        except (ClientError, NoCredential, TimeoutError, OSError) as error:
            # The path names a task at most; what the error says could name more.
            log.warning("%s: %s", path, type(error).__name__)
            return 0, {}


async def _body(content: StreamReader) -> bytes:
    """Whether its length was said or not, as a proxy that compresses does not; empty where it is too large."""
    body = bytearray()
    async for some in content.iter_any():
        body += some
        if len(body) > MOST_BYTES:
            return b""
    return bytes(body)


def _object(body: bytes) -> Mapping[str, Any]:
    try:
        value = json.loads(body)
    except ValueError:
        return {}
    return cast("dict[str, Any]", value) if isinstance(value, dict) else {}
