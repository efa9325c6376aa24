"""The process under a service manager: what it tells it, and what it takes from it, over real sockets."""

import asyncio
import os
import signal
import sys
from pathlib import Path
from socket import AF_UNIX, SOCK_DGRAM, socket

import anyio
import pytest
from anyio.abc import UNIXDatagramSocket

pytestmark = pytest.mark.anyio

WATCHDOG_S = 0.6
SILENCE_S = 2 * WATCHDOG_S
PATIENCE_S = 30.0


class Manager:
    """Hears what the process tells."""

    def __init__(self, hearing: UNIXDatagramSocket) -> None:
        self._hearing = hearing

    async def hears(self) -> list[str]:
        """The lines of the next message."""
        with anyio.fail_after(PATIENCE_S):
            return (await self._hearing.receive())[0].decode().splitlines()

    async def until_silent(self) -> set[str]:
        """What it hears until nothing has come for as long as would have it end the process."""
        heard: set[str] = set()
        with anyio.fail_after(PATIENCE_S):
            while True:
                with anyio.move_on_after(SILENCE_S) as waiting:
                    heard.update((await self._hearing.receive())[0].decode().splitlines())
                if waiting.cancelled_caught:
                    return heard


@pytest.fixture
async def manager(tmp_path: Path):
    async with await anyio.create_unix_datagram_socket(local_path=tmp_path / "notify") as hearing:
        yield Manager(hearing)


@pytest.fixture
def watched(served, tmp_path: Path):
    """A process that is told where its manager listens, and that it wants signs of life."""
    return served(NOTIFY_SOCKET=str(tmp_path / "notify"), WATCHDOG_USEC=str(int(WATCHDOG_S * 1e6)))


async def test_a_life_under_a_manager(watched, manager):
    """It is told of readiness when the first request can be served, then of life, then of the end."""
    watched.process = await watched.spawn("serve")
    said = await manager.hears()
    assert said == ["READY=1", f"STATUS=serving on http://127.0.0.1:{watched.port}"]
    assert await watched.status("GET", "/ready") == 200
    for _ in range(3):
        assert await manager.hears() == ["WATCHDOG=1"]
    watched.process.send_signal(signal.SIGTERM)
    while (heard := await manager.hears()) == ["WATCHDOG=1"]:
        pass
    assert heard[0] == "STOPPING=1"
    assert (await watched.end())[0] == 0


async def test_nobody_listens_at_the_managers_address(served, tmp_path):
    """It serves all the same."""
    with socket(AF_UNIX, SOCK_DGRAM) as gone:
        gone.bind(str(tmp_path / "gone"))
    server = served(NOTIFY_SOCKET=str(tmp_path / "gone"), WATCHDOG_USEC="300000")
    await server.start()
    assert (await server.stop())[0] == 0


LIVES = """
import signal, time
import anyio
from orchestrator import cli
from orchestrator.actors.{module} import {actor}

real, lives = {actor}.run, []

async def run(self, inbox):
    lives.append(self)
    if len(lives) > 1:
        await anyio.sleep_forever()
    with anyio.open_signal_receiver(signal.SIGUSR1) as told:
        async with anyio.create_task_group() as group:
            group.start_soon(real, self, inbox)
            await anext(told)
            {end}

{actor}.run = run
cli.main(["serve"])
"""


@pytest.mark.parametrize(
    ("module", "actor", "end"),
    [
        ("janitor", "Janitor", "time.sleep(600)"),
        ("registry", "Registry", "raise ZeroDivisionError"),
        ("janitor", "Janitor", "raise ZeroDivisionError"),
    ],
)
async def test_what_lives_no_longer(watched, manager, module: str, actor: str, end: str):
    """A loop that turns no more, and an actor that died and does not come back, end the signs of life."""
    watched.process = await watched.spawn("-c", LIVES.format(module=module, actor=actor, end=end), program=())
    assert (await manager.hears())[0] == "READY=1"
    assert await manager.hears() == ["WATCHDOG=1"]
    watched.process.send_signal(signal.SIGUSR1)
    assert await manager.until_silent() <= {"WATCHDOG=1"}
    assert watched.process.returncode is None


ACTIVATED = """
import os, sys
for number, fd in enumerate(sys.argv[1:]):
    os.dup2(int(fd), 3 + number)
os.environ |= {"LISTEN_FDS": str(len(sys.argv) - 1), "LISTEN_PID": str(os.getpid())}
os.execv(sys.executable, [sys.executable, "-m", "orchestrator", "serve"])
"""


@pytest.fixture
def activate(served, tmp_path):
    """Starts the process as a manager that holds its sockets would."""

    async def start(*sockets: socket):
        server, fds = served(), [one.fileno() for one in sockets]
        server.process = await asyncio.create_subprocess_exec(
            sys.executable, "-c", ACTIVATED, *map(str, fds), env=server.environ, cwd=tmp_path, pass_fds=fds,
            stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
        )  # fmt: skip
        return server

    return start


async def test_a_socket_of_the_manager(activate):
    """Whoever connected before the start is served after it, and whoever connects after the end waits for the next."""
    with socket() as held:
        held.bind(("127.0.0.1", 0))
        held.listen()
        for _ in range(2):
            early = await anyio.connect_tcp("127.0.0.1", held.getsockname()[1])
            await early.send(b"GET /ready HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
            server = await activate(held)
            with anyio.fail_after(PATIENCE_S):
                assert (await early.receive()).startswith(b"HTTP/1.1 200 ")
            await early.aclose()
            assert (await server.stop())[0] == 0


async def test_sockets_that_it_cannot_serve_on(activate):
    """Two, or one that does not listen: one line, and 2."""
    with socket() as one, socket(AF_UNIX, SOCK_DGRAM) as other:
        one.bind(("127.0.0.1", 0))
        one.listen()
        for handed in ([one, one], [other]):
            server = await activate(*handed)
            code, said = await server.end()
            assert (code, len(said.splitlines())) == (2, 1), said
            assert "the service manager" in said


async def test_a_secret_as_a_credential(served, tmp_path):
    """The process takes the database from a file of the manager's, and shows no password of it."""
    credentials = tmp_path / "credentials"
    credentials.mkdir()
    (credentials / "DATABASE_URL").write_text(f"sqlite:///{tmp_path}/secret.db\n", "utf-8")
    server = served(CREDENTIALS_DIRECTORY=str(credentials))
    await server.start()
    assert (tmp_path / "secret.db").exists()
    assert not (tmp_path / "ledger.db").exists()
    assert (await server.stop())[0] == 0
    assert os.listdir(credentials) == ["DATABASE_URL"]


async def test_a_socket_that_is_open_to_the_network(activate):
    """It is refused as an address of our own would be, whatever the settings say: nobody is asked who they are."""
    with socket() as held:
        held.bind(("0.0.0.0", 0))
        held.listen()
        server = await activate(held)
        code, said = await server.end()
    assert (code, len(said.splitlines())) == (2, 1), said
    assert "no authentication" in said
