"""Which class speaks HTTP/1.1: ours on httptools where it can, h11 as Hypercorn uses it otherwise."""

from importlib.metadata import version
from importlib.util import find_spec

from hypercorn.asyncio import run

from orchestrator.web import protocol
from orchestrator.web.door import Door

CHECKED_WITH = "0.18."
"""The versions of Hypercorn whose connections our class was seen to take over."""


def best_door() -> type[Door]:
    """The quickest that there is. Both refuse the same requests, and hold the same limits."""
    if find_spec("httptools") is None or not version("hypercorn").startswith(CHECKED_WITH):
        return Door
    from orchestrator.web.fast_door import FastDoor

    return FastDoor


def install() -> None:
    """Has Hypercorn use our classes for its connections, for which it has no setting. Twice is safe."""
    protocol.install()
    run.TCPServer = best_door()  # pyright: ignore[reportPrivateImportUsage]
