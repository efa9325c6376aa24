"""Where an agent may live, told from its URL alone; what a name resolves to is told elsewhere."""

from ipaddress import IPv4Address
from urllib.parse import urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.domain.endpoint import read_endpoint
from orchestrator.domain.errors import InvalidRequest

GOOD = [
    "http://localhost:8080",
    "http://127.0.0.1:9001",
    "http://127.255.255.255",
    "http://[::1]:9001",
    "http://10.0.0.7",
    "http://192.168.1.20:8080/agent",
    "http://172.16.0.1",
    "https://100.64.0.1",
    "https://8.8.8.8",
    "https://[2001:4860:4860::8888]",
    "https://[fd12:3456:789a::1]:443",
    "https://agent.clinic.example",
    "https://agent.clinic.example.:443",
    "HTTPS://Agent.Clinic.Example/V1",
    "http://agent_1:8080",
    "http://agent-1.agents.svc.cluster.local:65535",
    "http://xn--mnchen-3ya.example",
    "http://agent/a/b.c/~d/e;f=1/@g/%20h",
    "http://7agents",
    "http://0xen.example",
    "http://0x-1",
    "http://1.2.3.4.example",
    "http://metadata.example",
    "http://my-metadata",
    "http://agent:1",
]


@pytest.mark.parametrize("url", GOOD)
def test_a_good_endpoint(url):
    """Is taken as it is."""
    assert read_endpoint(url).url == url


@pytest.mark.parametrize("url", ["http://agent:1/", "http://agent:1//", "http://agent:1/v1/"])
def test_slashes_at_the_end(url):
    """Are taken away, so that `/call` can follow."""
    assert read_endpoint(url).url == url.rstrip("/")


@pytest.mark.parametrize(
    ("url", "usual"),
    [
        ("http://127.1:80/a", "http://127.0.0.1:80/a"),
        ("http://2130706433", "http://127.0.0.1"),
        ("http://0x7F.0.0.1:9", "http://127.0.0.1:9"),
        ("http://010.0.0.7", "http://8.0.0.7"),
        ("https://10.0.0.7.:443", "https://10.0.0.7:443"),
        ("http://[::ffff:127.0.0.1]:1", "http://127.0.0.1:1"),
        ("http://[0:0::0:1]:1", "http://[::1]:1"),
        ("http://[FD12::0]:1/", "http://[fd12::]:1"),
    ],
)
def test_an_unusual_notation(url, usual):
    """Becomes the usual one, so that every client reads the address that was checked."""
    assert read_endpoint(url).url == usual
    assert read_endpoint(usual).address == read_endpoint(url).address


BAD = {
    "empty": "",
    "no scheme": "agent:8080",
    "no scheme, slashes": "//agent:8080",
    "a path": "/call",
    "ftp": "ftp://agent",
    "file": "file:///etc/passwd",
    "javascript": "javascript:alert(1)",
    "data": "data:text/html,x",
    "gopher": "gopher://agent",
    "unix socket": "http+unix://%2Fvar%2Frun%2Fx",
    "ws": "ws://agent",
    "scheme alone": "http://",
    "no host": "http:///call",
    "no host but a port": "http://:8080",
    "one slash": "http:/agent",
    "no slashes": "http:agent",
    "three slashes": "http:///agent",
    "dot": "http://.",
    "dots": "http://..",
    "empty label": "http://a..b",
    "leading dot": "http://.agent",
    "leading hyphen": "http://-agent",
    "comma": "http://a,b",
    # What follows the path, and what stands before the host.
    "query": "http://agent/?a=1",
    "empty query": "http://agent/?",
    "empty query without a path": "http://agent?",
    "fragment": "http://agent/#a",
    "empty fragment": "http://agent/#",
    "user": "http://user@agent",
    "user and password": "http://user:secret@agent",
    "empty user": "http://@agent",
    "empty user and password": "http://:@agent",
    "another host as user": "http://agent@169.254.169.254",
    # Ports.
    "port 0": "http://agent:0",
    "port 65536": "http://agent:65536",
    "port 99999": "http://agent:99999",
    "port of many digits": "http://agent:000000080",
    "port that is none": "http://agent:http",
    "negative port": "http://agent:-1",
    "empty port": "http://agent:/",
    "two ports": "http://agent:80:81",
    "port in another script": "http://agent:\u0668\u0660",
    # Characters.
    "newline at the end": "http://agent\n",
    "newline inside": "http://agent\n.example",
    "newline in the scheme": "ht\ntp://agent",
    "carriage return": "http://agent/\r\nX-Injected: 1",
    "tab": "http://ag\tent",
    "leading space": " http://agent",
    "space": "http://agent /",
    "no-break space": "http://agent\u00a0",
    "NUL": "http://agent\0",
    "delete": "http://agent\x7f",
    "zero width space": "http://agent\u200b",
    "right to left": "http://agent\u202e",
    "backslash": "http://agent\\@169.254.169.254",
    "backslashes for slashes": "http:\\\\agent",
    "percent-encoded address": "http://%31%36%39.254.169.254",
    "percent-encoded host": "http://%61gent",
    "percent-encoded slash in the host": "http://agent%2f@169.254.169.254",
    "full-width digits": "http://\uff11\uff16\uff19.254.169.254",
    "circled digits": "http://\u2460\u2465\u2468.254.169.254",
    "ideographic full stop": "http://169\u3002254\u3002169\u3002254",
    "digits of another script": "http://\u0661\u0666\u0669.254.169.254",
    "name of another script": "http://m\u00fcnchen.example",
    "long s, lower case of which is s": "http\u017f://agent",
    "Kelvin sign": "http://\u212aagent",
    "other bars and quotes": 'http://agent/"><script>',
    "braces": "http://agent/{x}",
    # Link-local addresses and metadata services.
    "link-local": "http://169.254.1.1",
    "metadata address": "http://169.254.169.254/latest/meta-data",
    "metadata address, dot": "http://169.254.169.254.",
    "metadata address, one number": "http://2852039166",
    "metadata address, hexadecimal": "http://0xa9fea9fe",
    "metadata address, hexadecimal in capitals": "http://0XA9FEA9FE",
    "metadata address, octal": "http://0251.0376.0251.0376",
    "metadata address, octal with many zeros": "http://0000251.254.169.254",
    "metadata address, one octal number": "http://025177524776",
    "metadata address, two parts": "http://169.16689662",
    "metadata address, three parts": "http://169.254.43518",
    "metadata address, mixed": "http://0xa9.254.0251.254",
    "metadata address, mapped": "http://[::ffff:169.254.169.254]",
    "metadata address, mapped in hexadecimal": "http://[::ffff:a9fe:a9fe]",
    "metadata address, mapped in full": "http://[0:0:0:0:0:ffff:a9fe:a9fe]",
    "metadata address, compatible": "http://[::169.254.169.254]",
    "metadata address, 6to4": "http://[2002:a9fe:a9fe::1]",
    "metadata address, NAT64": "http://[64:ff9b::a9fe:a9fe]",
    "metadata address of AWS, IPv6": "http://[fd00:ec2::254]",
    "metadata address of AWS, IPv6 in full": "http://[fd00:0ec2:0:0:0:0:0:0254]",
    "metadata address of Google, IPv6": "http://[fd20:ce::254]",
    "metadata address of Alibaba": "http://100.100.100.200",
    "metadata address of Azure": "http://168.63.129.16",
    "metadata address of Oracle": "http://192.0.0.192",
    "metadata name": "http://metadata.google.internal",
    "metadata name in capitals, dot": "http://METADATA.Google.Internal.",
    "metadata, short": "http://metadata",
    "loopback, 6to4": "http://[2002:7f00:1::]",
    "loopback, compatible": "http://[::127.0.0.1]",
    "loopback, NAT64": "http://[64:ff9b::7f00:1]",
    "loopback, local NAT64": "http://[64:ff9b:1::7f00:1]",
    "loopback, translated": "http://[::ffff:0:127.0.0.1]",
    "metadata address, Teredo": "http://[2001:0:a9fe:a9fe::]",
    "site-local": "http://[fec0::1]",
    "link-local, IPv6": "http://[fe80::1]",
    "link-local, IPv6 with a zone": "http://[fe80::1%25eth0]",
    "link-local, IPv6 with a bare zone": "http://[fe80::1%eth0]",
    "loopback with a zone": "http://[::1%25lo]",
    # Addresses where no agent is.
    "unspecified": "http://0.0.0.0",
    "unspecified, short": "http://0",
    "unspecified, hexadecimal": "http://0x",
    "unspecified, IPv6": "http://[::]",
    "unspecified, mapped": "http://[::ffff:0.0.0.0]",
    "this network": "http://0.1.2.3",
    "multicast": "http://224.0.0.1",
    "multicast, IPv6": "http://[ff02::1]",
    "multicast, one number": "http://3758096385",
    "broadcast": "http://255.255.255.255",
    "reserved": "http://240.0.0.1",
    "reserved, IPv6": "http://[4000::1]",
    # Addresses that are none.
    "part too large": "http://1.2.3.256",
    "leading part too large": "http://256.1.1.1",
    "last part too large": "http://1.65536.1",
    "number too large": "http://4294967296",
    "number of many digits": "http://" + "9" * 1_000,
    "middle part too large": "http://1.256.1.1",
    "five parts": "http://1.2.3.4.5",
    "five parts, the last is nothing": "http://1.2.3.4.0",
    "underscore in a number": "http://1_0.0.0.1",
    "underscore in a hexadecimal number": "http://0xa_9.254.169.254",
    "hexadecimal without digits": "http://0x.0.0.1",
    "octal that is none": "http://1.2.3.08",
    "name before a number": "http://agent.7",
    "name before a hexadecimal number": "http://agent.0x7",
    "negative number": "http://-1",
    "plus sign": "http://+1",
    "brackets, empty": "http://[]",
    "brackets, open": "http://[::1",
    "brackets, closed": "http://::1]",
    "brackets around IPv4": "http://[127.0.0.1]",
    "brackets around a name": "http://[agent]",
    "brackets of the future": "http://[v1.fe80]",
    "name before brackets": "http://a[::1]",
    "name after brackets": "http://[::1]a",
    "two brackets": "http://[[::1]]",
    "IPv6 without brackets": "http://::1",
    "IPv6, nine parts": "http://[1:2:3:4:5:6:7:8:9]",
    "IPv6, two gaps": "http://[1::2::3]",
}


@pytest.mark.parametrize("url", BAD.values(), ids=BAD)
def test_a_bad_endpoint(url):
    """Is refused as invalid, in words of ours: nothing of it is quoted."""
    with pytest.raises(InvalidRequest) as refusal:
        read_endpoint(url)
    assert "agent:" not in refusal.value.detail
    assert "secret" not in refusal.value.detail


def test_how_many():
    """The list only grows."""
    assert len(set(BAD.values())) >= 120


addresses = st.integers(0, 2**32 - 1)


@st.composite
def notations(draw: st.DrawFn) -> tuple[IPv4Address, str]:
    """An IPv4 address, and one of the ways to write it that inet_aton(3) reads."""
    value = draw(addresses)
    count = draw(st.integers(1, 4))
    numbers = [value >> (24 - 8 * i) & 255 for i in range(count - 1)] + [value & (2 ** (8 * (5 - count)) - 1)]
    forms = [draw(st.sampled_from(["{:d}", "0{:o}", "000{:o}", "0x{:x}", "0X{:X}"])).format(n) for n in numbers]
    return IPv4Address(value), ".".join(forms)


def taken(url: str) -> bool:
    try:
        read_endpoint(url)
    except InvalidRequest:
        return False
    return True


@given(notations())
def test_one_address_in_any_notation(notation):
    """What is true of an address is true of it in octal, hexadecimal, with fewer parts, mapped; but not as 6to4."""
    address, written = notation
    plain = taken(f"http://{address}")
    assert taken(f"http://{written}") == plain
    assert taken(f"http://[::ffff:{address}]:80") == plain
    assert not taken(f"http://[2002:{int(address) >> 16:x}:{int(address) & 65535:x}::]")
    if address.is_link_local or address.is_multicast or address.is_unspecified:
        assert not plain


@given(st.text() | st.text(st.sampled_from("http://.:@[]%?#\\0x1af29-_ \n\t")).map("http://".__add__))
def test_any_text(text):
    """Is refused, or a URL that the standard library reads as we do; there is no other exception."""
    if taken(text):
        parts = urlsplit(text)
        assert parts.scheme in ("http", "https")
        assert parts.hostname
        assert parts.port is None or 0 < parts.port < 65536
        assert (parts.username, parts.password, parts.query, parts.fragment) == (None, None, "", "")
        assert text.isascii()
        assert text.isprintable()
