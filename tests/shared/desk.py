"""Where somebody types what a page of the documentation shows: a folder, an environment, and what is served there."""

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.error import HTTPError, URLError
from urllib.request import urlopen

from ports import reserved_port

PATIENCE_S = 60


class Desk:
    """A folder and an environment in which somebody types what a page shows, with what it calls by other names."""

    def __init__(self, folder: Path, **environ: str) -> None:
        self.folder, self.names = folder, dict[str, str]()
        inherited = {n: v for n, v in os.environ.items() if not n.startswith(("ORCHESTRATOR_", "DATABASE_", "REDIS_"))}
        path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
        self.environ = {**inherited, "PATH": path, "NO_COLOR": "1", "COLUMNS": "300", **environ}

    def types(self, command: str, code: int = 0) -> str:
        """What a command says; it has to end with `code`."""
        with self.started(command) as typed:
            said, errors = typed.communicate(timeout=PATIENCE_S)
        assert typed.returncode == code, f"{command}: {typed.returncode}\n{said}{errors}"
        return said

    @contextmanager
    def started(self, command: str) -> Iterator[subprocess.Popen[str]]:
        """A command, alone in its session, and gone afterwards."""
        for name, value in self.names.items():
            # `$TASK_ID` is the shell's own.
            command = re.sub(rf"(?<!\$){re.escape(name)}", value, command)
        with subprocess.Popen(
            ["/bin/sh", "-c", command], cwd=self.folder, env=self.environ, text=True, start_new_session=True,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        ) as typed:  # fmt: skip
            try:
                yield typed
            finally:
                if typed.poll() is None:
                    os.killpg(typed.pid, signal.SIGKILL)

    @contextmanager
    def serving(self, command: str) -> Iterator[str]:
        """A command that serves, from when it is ready; SIGTERM has to end it in order. Its address."""
        port = reserved_port()
        self.environ |= {"ORCHESTRATOR_WEB_PORT": str(port), "ORCHESTRATOR_URL": (url := f"http://127.0.0.1:{port}")}
        self.names["--port 8080"] = f"--port {port}"
        # So that the signal is for the program itself, not for a shell around it.
        with self.started(f"exec env {command}") as server:
            while not is_ready(url):
                assert server.poll() is None, server.communicate()
                time.sleep(0.05)
            yield url
            server.send_signal(signal.SIGTERM)
            server.communicate(timeout=PATIENCE_S)
            assert server.returncode in (0, -signal.SIGTERM), command


def is_ready(url: str) -> bool:
    try:
        with urlopen(f"{url}/ready", timeout=5) as answer:  # noqa: S310 - our own, on the loopback
            return answer.status == 200
    except (HTTPError, URLError, OSError):
        return False


@contextmanager
def demonstration(folder: Path) -> Iterator[Desk]:
    """Beside `orchestrator demo`, which serves: its address is `URL`. SIGTERM has to end it in order."""
    desk = Desk(folder, DATABASE_URL="sqlite:///./var/demo.db")
    with desk.started("exec orchestrator demo --port 0") as shown:
        assert shown.stdout is not None
        said = ""
        while "Database and" not in said:
            said += (line := shown.stdout.readline())
            assert line, said
        url = re.search(r"Serving on (http://[0-9.:]+);", said)
        assert url
        desk.environ |= {"ORCHESTRATOR_URL": url[1], "URL": url[1]}
        yield desk
        shown.send_signal(signal.SIGTERM)
        shown.communicate(timeout=PATIENCE_S)
        assert shown.returncode == 0
