"""The open connections of a server: how many there may be, in all and from one peer."""

import asyncio
from collections import Counter
from functools import lru_cache
from ipaddress import IPv6Address, ip_address
from typing import Any, Protocol


def peer_of(address: Any) -> str:
    """Who is at the other end, from a socket's address: an IPv4 address, an IPv6 network of 64 bits, or nothing.

    One machine has a whole network of IPv6 addresses to itself, so these count as one.
    """
    try:
        return _machine(str(address[0]))
    except (LookupError, TypeError):
        return ""


@lru_cache(maxsize=1_024)
def _machine(host: str) -> str:
    try:
        ip = ip_address(host.partition("%")[0])
    except ValueError:
        return ""
    if isinstance(ip, IPv6Address):
        return str(ip.ipv4_mapped) if ip.ipv4_mapped else f"{IPv6Address(int(ip) >> 64 << 64)}/64"
    return str(ip)


class Served(Protocol):
    """A connection that ends itself when it is told to."""

    def stop(self) -> None:
        """Nothing after the request that is being answered, and nothing at all where there is none."""
        ...

    def end(self) -> None:
        """Its request has to end now."""
        ...


class Connections:
    """The open connections of one server, at most `most`, and at most `per_peer` from one peer."""

    def __init__(self, most: int, per_peer: int) -> None:
        self._most, self._per_peer = most, per_peer
        self._open: set[asyncio.WriteTransport] = set()
        self._peers: Counter[str] = Counter()
        self._served: set[Served] = set()
        self.stopping = self.ending = False

    def __repr__(self) -> str:
        return f"<Connections {len(self._open)}/{self._most} from {len(self._peers)} peers>"

    def enter(self, transport: asyncio.WriteTransport, task: asyncio.Task[Any] | None) -> int | None:
        """Counts the connection until the task, which serves it, ends; or the status of a refusal."""
        peer = peer_of(transport.get_extra_info("peername"))
        if task is None or len(self._open) >= self._most:
            return 503
        # Without an address there is a socket file before us, and whoever may use it decides who may.
        if peer and self._peers[peer] >= self._per_peer:
            return 429
        self._open.add(transport)
        self._peers[peer] += 1
        task.add_done_callback(lambda _: self._leave(transport, peer))
        return None

    def _leave(self, transport: asyncio.WriteTransport, peer: str) -> None:
        self._open.discard(transport)
        self._peers[peer] -= 1
        if not self._peers[peer]:
            del self._peers[peer]

    def serve(self, connection: Served) -> None:
        """It is told of the end from now on, until it leaves."""
        self._served.add(connection)

    def leave(self, connection: Served) -> None:
        """It is over. Twice is safe."""
        self._served.discard(connection)

    def stop_all(self) -> None:
        """Service stops: what has begun goes on."""
        self.stopping = True
        self.renew_all()

    def renew_all(self) -> None:
        """Clients have to connect anew: what has begun goes on."""
        for connection in list(self._served):
            connection.stop()

    def end_all(self) -> None:
        """The time of what went on is over."""
        self.ending = True
        for connection in list(self._served):
            connection.end()

    def abort_all(self) -> None:
        """Breaks all of them off, whatever is still to be sent."""
        for transport in self._open:
            transport.abort()
