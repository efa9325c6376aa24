"""Reads the image that an `image_ref` names, from places the operator allowed: a folder, web hosts, S3.

The reference comes from outside, so it is not trusted: no path outside the folder (links are followed first), no web
host but the named ones, no redirect, no more than the cap, no longer than the deadline. Errors never quote it.
"""

import os
import stat
from collections.abc import Set
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path
from urllib.parse import unquote

from aiohttp import ClientError, ClientSession, ClientTimeout
from yarl import URL

from orchestrator.workers.s3 import read_object
from orchestrator.workers.task import Permanent, Retryable
from orchestrator.workers.threads import run_in_thread

TOO_LARGE = "image_ref: the image is larger than the limit"
FETCH_DEADLINE = 30.0
"""Seconds a download may take, when the task has no nearer deadline."""


@dataclass(frozen=True, slots=True)
class ImageSource:
    """Where images may come from. `max_bytes` bounds the file, not the decoded picture."""

    root: Path
    allowed_hosts: Set[str] = frozenset()
    max_bytes: int = 20 << 20

    async def read(self, ref: object, time_left: float) -> bytes:
        """The bytes at `ref`: a path, or a `file:`, `http(s)://` or `s3://` URL.

        Raises Permanent for what is refused or not there, Retryable for what may come back.
        """
        if not isinstance(ref, str) or not ref:
            raise Permanent("image_ref: a path or URL is needed")
        deadline = min(time_left, FETCH_DEADLINE)
        scheme, colon, rest = ref.partition(":")
        match scheme.lower() if colon and scheme.isalnum() else "":
            case "":
                return await run_in_thread(self._read_file, ref)
            case "file":
                return await run_in_thread(self._read_file, _file_path(rest))
            case "http" | "https":
                return await self._fetch(ref, deadline)
            case "s3":
                bucket, _, key = rest.removeprefix("//").partition("/")
                return await run_in_thread(read_object, bucket, key, self.max_bytes, deadline)
            case _:
                raise Permanent("image_ref: only paths, file:, http(s):// and s3:// are read")

    def _read_file(self, name: str) -> bytes:
        try:
            root = self.root.resolve()
            path = (root / name).resolve()
            if not path.is_relative_to(root):
                raise Permanent("image_ref: outside the image folder")
            # The path has no links left; a link put there since is refused, and a pipe does not block.
            file = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
            with open(file, "rb") as opened:
                if not stat.S_ISREG(os.fstat(file).st_mode):
                    raise Permanent("image_ref: not a regular file")
                return self._capped(opened.read(self.max_bytes + 1))
        except (OSError, ValueError, RuntimeError):  # missing, not allowed, a NUL in the name, a loop of links
            raise Permanent("image_ref: no file that can be read") from None

    async def _fetch(self, ref: str, deadline: float) -> bytes:
        url = self._allowed(ref)
        timeout = ClientTimeout(total=deadline)
        try:
            async with (
                ClientSession(timeout=timeout, auto_decompress=False) as client,
                client.get(url, allow_redirects=False, headers={"Accept-Encoding": "identity"}) as response,
            ):
                _check_status(response.status)
                data = bytearray()
                async for chunk in response.content.iter_any():
                    data += chunk
                    self._capped(data)
                return bytes(data)
        except (ClientError, TimeoutError, OSError) as error:
            raise Retryable(f"image_ref: the host did not answer well ({type(error).__name__})") from None

    def _allowed(self, ref: str) -> URL:
        """One parser for the check and the call, so that no host is read in two ways. Host names compare exactly."""
        try:
            url = URL(ref)
            host = url.host or ""
        except ValueError:
            raise Permanent("image_ref: not a URL") from None
        if url.user is not None or url.password is not None:
            raise Permanent("image_ref: a URL with a user name is not read")
        if not (_is_loopback(host) or host.lower() in self.allowed_hosts):
            raise Permanent("image_ref: the host is not allowed")
        return url

    def _capped(self, data: bytes | bytearray) -> bytes:
        if len(data) > self.max_bytes:
            raise Permanent(TOO_LARGE)
        return bytes(data)


def _file_path(rest: str) -> str:
    """The path in a `file:` URL without its scheme, for this host only."""
    path = unquote(rest.removeprefix("//localhost") if rest.startswith("//localhost/") else rest)
    if path.startswith("//"):
        path = path[2:]
        if not path.startswith("/"):
            raise Permanent("image_ref: a file: URL of another host")
    return path


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host.lower() == "localhost"


def _check_status(status: int) -> None:
    if 300 <= status < 400:
        raise Permanent("image_ref: redirects are not followed")
    if status >= 500 or status in (408, 429):
        raise Retryable("image_ref: the host did not answer well")
    if status != 200:
        raise Permanent("image_ref: the host refused it")
