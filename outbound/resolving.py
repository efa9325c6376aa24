"""From an agent's name to the addresses at which it may be called: those, and no others, are then connected to.

The check is made where a connection is, so that a name that leads elsewhere since it was registered leads nowhere.
"""

import socket
from ipaddress import ip_address

import anyio
from aiohttp.abc import AbstractResolver, ResolveResult

from orchestrator.domain.endpoint import Address, Endpoint
from orchestrator.domain.reach import Reach


class NotAllowed(OSError):
    """No agent may be called there. Its words are ours."""


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


class PinningResolver(AbstractResolver):
    """The addresses of a name at which an agent may be called by `scheme`; aiohttp connects to one of these."""

    def __init__(self, scheme: str, reach: Reach, lookup: AbstractResolver, within_s: float) -> None:
        self._scheme, self._reach, self._lookup, self._within = scheme, reach, lookup, within_s

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        """Raises NotAllowed where none of the addresses may be called, another OSError where there is none."""
        with anyio.fail_after(self._within):
            found = await self._lookup.resolve(host, port, family)
        endpoint = Endpoint("", self._scheme, host.lower().removesuffix("."), port, None)
        kept: list[ResolveResult] = []
        refused = NotAllowed("The name has no address.")
        for result in found:
            try:
                check(endpoint, ip_address(result["host"]), self._reach)
                kept.append(result)
            except NotAllowed as error:
                refused = error
        if not kept:
            raise refused
        return kept

    async def close(self) -> None:
        await self._lookup.close()
