"""Connections to agents: made only to addresses that were checked, kept for a moment, and then used again."""

import asyncio
import socket
import ssl
from functools import partial

import anyio
import anyio.to_thread
from aiohappyeyeballs import start_connection  # pyright: ignore[reportUnknownVariableType]

from orchestrator.domain.endpoint import Address, Endpoint, unwrapped
from orchestrator.domain.reach import Reach
from orchestrator.outbound.exchange import Exchange
from orchestrator.outbound.resolving import Lookup, allowed

KEPT_S = 15.0
SWEEP_S = 5.0
STAGGER_S = 0.25
"""How long an address of several may take before the next is tried beside it (RFC 8305 §5)."""

_Place = tuple[str, str, int]


class Connections:
    """Of one process, and one event loop. As many as there are calls at once."""

    def __init__(
        self, reach: Reach, lookup: Lookup, tls: ssl.SSLContext | None, connect_timeout_s: float, most: int
    ) -> None:
        """`tls` is how agents are known by https; without it, by what this machine trusts. `most` bounds an answer."""
        self._reach, self._lookup, self._tls, self._within, self._most = reach, lookup, tls, connect_timeout_s, most
        self._idle: dict[_Place, list[Exchange]] = {}
        self._sweeping: asyncio.TimerHandle | None = None
        self._loop = asyncio.get_running_loop()

    def idle(self, endpoint: Endpoint) -> Exchange | None:
        """One that is open, the last used first: it stays with the address that was checked."""
        kept = self._idle.get(_place(endpoint))
        while kept:
            exchange = kept.pop()
            if exchange.reusable and exchange.idle_since + KEPT_S > self._loop.time():
                return exchange
            exchange.close()
        return None

    async def open(self, endpoint: Endpoint) -> Exchange:
        """A new one. Raises NotAllowed, or another OSError where none comes about within the time for it."""
        addresses = await allowed(endpoint, self._reach, self._lookup, self._within)
        with anyio.fail_after(self._within):
            tls = await self._context() if endpoint.scheme == "https" else None
            connected = await start_connection(
                [_address_info(address, endpoint.port) for address in addresses], happy_eyeballs_delay=STAGGER_S
            )
            try:
                name = (str(endpoint.address) if endpoint.address else endpoint.host) if tls else None
                make = partial(Exchange, self._most)
                _, exchange = await self._loop.create_connection(make, sock=connected, ssl=tls, server_hostname=name)
            except BaseException:
                connected.close()
                raise
        return exchange

    def keep(self, endpoint: Endpoint, exchange: Exchange) -> None:
        """For the next call to the same place, if it can serve one."""
        if exchange.reusable:
            self._idle.setdefault(_place(endpoint), []).append(exchange)
            if self._sweeping is None:
                self._sweeping = self._loop.call_later(SWEEP_S, self._sweep)

    def close(self) -> None:
        """Those that are not in use. Twice is safe."""
        if self._sweeping is not None:
            self._sweeping.cancel()
        for kept in self._idle.values():
            for exchange in kept:
                exchange.close()
        self._idle.clear()

    def _sweep(self) -> None:
        """Closes what was not used for long."""
        oldest = self._loop.time() - KEPT_S
        for place, kept in list(self._idle.items()):
            young = [exchange for exchange in kept if exchange.reusable and exchange.idle_since > oldest]
            for exchange in set(kept) - set(young):
                exchange.close()
            self._idle[place] = young
            if not young:
                del self._idle[place]
        self._sweeping = self._loop.call_later(SWEEP_S, self._sweep) if self._idle else None

    async def _context(self) -> ssl.SSLContext:
        """Reading what this machine trusts takes a while, so it is done once, where https is spoken at all."""
        if self._tls is None:
            self._tls = await anyio.to_thread.run_sync(ssl.create_default_context)
        return self._tls


def _place(endpoint: Endpoint) -> _Place:
    return endpoint.scheme, endpoint.host, endpoint.port


def _address_info(
    address: Address, port: int
) -> tuple[socket.AddressFamily, socket.SocketKind, int, str, tuple[str, int] | tuple[str, int, int, int]]:
    address = unwrapped(address)
    if address.version == 4:
        return socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP, "", (str(address), port)
    return socket.AF_INET6, socket.SOCK_STREAM, socket.IPPROTO_TCP, "", (str(address), port, 0, 0)
