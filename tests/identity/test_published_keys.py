"""Keys that an issuer publishes: fetched, kept, and used while the network is down. Time is virtual."""

import asyncio
import gzip
import json
from collections.abc import Callable
from pathlib import Path

import anyio
import pytest
from aiohttp import web
from issuing import ALL, Issuer, issuer
from trio.testing import MockClock

from orchestrator.web.identity import published_keys
from orchestrator.web.identity.published_keys import PublishedKeys, fetch

pytestmark = pytest.mark.anyio

OWN, OTHER = issuer(), Issuer()


@pytest.fixture
def anyio_backend():
    return ("trio", {"clock": MockClock(autojump_threshold=0)})


class Network:
    """What is published, or the error instead; counts how often it was asked."""

    def __init__(self, document: bytes = b"", error: Exception | None = None) -> None:
        self.document, self.error, self.asked = document, error, 0
        self.takes = 0.0

    async def fetch(self, _url: str) -> bytes:
        self.asked += 1
        await anyio.sleep(self.takes)
        if self.error is not None:
            raise self.error
        return self.document


def keys(network: Network, cache: Path | None = None) -> PublishedKeys:
    return PublishedKeys("https://issuer.example/keys", ALL, network.fetch, cache)


async def test_keys_are_asked_for_now_and_then() -> None:
    """Once for many tokens, and again when they are five minutes old."""
    network = Network(OWN.document)
    published = keys(network)
    assert {len(await published("ed")) for _ in range(10)} == {3}
    assert network.asked == 1
    await anyio.sleep(published_keys.FRESH_S)
    network.document = OTHER.document
    assert (await published("ed"))["ed"].material != OWN.ed.public_key()
    assert network.asked == 2


async def test_the_network_is_down() -> None:
    """The keys that are known go on, for as long as it takes; each quarter of a minute one try is made."""
    network = Network(OWN.document)
    published = keys(network)
    await published("ed")
    for error in (OSError("down"), TimeoutError()):
        network.error = error
        await anyio.sleep(published_keys.FRESH_S * 100)
        asked = network.asked
        assert all([set(await published("ed")) == {"ed", "ec", "rsa"} for _ in range(20)])
        assert network.asked == asked + 1
    network.error, network.document = None, b"<html>captive portal</html>"
    await anyio.sleep(published_keys.AGAIN_S)
    assert "ed" in await published("ed")


async def test_an_issuer_that_does_not_answer() -> None:
    """Holds one caller for the deadline; the others go on with the keys that are known."""
    network = Network(OWN.document)
    published = keys(network)
    await published("ed")
    await anyio.sleep(published_keys.FRESH_S)
    network.takes = 1e9
    began = anyio.current_time()
    ended: list[float] = []

    async def ask() -> None:
        assert "ed" in await published("ed")
        ended.append(anyio.current_time() - began)

    async with anyio.create_task_group() as group:
        for _ in range(5):
            group.start_soon(ask)
    assert sorted(ended) == [0, 0, 0, 0, published_keys.DEADLINE_S]


async def test_a_key_that_is_new() -> None:
    """Is found when its name first comes; names that are invented cost the issuer one question each quarter minute."""
    network = Network(json.dumps({"keys": OWN.jwks[:1]}).encode())
    published = keys(network)
    await published("ed")
    network.document = OWN.document
    await anyio.sleep(published_keys.AGAIN_S)
    assert "ec" in await published("ec")
    for number in range(100):
        await published(f"invented-{number}")
    assert network.asked == 2


async def test_a_start_without_a_network(tmp_path: Path) -> None:
    """The last good answer is in a file; a damaged file is no answer."""
    file = tmp_path / "kept.json"
    await keys(Network(OWN.document), file)("ed")
    down = Network(error=OSError("down"))
    assert set(await keys(down, file)("ed")) == {"ed", "ec", "rsa"}
    assert await keys(down)("ed") == {}
    file.write_bytes(b"{")
    assert await keys(down, file)("ed") == {}
    assert await keys(Network(OWN.document), tmp_path / "no" / "folder")("ed")


class TestFetching:
    """Over a real connection."""

    @pytest.fixture
    def anyio_backend(self):
        return "asyncio"

    @pytest.fixture
    async def serve(self):
        runners: list[web.AppRunner] = []

        async def elsewhere(_request: web.Request) -> web.StreamResponse:
            return web.Response(body=OWN.document)

        async def serve(answer: Callable[[web.Request], web.StreamResponse]) -> str:
            async def handle(request: web.Request) -> web.StreamResponse:
                return answer(request)

            app = web.Application()
            app.router.add_get("/keys", handle)
            app.router.add_get("/elsewhere", elsewhere)
            runners.append(web.AppRunner(app))
            await runners[-1].setup()
            await web.TCPSite(runners[-1], "127.0.0.1", 0).start()
            return f"http://127.0.0.1:{runners[-1].addresses[0][1]}/keys"

        yield serve
        for runner in runners:
            await runner.cleanup()

    async def test_a_document(self, serve) -> None:
        """Comes as it is."""
        assert await fetch(await serve(lambda _: web.Response(body=OWN.document))) == OWN.document

    @pytest.mark.parametrize(
        "answer",
        [
            lambda _: web.Response(status=302, headers={"Location": "/elsewhere"}),
            lambda _: web.Response(status=500),
            lambda _: web.Response(body=b"x" * (published_keys.MOST_BYTES + 1)),
            lambda _: web.Response(body=gzip.compress(OWN.document), headers={"Content-Encoding": "gzip"}),
            lambda _: web.Response(body=gzip.compress(bytes(10**7)), headers={"Content-Encoding": "gzip"}),
        ],
        ids=["redirect", "error", "too large", "compressed", "a bomb"],
    )
    async def test_something_else(self, serve, answer) -> None:
        """Is an error, and no redirect is followed."""
        with pytest.raises(OSError):  # noqa: PT011 - its words are for nobody
            await fetch(await serve(answer))

    async def test_somebody_slow(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Is given up in time, in the middle of a body too."""
        monkeypatch.setattr(published_keys, "DEADLINE_S", 0.2)

        async def trickle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n{")
            await reader.read()
            writer.close()

        server = await asyncio.start_server(trickle, "127.0.0.1", 0)
        async with server:
            url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/keys"
            began = anyio.current_time()
            assert await PublishedKeys(url, ALL, fetch)("ed") == {}
            assert anyio.current_time() - began < 2

    async def test_nobody_there(self) -> None:
        """Is an error too."""
        with pytest.raises(OSError):  # noqa: PT011 - its words are for nobody
            await fetch("http://127.0.0.1:1/keys")
