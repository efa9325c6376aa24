"""Containers without an engine: their programs as processes of this machine, told by the manifests what to do.

Folders that would be mounted are folders here, names of services are the loopback. Users, limits and read-only file
systems are not played: what is tested is that the parts find, know and trust each other.
"""

import os
import re
import subprocess
import sys
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import anyio
import trustme
from anyio.abc import Process

from orchestrator.client import Client, Unreachable
from orchestrator.credentials import authorization, tls

PATIENCE_S = 30.0
EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
GROWTH = {
    "case_id": "case-1",
    "task_type": "analyze_refer",
    "payload": {
        "sex": "male",
        "birth_date": "2023-02-11",
        "reference": "who",
        "measurements": [{"date": "2025-02-14", "kind": "height", "value": 87.1}],
    },
}
IMAGE = {
    "case_id": "case-2",
    "task_type": "embed",
    "consent": {"consent_given": True, "consent_id": "consent-2"},
    "payload": {"image_ref": "retina.png"},
}


@dataclass
class Container:
    """What one is started with."""

    command: Sequence[str]
    environ: Mapping[str, str]
    here: Mapping[str, str] = field(default_factory=dict[str, str])
    """What stands for what on this machine: folders, names, addresses."""

    def argv(self) -> list[str]:
        words = {
            "orchestrator": [sys.executable, "-m", "orchestrator"],
            "python": [sys.executable],
            "sh": ["/bin/dash"],
        }
        first, *others = self.command
        return [*words[first], *map(self.told, others)]

    def environment(self) -> dict[str, str]:
        own = {name: self.told(value) for name, value in self.environ.items()}
        return {"PATH": os.environ["PATH"], "PYTHONUNBUFFERED": "1", **own}

    def told(self, text: str) -> str:
        """`text` with what stands here for what it names; what was put in is not looked at again."""
        names = "|".join(re.escape(name) for name in sorted(self.here, key=len, reverse=True))
        return re.sub(rf"(?:{names})(?!\w)", lambda found: self.here[found[0]], text) if names else text

    @asynccontextmanager
    async def running(self, folder: Path) -> AsyncGenerator[Process]:
        """Runs inside the block, and must end well on SIGTERM after it."""
        async with await anyio.open_process(
            self.argv(), env=self.environment(), cwd=folder, stdout=None, stderr=None
        ) as process:
            try:
                yield process
                assert process.returncode is None, f"{self.command} ended with {process.returncode}"
                process.terminate()
                with anyio.fail_after(PATIENCE_S):
                    assert await process.wait() == 0, self.command
            finally:
                if process.returncode is None:
                    process.kill()

    async def ends(self, folder: Path) -> subprocess.CompletedProcess[bytes]:
        """Runs to its end."""
        with anyio.fail_after(PATIENCE_S):
            return await anyio.run_process(self.argv(), env=self.environment(), cwd=folder, check=False)


def certificate(*names: str) -> dict[str, str]:
    """A Secret as cert-manager would fill it, for these names and this machine."""
    ca = trustme.CA()
    issued = ca.issue_cert(*names, "127.0.0.1", "localhost")
    chain = b"".join(pem.bytes() for pem in issued.cert_chain_pems)
    pems = {"tls.crt": chain, "tls.key": issued.private_key_pem.bytes(), "ca.crt": ca.cert_pem.bytes()}
    return {name: pem.decode() for name, pem in pems.items()}


async def until_ready(url: str, environ: Mapping[str, str]) -> None:
    async with Client(url, None, tls(environ)) as client:
        with anyio.fail_after(PATIENCE_S):
            while True:
                try:
                    if (await client.call("GET", "/ready")).status == 200:
                        return
                except Unreachable:
                    pass
                await anyio.sleep(0.05)


async def does_its_work(url: str, environ: Mapping[str, str]) -> None:
    """Both reference agents do what they are for, for who shows what stands in `environ`."""
    async with Client(url, authorization(environ), tls(environ)) as client:
        for task in (GROWTH, IMAGE):
            accepted = await client.submit(task)
            assert accepted.status == 202, accepted
            done = await client.task(accepted.body["task_id"], PATIENCE_S)
            assert done.body["status"] == "succeeded", done


async def refuses(url: str, environ: Mapping[str, str]) -> None:
    """Nobody gets in who shows nothing."""
    async with Client(url, None, tls(environ)) as client:
        for method, path, body in (("POST", "/route_task", GROWTH), ("GET", "/agents", None), ("GET", "/audit", None)):
            assert (await client.call(method, path, body)).status == 401, path


def written(folder: Path, content: Mapping[str, Any]) -> Path:
    """A folder with these files."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in content.items():
        (folder / name).write_text(text, "utf-8")
    return folder
