import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

SNIPPET = """
from dataclasses import dataclass
from functools import partial
from typing import assert_type

from orchestrator.kernel.inbox import Inbox
from orchestrator.kernel.mailbox import Mailbox
from orchestrator.kernel.ref import Ref
from orchestrator.kernel.reply import Reply, Request
from orchestrator.kernel.supervisor import Child


@dataclass(frozen=True, slots=True)
class Count(Request[int]):
    reply: Reply[int]
    word: str


@dataclass(frozen=True, slots=True)
class Forget:
    word: str


class Counter:
    async def run(self, inbox: Inbox[Count | Forget]) -> None: ...


class Forgetter:
    async def run(self, inbox: Inbox[Forget]) -> None: ...


async def right(counter: Ref[Count | Forget]) -> int:
    counter.tell(Forget("x"))
    assert_type(await counter.ask(partial(Count, word="x"), within=1), int)
    narrower: Ref[Forget] = counter
    narrower.tell(Forget("y"))
    return await counter.ask(lambda reply: Count(reply, "x"), within=1)


async def wrong(forgetter: Ref[Forget], counter: Ref[Count]) -> None:
    forgetter.tell("x")  # 1
    await forgetter.ask(partial(Count, word="x"), within=1)  # 2
    await counter.ask(partial(Count, word=3), within=1)  # 3
    text: str = await counter.ask(partial(Count, word="x"), within=1)  # 4
    print(text)


def tree(counts: Mailbox[Count | Forget], forgets: Mailbox[Forget]) -> list[Child[object]]:
    return [  # 5: the list as a whole
        Child("right", counts, Counter),
        Child("also right", forgets, Forgetter),
        Child("wrong", counts, Forgetter),  # 6: and in it this one
    ]
"""


@pytest.mark.skipif(shutil.which("pyright", path=str(Path(sys.executable).parent)) is None, reason="needs pyright")
def test_wrong_message_type(tmp_path):
    """It is an error before anything runs, in a tell, an ask, an answer and a child; what is right is none."""
    (tmp_path / "snippet.py").write_text(SNIPPET)
    settings = {"typeCheckingMode": "strict", "pythonVersion": "3.11", "extraPaths": [str(ROOT / ".pkg")]}
    (tmp_path / "pyrightconfig.json").write_text(json.dumps(settings))
    command = [
        Path(sys.executable).with_name("pyright"),
        "--pythonpath",
        sys.executable,
        "--outputjson",
        "-p",
        tmp_path,
    ]
    report = json.loads(subprocess.run(command, capture_output=True, check=False).stdout)
    found = {error["range"]["start"]["line"] for error in report["generalDiagnostics"]}
    expected = {number for number, line in enumerate(SNIPPET.splitlines()) if "  # " in line}
    assert found == expected, report
