"""The corpus over real sockets: each request that is there is one decision, and nothing else is ever seen."""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any

import anyio
import pytest
from raw_requests import LAST, LAST_SEEN, Case, Seen, cases

from orchestrator.kernel.inbox import Inbox, Stop
from orchestrator.kernel.mailbox import Mailbox
from orchestrator.settings import load
from orchestrator.web import server
from orchestrator.web.server import listen

pytestmark = pytest.mark.anyio

CORPUS = cases()
AT_ONCE = 8


class Witness:
    """An application that remembers, for each connection, the requests that it got to their end."""

    def __init__(self) -> None:
        self.seen: dict[Any, list[Seen]] = {}

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan":
            while True:
                message = await receive()
                await send({"type": f"{message['type']}.complete"})
                if message["type"] == "lifespan.shutdown":
                    return
        body = b""
        while (message := await receive())["type"] == "http.request":
            body += message["body"]
            if not message["more_body"]:
                query = scope["query_string"]
                target = (scope["raw_path"] + (b"?" + query if query else b"")).decode()
                self.seen.setdefault(tuple(scope["client"]), []).append((scope["method"], target, body))
                await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
                await send({"type": "http.response.body", "body": b"ok"})
                return


@asynccontextmanager
async def served(app: Any) -> AsyncGenerator[int]:
    listener = listen("127.0.0.1", 0)
    inbox: Inbox[object] = Inbox(Mailbox("web", 1))
    async with anyio.create_task_group() as group:
        group.start_soon(server.WebServer(app, listener, load().limits).run, inbox)
        try:
            yield listener.getsockname()[1]
        finally:
            inbox.stop(Stop.FINAL)
    listener.close()


async def exchange(port: int, witness: "Witness", *parts: bytes) -> tuple[list[Seen], bytes]:
    """Sends, reads to the end, and returns what was seen and what came. Raises TimeoutError where no end comes."""
    with anyio.fail_after(10):
        async with await anyio.connect_tcp("127.0.0.1", port) as stream:
            address: Any = stream.extra_attributes[anyio.abc.SocketAttribute.local_address]()
            # Ports are used again: what an earlier connection from this one sent is not ours.
            witness.seen.pop(address, None)
            answer = b""
            try:
                for part in parts:
                    await stream.send(part)
            except anyio.BrokenResourceError:
                pass  # It was refused before it was sent as a whole.
            try:
                while True:
                    answer += await stream.receive()
            except (anyio.EndOfStream, anyio.BrokenResourceError):
                return witness.seen.get(address, []), answer


def statuses(answer: bytes) -> list[int]:
    """Those of the answers, in their order."""
    return [int(part[:3]) for part in answer.split(b"HTTP/1.1 ")[1:] if not part.startswith(b"1")]


def verdict(case: Case, seen: list[Seen], answer: bytes) -> str | None:
    """What is wrong, None if nothing is."""
    expected = [*case.seen] if case.refused or case.closes else [*case.seen, LAST_SEEN]
    if seen != expected:
        return f"saw {seen}, not {expected}"
    found = statuses(answer)
    if case.refused and not (found[:-1] == [200] * len(case.seen) and found[-1:] and found[-1] in case.statuses):
        return f"answered {found}, not {case.statuses}"
    if not case.refused and found != [200] * len(expected):
        return f"answered {found}, not 200 for all"
    return None


def test_the_corpus() -> None:
    """It only grows, and each case of it has its own name."""
    assert len(CORPUS) >= 250
    assert len({case.name for case in CORPUS}) == len({case.sent for case in CORPUS}) == len(CORPUS)


@pytest.mark.parametrize("piece", [None, 7], ids=["at once", "in pieces"])
async def test_one_request_is_one_decision(piece: int | None, door: type) -> None:
    """What is in the bytes is seen, once and in order, and nothing besides; what is ambiguous ends the connection."""
    witness = Witness()
    wrong: dict[str, str] = {}
    async with served(witness) as port:
        turns = anyio.Semaphore(AT_ONCE)

        async def run(case: Case) -> None:
            async with turns:
                sent = case.sent + LAST
                parts = [sent] if piece is None else [sent[i : i + piece] for i in range(0, len(sent), piece)]
                try:
                    seen, answer = await exchange(port, witness, *parts)
                except TimeoutError:
                    wrong[case.name] = "no end"
                    return
                found = verdict(case, seen, answer)
                if found is not None:
                    wrong[case.name] = found

        async with anyio.create_task_group() as group:
            for case in CORPUS:
                group.start_soon(run, case)
    assert not wrong, "\n".join(f"{name}: {found}" for name, found in wrong.items())
