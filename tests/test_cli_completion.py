"""Completion in a real bash at a real terminal: what is typed before the Tab is made whole."""

import os
import pty
import select
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from time import monotonic

import pytest

PATIENCE_S = 30
END = "→"


class Bash:
    """An interactive one, with the script of `orchestrator completion bash` in it, and nothing else of anybody's."""

    def __init__(self) -> None:
        self._unread = b""
        self._pid, self._terminal = pty.fork()
        if self._pid == 0:
            # The script calls the program by its name.
            environ = {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}", "PS1": END}
            os.execvpe("bash", ["bash", "--norc", "--noprofile", "-i"], environ | {"TERM": "dumb"})  # noqa: S606, S607
        self.until(END)
        self.type('eval "$(orchestrator completion bash)"\n')
        self.give_up()

    def type(self, text: str) -> None:
        """As if by hand."""
        os.write(self._terminal, text.encode())

    def until(self, wanted: str) -> str:
        """What is shown until `wanted` is, with it. Raises AssertionError where that does not come."""
        give_up_at = monotonic() + PATIENCE_S
        while (sought := wanted.encode()) not in self._unread:
            readable, _, _ = select.select([self._terminal], [], [], max(0.0, give_up_at - monotonic()))
            assert readable, self._unread
            self._unread += os.read(self._terminal, 4096)
        before, _, self._unread = self._unread.partition(sought)
        return before.decode() + wanted

    def completed(self, line: str, *, wanted: str) -> None:
        """Types `line` and Tab; `wanted` has to be the whole line then."""
        self.type(f"{line}\t")
        self.until(wanted)
        self.give_up()

    def give_up(self) -> None:
        """The line is emptied (Ctrl-U), and another one done, to its end."""
        self.type("\x15echo do\\ne\n")
        self.until("done")
        self.until(END)

    def close(self) -> None:
        os.kill(self._pid, signal.SIGKILL)
        os.waitpid(self._pid, 0)
        os.close(self._terminal)


@pytest.fixture(scope="module")
def bash() -> Iterator[Bash]:
    found = Bash()
    yield found
    found.close()


@pytest.mark.parametrize(
    ("typed", "whole"),
    [
        ("orchestrator que", "orchestrator queues"),
        ("orchestrator audit ver", "orchestrator audit verify"),
        ("orchestrator dlq replay --a", "orchestrator dlq replay --all"),
        ("orchestrator audit export --format fh", "orchestrator audit export --format fhir"),
        ("orchestrator --json agents --w", "orchestrator --json agents --watch"),
    ],
)
def test_what_is_typed_is_made_whole(bash: Bash, typed: str, whole: str) -> None:
    """Commands, those below them, their options, and the values of these."""
    bash.completed(typed, wanted=whole)


def test_what_there_is_is_listed(bash: Bash) -> None:
    """Two Tabs after a command list what it has."""
    bash.type("orchestrator audit \t\t")
    assert bash.until("verify").split()[-3:] == ["export", "show", "verify"]
    bash.give_up()
