"""A pull agent that asks for work and waits for it."""

import anyio

from orchestrator.actors.messages import Granted, LeaseTasks


class Asking:
    """One request. It wants tasks while it is open; it is settled once it need not wait any longer.

    That is when it has something and nothing more is on its way, so that who asks for several gets what is there.
    """

    def __init__(self, message: LeaseTasks) -> None:
        self.message = message
        self.granted: list[Granted] = []
        self.open = self.withdrawn = False
        self.settled, self.idle = anyio.Event(), anyio.Event()
        self.idle.set()
        self._coming = 0

    @property
    def wants(self) -> int:
        """How many more tasks it would take."""
        wanted = self.message.most - len(self.granted) - self._coming
        return wanted if self.open and not self.settled.is_set() else 0

    def expect(self) -> None:
        """A task is being leased for it."""
        self._coming += 1
        if self.idle.is_set():
            self.idle = anyio.Event()

    def receive(self, granted: Granted | None) -> None:
        """The task is leased, or was not after all."""
        self._coming -= 1
        if granted is not None:
            self.granted.append(granted)
        if not self._coming:
            self.idle.set()
            if self.granted:
                self.settle()

    def settle(self) -> None:
        """It need not wait: it has something, or there is nothing to come."""
        self.settled.set()
