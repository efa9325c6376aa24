"""Keeps an agent known to the orchestrator: register, heartbeat, drain, delete."""

import asyncio
import logging
import os
import random
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import quote

from aiohttp import ClientError, ClientSession, ClientTimeout

from orchestrator.credentials import NoCredential, authorization

log = logging.getLogger("orchestrator.workers")

CALL_DEADLINE = ClientTimeout(total=5.0)
BACKOFF_FIRST, BACKOFF_MOST = 0.5, 30.0


class Registration:
    """One agent's standing with one orchestrator. `client` has a deadline for each call.

    `card` is the body of `/register_agent`; `load` gives the share of places taken, 0 to 1. What it
    shows for itself is in `environ`: see `credentials.py`.
    """

    def __init__(
        self,
        client: ClientSession,
        orchestrator: str,
        card: Mapping[str, Any],
        load: Callable[[], float],
        environ: Mapping[str, str] = os.environ,
    ) -> None:
        self._client = client
        self._base = orchestrator.rstrip("/")
        self._card, self._environ = card, environ
        self._load = load
        self.registered = asyncio.Event()
        self._waits = False
        self._path = f"/agents/{quote(card['agent_id'], safe='')}"

    async def keep(self, every: float) -> None:
        """Registers, then heartbeats each `every` seconds, registering again when it is not known; until cancelled."""
        await self.register()
        while True:
            await asyncio.sleep(every)
            if await self._send("POST", f"{self._path}/heartbeat", {"load": self._load()}) == 404:
                await self.register()

    async def drain(self) -> None:
        """Asks for no more work. One try: without it the agent refuses calls all the same."""
        await self._send("POST", f"{self._path}/drain", {})

    async def delete(self) -> None:
        """Signs off. One try: without it the registration ends with its TTL."""
        await self._send("DELETE", self._path, None)

    async def register(self) -> None:
        """Tries until the orchestrator says yes, with exponential backoff and full jitter."""
        most = BACKOFF_FIRST
        while (status := await self._send("POST", "/register_agent", self._card)) != 200:
            log.warning("not registered (%s), trying again", status or "no answer")
            await asyncio.sleep(random.uniform(0, most))
            most = min(most * 2, BACKOFF_MOST)
        self.registered.set()
        log.info("registered %s with %s", self._card["agent_id"], self._base)
        if self._waits:
            log.warning("no work until an operator says: orchestrator agents allow %s", self._card["agent_id"])

    async def _send(self, method: str, path: str, body: Mapping[str, Any] | None) -> int:
        """The status of the answer, or 0 when there was none within the deadline. Follows no redirect."""
        try:
            headers = authorization(self._environ)
            request = self._client.request(method, self._base + path, json=body, headers=headers, allow_redirects=False)
            async with request as response:
                self._waits = b'"state":"quarantined"' in await response.read()
                return response.status
        except (ClientError, NoCredential, TimeoutError, OSError) as error:
            log.warning("%s %s: %s", method, path, type(error).__name__)
            return 0
