"""Where an agent says it lives: its URL, read as strictly as it can be, and the places where no agent ever is."""

import re
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network

from msgspec import Struct

from orchestrator.domain.errors import InvalidRequest

Address = IPv4Address | IPv6Address

_URL = re.compile(
    r"(?P<scheme>https?)://(?P<host>\[[0-9a-f:.]+\]|(?:[a-z0-9_][a-z0-9_-]{0,62}\.)*[a-z0-9_][a-z0-9_-]{0,62}\.?)"
    r"(?::(?P<port>[0-9]{1,5}))?(?:/[a-z0-9/._~!$&'()*+,;=:@%-]*)?",
    re.ASCII | re.IGNORECASE,
)
"""The URLs that every parser reads alike: plain ASCII, nothing before the host, nothing after the path."""

_NUMBER = re.compile(r"0x[0-9a-f]*|[0-9]+", re.ASCII | re.IGNORECASE)

_METADATA_HOSTS = frozenset({"metadata", "metadata.google.internal", "instance-data"})
_METADATA_ADDRESSES = frozenset(
    {
        IPv4Address("100.100.100.200"),
        IPv4Address("168.63.129.16"),
        IPv4Address("192.0.0.192"),
        IPv6Address("fd00:ec2::254"),
        IPv6Address("fd20:ce::254"),
    }
)
"""Alibaba, Azure, Oracle, AWS, Google: those that are not link-local anyway."""

_NO_PLACES = (
    IPv4Network("0.0.0.0/8"),  # This network (RFC 1122).
    # NAT64 (RFC 6052, RFC 8215), Teredo (RFC 4380) and 6to4 (RFC 7526): they wrap an IPv4 address.
    IPv6Network("64:ff9b::/96"),
    IPv6Network("64:ff9b:1::/48"),
    IPv6Network("2001::/32"),
    IPv6Network("2002::/16"),
    IPv6Network("fec0::/10"),  # Site-local, deprecated (RFC 3879).
)
_DEFAULT_PORTS = {"http": 80, "https": 443}


class Endpoint(Struct, frozen=True):
    """Where an agent is called. `address` is what its host writes out, None where the host is a name."""

    url: str
    scheme: str
    host: str
    port: int
    address: IPv4Address | IPv6Address | None


def read_endpoint(url: str) -> Endpoint:
    """What `url` says, if an agent may have it; raises InvalidRequest otherwise, and never quotes it.

    Plain http or https, a host, a port in range; no credentials, query or fragment; never a link-local, multicast,
    reserved or unspecified address, in whatever notation, nor a cloud's metadata service. `Endpoint.url` has no slash
    at its end and an address in its usual notation: not every client reads the others.
    """
    parts = _URL.fullmatch(url)
    if parts is None:
        raise InvalidRequest(
            "The endpoint must be an http or https URL: a host in ASCII, a port and a path if need be, nothing else."
        )
    if parts["port"] is not None and not 0 < int(parts["port"]) < 65_536:
        raise InvalidRequest("The endpoint's port is not one from 1 to 65535.")
    scheme, host = parts["scheme"].lower(), parts["host"].lower().removesuffix(".")
    address = _checked_address(host)
    port = int(parts["port"] or _DEFAULT_PORTS[scheme])
    if address is not None:
        head, tail = url[: parts.start("host")], url[parts.end("host") :]
        url = f"{head}{address if address.version == 4 else f'[{address}]'}{tail}"
    return Endpoint(url.rstrip("/"), scheme, host, port, address)


def is_no_place(address: Address) -> bool:
    """Whether no agent can be at `address`: link-local, multicast, reserved, unspecified, or a metadata service.

    An IPv4-mapped address is judged as the IPv4 address that it is.
    """
    address = unwrapped(address)
    if address.is_loopback:
        return False
    kinds = address.is_link_local or address.is_multicast or address.is_reserved or address.is_unspecified
    return kinds or address in _METADATA_ADDRESSES or any(address in network for network in _NO_PLACES)


def unwrapped(address: Address) -> Address:
    """The IPv4 address that an IPv4-mapped one (RFC 4291 §2.5.5.2) is for every socket; any other as it is."""
    return address.ipv4_mapped or address if isinstance(address, IPv6Address) else address


def _checked_address(host: str) -> Address | None:
    try:
        address = _address(host)
    except ValueError:
        raise InvalidRequest("The endpoint's address is not a valid one.") from None
    if host in _METADATA_HOSTS or address in _METADATA_ADDRESSES:
        raise InvalidRequest("The endpoint is a metadata service.")
    if address is not None and is_no_place(address):
        raise InvalidRequest("The endpoint is a link-local, multicast, reserved or unspecified address.")
    return address


def _address(host: str) -> Address | None:
    """The address that `host` writes out, None if it is a name. Raises ValueError for what is neither."""
    if host.startswith("["):
        return unwrapped(IPv6Address(host[1:-1]))
    parts = host.split(".")
    return _inet_aton(parts) if _NUMBER.fullmatch(parts[-1]) else None


def _inet_aton(parts: list[str]) -> IPv4Address:
    """An IPv4 address as inet_aton(3) reads it: one to four numbers, the last fills the bytes left."""
    *leading, last = (_number(part) for part in parts)
    room = 4 - len(leading)
    if room < 1 or any(part > 255 for part in leading) or last >= 256**room:
        raise ValueError(parts)
    return IPv4Address(last + sum(part << (24 - 8 * i) for i, part in enumerate(leading)))


def _number(part: str) -> int:
    """0x… is hexadecimal, 0… octal. Raises ValueError where it is no number."""
    if not _NUMBER.fullmatch(part):
        raise ValueError(part)
    if part.startswith("0x"):
        return int(part[2:], 16)
    return int(part, 8 if part.startswith("0") else 10)
