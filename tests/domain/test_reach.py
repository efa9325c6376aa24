"""Which addresses agents may be called at: the allow-list, and what no list opens."""

from ipaddress import ip_address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.domain.endpoint import is_no_place, read_endpoint
from orchestrator.domain.reach import Network, Ports, Reach, ports_of

ANYWHERE = [Network("0.0.0.0/0"), Network("::/0")]
ALL_PORTS = [Ports("1-65535")]
LOOPBACK = Reach.of([Network("127.0.0.0/8"), Network("::1/128")], [], ALL_PORTS)
CLINIC = Reach.of([Network("10.1.0.0/16"), Network("fd12::/32")], ["gpu.clinic.example", "Box."], ALL_PORTS)
EVERYTHING = Reach(
    networks=Reach.of(ANYWHERE, [], []).networks,
    ports=(range(1, 65_536),),
    hosts=frozenset({"box"}),
    plaintext=True,
)


def allowed(reach: Reach, url: str, at: str | None = None, *, ours: bool = False) -> bool:
    endpoint = read_endpoint(url)
    address = endpoint.address if at is None else ip_address(at)
    assert address is not None
    return reach.refusal(endpoint) is None and reach.refusal_at(endpoint, address, ours=ours) is None


@pytest.mark.parametrize(
    ("reach", "url", "at", "well"),
    [
        (LOOPBACK, "http://127.0.0.1:9", None, True),
        (LOOPBACK, "http://127.9.9.9:9", None, True),
        (LOOPBACK, "http://[::1]:9", None, True),
        (LOOPBACK, "http://[::ffff:127.0.0.1]:9", None, True),
        (LOOPBACK, "http://2130706433:9", None, True),
        (LOOPBACK, "http://localhost:9", "127.0.0.1", True),
        (LOOPBACK, "http://localhost:9", "::1", True),
        (LOOPBACK, "https://localhost:9", "::1", True),
        (LOOPBACK, "https://10.0.0.1", None, False),
        (LOOPBACK, "https://8.8.8.8", None, False),
        (LOOPBACK, "https://[fd12::1]", None, False),
        (LOOPBACK, "https://localhost", "10.0.0.1", False),
        (LOOPBACK, "https://126.255.255.255", None, False),
        (LOOPBACK, "https://128.0.0.0", None, False),
        (CLINIC, "https://10.1.0.0", None, True),
        (CLINIC, "https://10.1.255.255", None, True),
        (CLINIC, "https://10.0.255.255", None, False),
        (CLINIC, "https://10.2.0.0", None, False),
        (CLINIC, "https://[fd12::7]", None, True),
        (CLINIC, "https://[fd13::7]", None, False),
        (CLINIC, "https://[::ffff:10.1.2.3]", None, True),
        (CLINIC, "https://127.0.0.1", None, False),
        (CLINIC, "https://agent.example", "10.1.2.3", True),
        (CLINIC, "https://agent.example", "::ffff:10.1.2.3", True),
        (CLINIC, "https://agent.example", "192.168.1.1", False),
        # Plain http shows payloads to the network.
        (CLINIC, "http://10.1.2.3", None, False),
        (CLINIC, "http://agent.example", "10.1.2.3", False),
        (CLINIC, "http://gpu.clinic.example", "192.168.1.1", False),
        (EVERYTHING, "http://10.1.2.3", None, True),
        # A name that is listed may be anywhere, but not here.
        (CLINIC, "https://gpu.clinic.example", "192.168.1.1", True),
        (CLINIC, "https://GPU.clinic.example.", "2001:4860::1", True),
        (CLINIC, "https://box", "192.168.1.1", True),
        (CLINIC, "https://gpu.clinic.example", "127.0.0.1", False),
        (CLINIC, "https://gpu.clinic.example", "::1", False),
        (CLINIC, "https://gpu.clinic.example", "::ffff:127.0.0.1", False),
        (CLINIC, "https://a.gpu.clinic.example", "192.168.1.1", False),
        (CLINIC, "https://clinic.example", "192.168.1.1", False),
    ],
)
def test_the_list(reach, url, at, well):
    """Allows what is in its networks, and what its names lead to elsewhere."""
    assert allowed(reach, url, at) is well


NEVER = [
    "169.254.169.254", "169.254.0.1", "fe80::1", "0.0.0.0", "0.1.2.3", "::", "224.0.0.1", "239.1.1.1", "ff02::1",
    "255.255.255.255", "240.0.0.1", "100.100.100.200", "168.63.129.16", "192.0.0.192", "fd00:ec2::254", "fd20:ce::254",
    "::ffff:169.254.169.254", "::ffff:0.0.0.0", "::ffff:224.0.0.1", "::169.254.169.254", "64:ff9b::a9fe:a9fe",
    "64:ff9b:1::1", "2002:a9fe:a9fe::1", "2002:7f00:1::1", "2001:0:a9fe:a9fe::1", "fec0::1", "::ffff:0:7f00:1",
]  # fmt: skip


@pytest.mark.parametrize("address", NEVER)
@pytest.mark.parametrize("host", ["box", "other"])
def test_places_where_no_agent_is(address, host):
    """Are never called, whatever the list opens and whichever name leads there."""
    assert not allowed(EVERYTHING, f"https://{host}", address)
    assert is_no_place(ip_address(address))


@given(st.ip_addresses(), st.sampled_from(["http", "https"]), st.booleans(), st.booleans())
def test_any_address(address, scheme, ours, plaintext):
    """Is allowed only in a listed network and where an agent can be; by plain http only on loopback or if so set."""
    reach = Reach(CLINIC.networks, CLINIC.ports, CLINIC.hosts, plaintext=plaintext)
    if allowed(reach, f"{scheme}://agent", str(address), ours=ours):
        assert not is_no_place(address)
        assert any(address in network for network in CLINIC.networks)
        assert scheme == "https" or plaintext


@pytest.mark.parametrize(
    ("port", "well"), [(79, False), (80, True), (81, False), (442, False), (443, True), (1023, False), (1024, True),
                       (5431, True), (5432, False), (5433, True), (6379, False), (8080, True), (65_535, True)],
)  # fmt: skip
def test_ports(port, well):
    """Those of the list, but never where the database or Redis listens, on whatever machine."""
    listed = Reach.of([Network("127.0.0.0/8")], [], [Ports("80"), Ports("443"), Ports("1024-65535")])
    reach = Reach(listed.networks, listed.ports, closed_ports=frozenset({5432, 6379}))
    assert allowed(reach, f"http://127.0.0.1:{port}") is well
    assert (reach.refusal(read_endpoint(f"http://agent:{port}")) is None) is well


def test_our_own_port():
    """Is closed on this machine, by whichever of its addresses; another machine may have an agent there."""
    reach = Reach(EVERYTHING.networks, EVERYTHING.ports, own_ports=frozenset({8080}), plaintext=True)
    assert not allowed(reach, "http://127.0.0.1:8080")
    assert not allowed(reach, "http://[::1]:8080")
    assert not allowed(reach, "http://10.1.2.3:8080", ours=True)
    assert allowed(reach, "http://10.1.2.3:8081", ours=True)
    assert allowed(reach, "http://10.1.2.3:8080", ours=False)


@pytest.mark.parametrize("text", ["", "0", "65536", "-1", "1-", "-", "2-1", "a", "1-2-3", "1-65536"])
def test_what_is_no_range_of_ports(text):
    """Is refused where it is written."""
    with pytest.raises(ValueError, match="is no"):
        Ports(text)


@pytest.mark.parametrize("text", ["", "10.1.2.3/16", "10.0.0.0/33", "agent", "10.0.0", "fd12::/129"])
def test_what_is_no_network(text):
    """Is refused where it is written; so is one with bits beyond its mask, which might not mean what it says."""
    with pytest.raises(ValueError, match="is no network"):
        Network(text)


@pytest.mark.parametrize(
    ("url", "named"),
    [
        ("postgresql://db/name", {5432}), ("postgres://user:secret@db:6000/name", {5432, 6000}),
        ("postgresql+asyncpg://db:6000/name", {5432, 6000}), ("POSTGRESQL://db:6000/name", {5432, 6000}),
        ("postgresql://user:p%40ss@a:6000,b:6001,c/name", {5432, 6000, 6001}),
        ("postgresql://[fd12::1]:6000,[fd12::2]/name", {5432, 6000}), ("postgresql://[fd12::1]/name", {5432}),
        ("postgresql:///name?host=/run/postgresql&port=6000", {5432, 6000}),
        ("postgresql:///name?host=a:6000,b:6001", {5432, 6000, 6001}),
        ("postgresql://db/name?port=6000,6001&port=6002", {5432, 6000, 6001, 6002}),
        ("redis://:secret@cache:7000/0", {6379, 7000}), ("rediss://cache", {6379}),
        ("redis://cache?port=7000", {6379, 7000}), ("sqlite:////var/lib/orchestrator/ledger.db", set()),
        ("memory://", set()), ("", set()), ("unix:///run/redis", set()),
        ("postgresql://db:none/name", {5432}), ("postgresql://db:/name", {5432}),
    ],
)  # fmt: skip
def test_where_servers_listen(url: str, named: set[int]) -> None:
    """Each port that the URL names, however it does, and the usual one."""
    assert ports_of(url) == named
