"""The keys that an issuer publishes at an address: fetched now and then, kept, and used while the network is down."""

from collections.abc import Awaitable, Callable, Collection
from pathlib import Path

import aiohttp
import anyio

from orchestrator.kernel.monotonic import monotonic
from orchestrator.telemetry import logger
from orchestrator.web.identity.key_set import BadKeys, KeySet, key_set

FRESH_S = 300.0
"""After so long they are asked for again: that is how long a key that the issuer took back is still taken."""
AGAIN_S = 15.0
"""Between two tries, whatever tokens come."""
DEADLINE_S = 3.0
MOST_BYTES = 262_144

Fetch = Callable[[str], Awaitable[bytes]]
"""The port to the network: the document at an address. Raises OSError or TimeoutError."""


class PublishedKeys:
    """Gives the keys; a `kid` that is not among them is a reason to ask anew. Not for several event loops."""

    def __init__(self, url: str, algorithms: Collection[str], fetch: Fetch, cache: Path | None = None) -> None:
        """`cache` is a file that keeps the last good answer for a start without a network."""
        self._url, self._algorithms, self._fetch, self._cache = url, algorithms, fetch, cache
        self._keys: KeySet = {}
        self._document = b""
        self._fetched_at = self._tried_at = float("-inf")
        self._fetching = False

    async def __call__(self, kid: str | None) -> KeySet:
        """All keys, fresh ones if they can be had; none at all where they never could."""
        now = monotonic()
        stale = now - self._fetched_at >= FRESH_S or kid not in self._keys
        # One asks, and those who have keys go on meanwhile; those who have not are told no, and come again.
        if stale and not self._fetching and now - self._tried_at >= AGAIN_S:
            self._fetching, self._tried_at = True, now
            try:
                await self._renew()
            finally:
                self._fetching = False
        return self._keys

    async def _renew(self) -> None:
        try:
            with anyio.fail_after(DEADLINE_S):
                document = await self._fetch(self._url)
            keys = key_set(document, self._algorithms)
        except (OSError, TimeoutError, BadKeys) as error:
            logger().warning("issuer_keys_unavailable", error=type(error).__name__)
            if not self._keys:
                await self._recall()
            return
        self._fetched_at = monotonic()
        if document != self._document:
            self._keys, self._document = keys, document
            await self._keep(document)

    async def _recall(self) -> None:
        if self._cache is not None:
            try:
                self._keys = key_set(await anyio.Path(self._cache).read_bytes(), self._algorithms)
            except (OSError, BadKeys):
                return

    async def _keep(self, document: bytes) -> None:
        if self._cache is None:
            return
        beside = anyio.Path(f"{self._cache}.new")
        try:
            await beside.write_bytes(document)
            await beside.replace(self._cache)
        except OSError as error:
            logger().warning("issuer_keys_not_kept", error=type(error).__name__)


async def fetch(url: str) -> bytes:
    """The document at `url`, without redirects and proxies, of at most MOST_BYTES, as they are sent."""
    plain = {"Accept-Encoding": "identity"}
    try:
        async with (
            # What is compressed would be unpacked before its size is known.
            aiohttp.ClientSession(trust_env=False, auto_decompress=False, headers=plain) as session,
            session.get(url, allow_redirects=False) as answer,
        ):
            if answer.status != 200 or answer.headers.get("Content-Encoding", "identity") != "identity":
                raise OSError("it answered something else")
            document = await answer.content.read(MOST_BYTES + 1)
            while len(document) <= MOST_BYTES and (more := await answer.content.read(MOST_BYTES)):
                document += more
    except (aiohttp.ClientError, ValueError) as error:
        raise OSError(type(error).__name__) from error
    if len(document) > MOST_BYTES:
        raise OSError("it is too large")
    return document
