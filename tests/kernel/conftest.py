"""Both event loops for every test here, a virtual clock for those about time, and a tree of scripted actors."""

from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

import anyio
import pytest
import trio.testing

from orchestrator.kernel.events import KernelEvent
from orchestrator.kernel.inbox import Inbox
from orchestrator.kernel.mailbox import Mailbox
from orchestrator.kernel.restart import Backoff, Intensity
from orchestrator.kernel.supervisor import Child, Strategy, Supervisor
from orchestrator.testing import virtual_environment

Script = Callable[[Inbox[Any]], Awaitable[None]]


@pytest.fixture(params=["asyncio", "trio"])
def anyio_backend(request):
    return request.param


@pytest.fixture
def virtual_clock():
    """For modules about time: `anyio_backend` is overridden there with trio under a clock that jumps."""
    return ("trio", {"clock": trio.testing.MockClock(autojump_threshold=0)})


class Scripted:
    """An actor that is a function."""

    def __init__(self, script: Script) -> None:
        self._script = script

    async def run(self, inbox: Inbox[Any]) -> None:
        await self._script(inbox)


class Tree:
    """Supervised actors that log what they do: `x+` started, `x-` ended as asked, `x!` cancelled, `x:m` handled m."""

    def __init__(self) -> None:
        self.log: list[str] = []
        self.events: list[KernelEvent] = []
        self.children: list[Child[Any]] = []

    def child(self, name: str, script: Script | None = None, capacity: int = 8, **options: Any) -> Mailbox[Any]:
        mailbox = Mailbox[Any](name, capacity)
        start = partial(Scripted, script or partial(self.serve, name))
        self.children.append(Child(name, mailbox, start, **options))
        return mailbox

    def supervisor(self, **options: Any) -> Supervisor:
        defaults: dict[str, Any] = {
            "strategy": Strategy.REST_FOR_ONE,
            "intensity": Intensity(restarts=3, period=30.0),
            "backoff": Backoff(base=0.0, cap=0.0),
            "environment": virtual_environment(),
            "observe": self.events.append,
        }
        return Supervisor(self.children, **defaults | options)

    async def serve(self, name: str, inbox: Inbox[Any]) -> None:
        """Logs every message; raises one that is an error, and waits for ever over "hang"."""
        self.log.append(f"{name}+")
        inbox.ready()
        try:
            async for message in inbox:
                if isinstance(message, Exception):
                    raise message
                if message == "hang":
                    await anyio.sleep_forever()
                self.log.append(f"{name}:{message}")
            self.log.append(f"{name}-")
        except anyio.get_cancelled_exc_class():
            self.log.append(f"{name}!")
            raise


@pytest.fixture
def tree():
    return Tree()
