"""Where an agent may live: the rules that can be told from its URL alone."""

import re
from ipaddress import IPv4Address, IPv4Network, IPv6Address

from orchestrator.domain.errors import InvalidRequest

_URL = re.compile(
    r"https?://(?P<host>\[[0-9a-f:.]+\]|(?:[a-z0-9_][a-z0-9_-]*\.)*[a-z0-9_][a-z0-9_-]*\.?)"
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

_THIS_NETWORK = IPv4Network("0.0.0.0/8")


def check_endpoint(url: str) -> str:
    """`url` without a trailing slash, if an agent may have it; raises InvalidRequest otherwise.

    Plain http or https, a host, a port in range; no credentials, query or fragment; never a link-local, multicast,
    reserved or unspecified address, in whatever notation, nor a cloud's metadata service.
    """
    parts = _URL.fullmatch(url)
    if parts is None:
        raise InvalidRequest(
            "The endpoint must be an http or https URL: a host in ASCII, a port and a path if need be, nothing else."
        )
    if parts["port"] is not None and not 0 < int(parts["port"]) < 65_536:
        raise InvalidRequest("The endpoint's port is not one from 1 to 65535.")
    _check_host(parts["host"].lower().removesuffix("."))
    return url.rstrip("/")


def _check_host(host: str) -> None:
    try:
        address = _address(host)
    except ValueError:
        raise InvalidRequest("The endpoint's address is not a valid one.") from None
    if address is None:
        if host in _METADATA_HOSTS:
            raise InvalidRequest("The endpoint is a metadata service.")
    elif address in _METADATA_ADDRESSES:
        raise InvalidRequest("The endpoint is a metadata service.")
    elif not address.is_loopback and _is_no_place(address):
        raise InvalidRequest("The endpoint is a link-local, multicast, reserved or unspecified address.")


def _is_no_place(address: IPv4Address | IPv6Address) -> bool:
    no_host = address.is_link_local or address.is_multicast or address.is_reserved or address.is_unspecified
    return no_host or address in _THIS_NETWORK


def _address(host: str) -> IPv4Address | IPv6Address | None:
    """The address that `host` writes out, None if it is a name; an IPv4 address also where an IPv6 one only wraps it.

    Raises ValueError for what is neither.
    """
    if host.startswith("["):
        address = IPv6Address(host[1:-1])
        return address.ipv4_mapped or address.sixtofour or address
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
