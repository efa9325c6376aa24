"""Which places agents may be called at: an allow-list, and ports where something else of ours listens."""

import re
from collections.abc import Iterable
from ipaddress import IPv4Network, IPv6Network, ip_network
from urllib.parse import parse_qs, urlsplit

from msgspec import Struct

from orchestrator.domain.endpoint import Address, Endpoint, is_no_place, unwrapped

_PORTS = re.compile(r"[0-9]{1,5}(-[0-9]{1,5})?", re.ASCII)
_SERVERS = {"postgresql": 5432, "postgres": 5432, "redis": 6379, "rediss": 6379}
"""What a URL may name, and where that listens unless the URL says so."""
_LOOPBACK = (ip_network("127.0.0.0/8"), ip_network("::1/128"))


class Network(str):
    """A network in CIDR notation, such as 10.1.0.0/16. Raises ValueError for what is none."""

    def __new__(cls, text: str) -> "Network":
        try:
            ip_network(text)
        except ValueError:
            raise ValueError("is no network, such as 10.1.0.0/16") from None
        return super().__new__(cls, text)


class Ports(str):
    """A port, or a range of ports with both ends in it, such as 1024-65535. Raises ValueError for what is neither."""

    def __new__(cls, text: str) -> "Ports":
        ports = super().__new__(cls, text)
        if not _PORTS.fullmatch(text) or not 0 < ports.first <= ports.last < 65_536:
            raise ValueError("is no port, nor a range of ports such as 1024-65535")
        return ports

    @property
    def first(self) -> int:
        return int(self.partition("-")[0])

    @property
    def last(self) -> int:
        return int(self.rpartition("-")[2])


class Reach(Struct, frozen=True):
    """Where agents may be. An address is allowed by a network of the list, or by the name in `hosts` that led to it.

    A listed name leads to addresses of this machine only where a network lists them: whoever answers for the name must
    not be able to point it at us. `closed_ports` (database, Redis) are closed everywhere, `own_ports` on this machine.
    """

    networks: tuple[IPv4Network | IPv6Network, ...]
    ports: tuple[range, ...]
    hosts: frozenset[str] = frozenset()
    closed_ports: frozenset[int] = frozenset()
    own_ports: frozenset[int] = frozenset()
    plaintext: bool = False
    """Whether agents on other machines may be called by plain http."""

    @classmethod
    def of(cls, networks: Iterable[Network], hosts: Iterable[str], ports: Iterable[Ports]) -> "Reach":
        """A reach from what the settings list."""
        return cls(
            networks=tuple(ip_network(network) for network in networks),
            hosts=frozenset(host.lower().removesuffix(".") for host in hosts),
            ports=tuple(range(it.first, it.last + 1) for it in ports),
        )

    def refusal(self, endpoint: Endpoint) -> str | None:
        """Why the URL alone rules the endpoint out, in words for whoever registers it; None if it does not."""
        port = endpoint.port
        if port in self.closed_ports or not any(port in ports for ports in self.ports):
            return "The endpoint's port is not one that agents may have (agents.allowed_ports)."
        if endpoint.address is not None:
            return self.refusal_at(endpoint, endpoint.address, ours=False)
        return None

    def refusal_at(self, endpoint: Endpoint, address: Address, *, ours: bool) -> str | None:
        """Why the endpoint may not be called at `address`, None if it may; `ours` is whether this machine has it."""
        address = unwrapped(address)
        if is_no_place(address):
            return "The endpoint is a link-local, multicast, reserved or unspecified address, or a metadata service."
        ours = ours or address.is_loopback
        listed = any(address in network for network in self.networks)
        if not listed and (ours or endpoint.host not in self.hosts):
            return "The endpoint is not in the networks and hosts that agents may be in (agents.allowed_networks)."
        if ours and endpoint.port in self.own_ports:
            return "The endpoint is the orchestrator itself."
        if endpoint.scheme == "http" and not (self.plaintext or any(address in network for network in _LOOPBACK)):
            return "Agents on other machines are called by https only (agents.allow_plaintext)."
        return None


def ports_of(url: str) -> frozenset[int]:
    """Where the database or the Redis listens that `url` names, in any way in which its driver may read it.

    Each of several hosts has its own, and the query may name more. Empty for what is no such server.
    """
    scheme = url.partition(":")[0].lower().partition("+")[0]
    if scheme not in _SERVERS:
        return frozenset()
    parts = urlsplit(url)
    query = parse_qs(parts.query)
    hosts = ",".join([parts.netloc.rpartition("@")[2], *query.get("host", [])]).split(",")
    named = [host.rpartition("]")[2].rpartition(":")[2] for host in hosts if ":" in host.rpartition("]")[2]]
    named += ",".join(query.get("port", [])).split(",")
    return frozenset({_SERVERS[scheme], *(int(port) for port in named if port.isdecimal())})
