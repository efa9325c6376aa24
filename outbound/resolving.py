"""From an agent's name to the addresses at which it may be called: those, and no others, are then connected to.

The check is made where a connection is, so that a name that leads elsewhere since it was registered leads nowhere.
"""

import asyncio
import socket
from collections.abc import Awaitable, Callable, Sequence
from ipaddress import ip_address

import anyio

from orchestrator.domain.endpoint import Address, Endpoint
from orchestrator.domain.reach import Reach

Lookup = Callable[[str, int], Awaitable[Sequence[str]]]
"""The addresses of a name, for a port. Raises OSError where there are none."""


class NotAllowed(OSError):
    """No agent may be called there. Its words are ours."""


async def by_the_system(host: str, port: int) -> list[str]:
    """As the operating system finds them, of the kinds that this machine has itself. Needs asyncio."""
    loop = asyncio.get_running_loop()
    try:
        found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_ADDRCONFIG)
    except UnicodeError:
        raise OSError("it is no name of the domain name system") from None
    return [str(sockaddr[0]) for *_, sockaddr in found]


def check(endpoint: Endpoint, address: Address, reach: Reach) -> None:
    """Raises NotAllowed if the endpoint may not be called at `address`."""
    refusal = reach.refusal_at(endpoint, address, ours=address.is_loopback or is_ours(address))
    if refusal is not None:
        raise NotAllowed(refusal)


def is_ours(address: Address) -> bool:
    """Whether the address is one of this machine's: only such a one can be bound."""
    family = socket.AF_INET if address.version == 4 else socket.AF_INET6
    with socket.socket(family, socket.SOCK_DGRAM) as probe:
        try:
            probe.bind((str(address), 0))
        except OSError:
            return False
    return True


async def allowed(endpoint: Endpoint, reach: Reach, lookup: Lookup, within_s: float) -> list[Address]:
    """The addresses at which the endpoint may be called now, its name looked up within so many seconds.

    Raises NotAllowed where none of them may be called, another OSError (TimeoutError is one) where there is none.
    """
    refusal = reach.refusal(endpoint)
    if refusal is not None:
        raise NotAllowed(refusal)
    if endpoint.address is not None:
        check(endpoint, endpoint.address, reach)
        return [endpoint.address]
    with anyio.fail_after(within_s):
        found = await lookup(endpoint.host, endpoint.port)
    kept: list[Address] = []
    refused = NotAllowed("The name has no address.")
    for address in map(ip_address, found):
        try:
            check(endpoint, address, reach)
            kept.append(address)
        except NotAllowed as error:
            refused = error
    if not kept:
        raise refused
    return kept
