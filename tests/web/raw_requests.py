"""What may come in over a socket, as data: bytes, and which requests there are in them. Nothing else may be seen in them.

A case that is refused is followed by a good request on the same connection, which must not be served: who could not tell
where a request ends cannot tell where the next begins.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

Seen = tuple[str, str, bytes]
"""Method, target and body, as the application gets them."""

LAST = b"GET /last HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
LAST_SEEN: Seen = ("GET", "/last", b"")


@dataclass(frozen=True)
class Case:
    """`seen` are the requests in `sent` before the first that is refused, if `refused`; then with one of `statuses`."""

    name: str
    sent: bytes
    seen: Sequence[Seen] = ()
    statuses: Sequence[int] = ()
    closes: bool = False
    """Whether the connection ends although nothing was refused."""

    @property
    def refused(self) -> bool:
        return bool(self.statuses)


def head(*lines: str | bytes, method: str = "POST", target: str = "/a", version: str = "HTTP/1.1") -> bytes:
    """A request's head, with Host as its first header."""
    encoded = [line if isinstance(line, bytes) else line.encode("latin-1") for line in lines]
    return b"\r\n".join([f"{method} {target} {version}".encode(), b"Host: x", *encoded, b"", b""])


def cases() -> list[Case]:
    """All of them."""
    groups = (
        line_endings, folded_lines, request_lines, targets, lengths, encodings, chunks, both_framings, hosts, names_and_values,
        control_characters, pipelines, other_protocols,
    )  # fmt: skip
    return [case for group in groups for case in group()]


def good(name: str, sent: bytes, *seen: Seen) -> Case:
    return Case(name, sent, seen)


def bad(name: str, sent: bytes, *seen: Seen, statuses: Sequence[int] = (400,)) -> Case:
    return Case(name, sent, seen, statuses)


def line_endings() -> Iterator[Case]:
    """Each end of a line as something else than CR LF."""
    lines = [b"POST /a HTTP/1.1", b"Host: x", b"X-A: b", b"Content-Length: 3", b""]
    endings = {"LF": b"\n", "CR": b"\r", "CR CR LF": b"\r\r\n", "LF CR": b"\n\r", "VT": b"\x0b", "FF": b"\x0c",
               "NEL": b"\x85", "NUL CR LF": b"\0\r\n", "LF LF": b"\n\n"}  # fmt: skip
    for name, ending in endings.items():
        for at, where in enumerate(["request line", "Host", "X-A", "Content-Length", "head"]):
            if name in ("VT", "FF") and where == "head":
                continue  # Then the head goes on, which is another case.
            if name == "NEL" and where != "request line":
                continue  # A byte that a value may hold.
            parts = [line + (ending if n == at else b"\r\n") for n, line in enumerate(lines)]
            yield bad(f"{name} after the {where}", b"".join(parts) + b"abc")
        if name != "NEL":
            yield bad(f"{name} everywhere", b"".join(line + ending for line in lines) + b"abc")
    yield bad("CR LF before the request", b"\r\n" + head("Content-Length: 3") + b"abc")
    yield bad("LF before the request", b"\n" + head("Content-Length: 3") + b"abc")
    yield bad("space before the request", b" " + head("Content-Length: 3") + b"abc")
    yield good("LF and CR in a body", head("Content-Length: 4") + b"\n\r\n\n", ("POST", "/a", b"\n\r\n\n"))
    yield good("a body like a head", head("Content-Length: 8") + b"\r\n\r\n\n\n a", ("POST", "/a", b"\r\n\r\n\n\n a"))


def folded_lines() -> Iterator[Case]:
    """A header that goes on in the next line (obs-fold), and lines that only look so."""
    for name, space in {"space": " ", "tab": "\t", "spaces": "   ", "space and tab": " \t"}.items():
        yield bad(f"folded with a {name}", head("X-A: b", f"{space}c", "Content-Length: 0"))
        yield bad(f"folded with a {name}, nothing on it", head("X-A: b", space, "Content-Length: 0"))
        yield bad(f"folded length with a {name}", head("Content-Length:", f"{space}3") + b"abc")
        yield bad(f"folded encoding with a {name}", head("Transfer-Encoding:", f"{space}chunked") + b"0\r\n\r\n")
        yield bad(f"first header after a {name}", b"POST /a HTTP/1.1\r\n" + space.encode() + b"Host: x\r\n\r\n")


def request_lines() -> Iterator[Case]:
    """Three parts, one space between them, and a version that is spoken."""
    lines = {
        "no version": "GET /a", "no target": "GET HTTP/1.1", "only a method": "GET", "nothing but spaces": "  ",
        "two spaces": "GET  /a HTTP/1.1", "two spaces before the version": "GET /a  HTTP/1.1", "a tab": "GET\t/a HTTP/1.1",
        "a tab before the version": "GET /a\tHTTP/1.1", "a space at the end": "GET /a HTTP/1.1 ",
        "four parts": "GET /a b HTTP/1.1", "a header in it": "GET /a HTTP/1.1 X: y", "no-break space": "GET\xa0/a HTTP/1.1",
        "lower case version": "GET /a http/1.1", "mixed case version": "GET /a Http/1.1", "version without a dot": "GET /a HTTP/11",
        "version with a comma": "GET /a HTTP/1,1", "version of three parts": "GET /a HTTP/1.1.1",
        "version with a zero": "GET /a HTTP/01.1", "version with two digits": "GET /a HTTP/1.11", "version with a sign": "GET /a HTTP/+1.1",
        "version of something else": "GET /a HTTPS/1.1", "version of ICY": "GET /a ICY/1.1", "version with a space": "GET /a HTTP /1.1",
        "version x": "GET /a HTTP/x.y", "no minor version": "GET /a HTTP/1", "empty version": "GET /a HTTP/",
        "method in lower case": "get /a HTTP/1.1", "method in mixed case": "Get /a HTTP/1.1", "method with a colon": "GET: /a HTTP/1.1",
        "method with a slash": "GE/T /a HTTP/1.1", "method in quotes": '"GET" /a HTTP/1.1', "method in brackets": "(GET) /a HTTP/1.1",
        "method with a comma": "GET,POST /a HTTP/1.1", "method not of ASCII": "G\xcbT /a HTTP/1.1", "empty method": " /a HTTP/1.1",
        "CONNECT": "CONNECT x:443 HTTP/1.1", "CONNECT with a path": "CONNECT /a HTTP/1.1",
    }  # fmt: skip
    for name, line in lines.items():
        yield bad(name, line.encode("latin-1") + b"\r\nHost: x\r\n\r\n", statuses=(400, 405, 501, 505))
    yield Case("version 1.0", b"GET /a HTTP/1.0\r\nConnection: keep-alive\r\n\r\n", [("GET", "/a", b"")], closes=True)
    for version in ("0.9", "1.2", "1.9", "2.0", "3.0", "9.9"):
        yield bad(f"version {version}", head(version=f"HTTP/{version}"), statuses=(400, 505))
    for method in ("GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "PATCH"):
        yield good(f"method {method}", head("Content-Length: 0", method=method), (method, "/a", b""))


def targets() -> Iterator[Case]:
    """A path with its query, or a whole URL; nothing that is not of ASCII, and nothing without a slash."""
    for name, target in {
        "no slash": "a", "a query alone": "?a", "an authority": "x:80", "a relative path": "../a", "ftp": "ftp://x/a",
        "a scheme alone": "http:", "a javascript URL": "javascript:alert(1)", "not of ASCII": "/\xe4", "UTF-8": "/\xc3\xa4",
        "DEL": "/\x7f", "an escaped NUL": "/%00", "an escaped NUL in the query": "/a?b=%00", "a backslash first": "\\a", "an empty one": "",
    }.items():  # fmt: skip
        yield bad(f"target: {name}", f"GET {target} HTTP/1.1\r\nHost: x\r\n\r\n".encode("latin-1"))
    for name, target in {
        "a query": "/a?b=c", "dots": "/a/../b", "escapes": "/a%2fb%01%0d%0a", "two slashes": "//a", "a long path": "/" + "a" * 2000,
        "odd characters": "/a!$&'()*+,;=:@-._~", "a tilde": "/~a", "a pipe": "/a|b",
    }.items():  # fmt: skip
        yield good(f"target: {name}", head(method="GET", target=target), ("GET", target, b""))
    yield bad("target: too long", head(method="GET", target="/" + "a" * 4096), statuses=(414,))
    yield bad("a head too long", head(*(f"X-{n}: {'x' * 2000}" for n in range(10))), statuses=(431,))
    yield bad("too many headers", head(*(f"X-{n}: x" for n in range(64))), statuses=(431,))


def lengths() -> Iterator[Case]:
    """Content-Length is digits, once."""
    for value in ("3", "03", "003", "0000000003"):
        yield good(f"length {value!r}", head(f"Content-Length: {value}") + b"abc", ("POST", "/a", b"abc"))
    yield good("length after the colon", head("Content-Length:3") + b"abc", ("POST", "/a", b"abc"))
    for space in ("\t", "  \t "):
        yield good(f"length after {space!r}", head(f"Content-Length:{space}3") + b"abc", ("POST", "/a", b"abc"))
        yield good(f"length before {space!r}", head(f"Content-Length: 3{space}") + b"abc", ("POST", "/a", b"abc"))
    yield good("length in capitals", head("CONTENT-LENGTH: 3") + b"abc", ("POST", "/a", b"abc"))
    for value in (
        "", " ", "x", "+3", "-3", "-0", "3.0", "3e0", "0x3", "3x", "3 3", "3,3", "3, 3", "3,4", "3;3", "3;q=1", "'3'", '"3"', "(3)",
        "3_0", "1_0", "\xb3", "\u0663".encode().decode("latin-1"), "three", "NaN", "3\x0b", "\x0b3", "3\xa0", "\xa03", ",3", "3,",
        "9" * 30, "18446744073709551619", "9223372036854775808", "4294967299000000000000",
    ):  # fmt: skip
        yield bad(f"length {value!r}", head(f"Content-Length: {value}") + b"abc")
    for one, two in (("3", "3"), ("3", "4"), ("3", "03"), ("0", "3"), ("3", ""), ("3", "x")):
        yield bad(f"length {one!r} and {two!r}", head(f"Content-Length: {one}", f"Content-Length: {two}") + b"abc")
    yield bad("length with a space before the colon", head("Content-Length : 3") + b"abc")
    yield bad("length with a tab before the colon", head("Content-Length\t: 3") + b"abc")
    yield good(
        "a length of underscores", head("Content_Length: 30", "Content-Length: 3") + b"abc", ("POST", "/a", b"abc")
    )
    yield good(
        "a length of another name", head("X-Content-Length: 30", "Content-Length: 3") + b"abc", ("POST", "/a", b"abc")
    )
    yield good("no length", head(), ("POST", "/a", b""))
    yield good("a length for GET", head("Content-Length: 3", method="GET") + b"abc", ("GET", "/a", b"abc"))


CHUNKED = b"3\r\nabc\r\n0\r\n\r\n"


def encodings() -> Iterator[Case]:
    """Transfer-Encoding is `chunked`, once, or nothing that is spoken here."""
    for value in ("Chunked", "CHUNKED", "\tchunked", "  chunked", "chunked "):
        yield good(f"encoding {value!r}", head(f"Transfer-Encoding: {value}") + CHUNKED, ("POST", "/a", b"abc"))
    for value in (
        "", "identity", "gzip", "gzip, chunked", "chunked, gzip", "chunked, identity", "identity, chunked", "chunked, chunked",
        "chunked,", ",chunked", "chunked;", "chunked;q=1", "chunked; a=b", '"chunked"', "'chunked'", "xchunked", "chunkedx", "chunke",
        "chunk", "chunked\t", "chunked chunked", "\x0bchunked", "chunked\x0b", "chunked\xa0", "\xa0chunked", "(chunked)", "chun\tked", "chunked\x00",
        "c\u212aunked".encode().decode("latin-1"), "trailers", "deflate", "0", "true", "*",
    ):  # fmt: skip
        sent = head(f"Transfer-Encoding: {value}") + CHUNKED
        yield bad(f"encoding {value!r}", sent, statuses=(400, 501))
    for one, two in (
        ("chunked", "chunked"),
        ("chunked", "identity"),
        ("identity", "chunked"),
        ("gzip", "chunked"),
        ("chunked", "x"),
    ):
        sent = head(f"Transfer-Encoding: {one}", f"Transfer-Encoding: {two}") + CHUNKED
        yield bad(f"encoding {one!r} and {two!r}", sent, statuses=(400, 501))
    yield bad("encoding with a space before the colon", head("Transfer-Encoding : chunked") + CHUNKED)
    yield bad("encoding in HTTP/1.0", head("Transfer-Encoding: chunked", version="HTTP/1.0") + CHUNKED)
    yield good(
        "encoding of underscores",
        head("Transfer_Encoding: chunked", "Content-Length: 3") + b"abc",
        ("POST", "/a", b"abc"),
    )
    yield good("TE", head("TE: chunked", "Content-Length: 3") + b"abc", ("POST", "/a", b"abc"))


def chunks() -> Iterator[Case]:
    """A size in hexadecimal digits, CR LF, so many bytes, CR LF; and at the end 0, trailers if need be, and an empty line."""
    chunked = head("Transfer-Encoding: chunked")
    for name, body in {
        "one": b"3\r\nabc\r\n0\r\n\r\n", "three": b"1\r\na\r\n1\r\nb\r\n1\r\nc\r\n0\r\n\r\n", "zeros": b"0003\r\nabc\r\n000\r\n\r\n",
        "an extension": b"3;a=b\r\nabc\r\n0\r\n\r\n", "an extension without a value": b"3;a\r\nabc\r\n0;b\r\n\r\n",
    }.items():  # fmt: skip
        yield good(f"chunks: {name}", chunked + body, ("POST", "/a", b"abc"))
    yield good("chunks: capital digits", chunked + b"A\r\n0123456789\r\n0\r\n\r\n", ("POST", "/a", b"0123456789"))
    yield good("chunks: none", chunked + b"0\r\n\r\n", ("POST", "/a", b""))
    yield good("chunks: CR LF inside", chunked + b"4\r\n\r\n\r\n\r\n0\r\n\r\n", ("POST", "/a", b"\r\n\r\n"))
    for name, body in {
        "an empty size": b"\r\nabc\r\n0\r\n\r\n", "0x": b"0x3\r\nabc\r\n0\r\n\r\n", "a plus sign": b"+3\r\nabc\r\n0\r\n\r\n",
        "a minus sign": b"-3\r\nabc\r\n0\r\n\r\n", "a space before": b" 3\r\nabc\r\n0\r\n\r\n", "words": b"three\r\nabc\r\n0\r\n\r\n",
        "an underscore": b"0_3\r\nabc\r\n0\r\n\r\n", "g": b"g\r\nabc\r\n0\r\n\r\n", "a point": b"3.0\r\nabc\r\n0\r\n\r\n",
        "a quote": b'"3"\r\nabc\r\n0\r\n\r\n', "NUL": b"3\0\r\nabc\r\n0\r\n\r\n", "full-width 3": b"\xef\xbc\x93\r\nabc\r\n0\r\n\r\n",
        "17 digits": b"fffffffffffffffff\r\nabc\r\n0\r\n\r\n", "20 digits": b"00000000000000000003\r\nabc\r\n0\r\n\r\n",
        "100 digits": b"f" * 100 + b"\r\nabc\r\n0\r\n\r\n", "LF after the size": b"3\nabc\r\n0\r\n\r\n",
        "CR after the size": b"3\rabc\r\n0\r\n\r\n", "LF after the data": b"3\r\nabc\n0\r\n\r\n", "nothing after the data": b"3\r\nabc0\r\n\r\n",
        "too much data": b"3\r\nabcd\r\n0\r\n\r\n", "too little data": b"3\r\nab\r\n0\r\n\r\n", "other bytes for CR LF": b"3\r\nabcXX0\r\n\r\n",
        "CR CR LF after the size": b"3\r\r\nabc\r\n0\r\n\r\n", "LF CR after the size": b"3\n\rabc\r\n0\r\n\r\n",
        "LF in an extension": b"3;a=b\nabc\r\n0\r\n\r\n", "CR in an extension": b"3;a\rb\r\nabc\r\n0\r\n\r\n",
        "LF at the end": b"3\r\nabc\r\n0\r\n\n", "LF after the last size": b"3\r\nabc\r\n0\n\r\n", "LF LF at the end": b"3\r\nabc\r\n0\n\n",
        "a trailer after LF": b"3\r\nabc\r\n0\r\nX: y\n\r\n", "a folded trailer": b"3\r\nabc\r\n0\r\nX: y\r\n z\r\n\r\n",
        "a trailer without a colon": b"3\r\nabc\r\n0\r\nxyz\r\n\r\n", "a trailer with a space": b"3\r\nabc\r\n0\r\nX : y\r\n\r\n",
        "NUL in a trailer": b"3\r\nabc\r\n0\r\nX: \0\r\n\r\n", "a length as trailer": b"3\r\nabc\r\n0\r\nContent-Length: 3\r\n\r\n",
        "an encoding as trailer": b"3\r\nabc\r\n0\r\nTransfer-Encoding: chunked\r\n\r\n", "a trailer": b"3\r\nabc\r\n0\r\nX: y\r\n\r\n",
    }.items():  # fmt: skip
        yield bad(f"chunks: {name}", chunked + body)


def both_framings() -> Iterator[Case]:
    """Transfer-Encoding with Content-Length, in any order and spelling."""
    for length in ("0", "3", "13", "1000"):
        for first in (True, False):
            lines = ["Transfer-Encoding: chunked", f"Content-Length: {length}"]
            order = "first" if first else "last"
            sent = head(*(lines if first else reversed(lines))) + CHUNKED
            yield bad(f"an encoding {order}, and a length of {length}", sent)
    yield bad(
        "an encoding between lengths",
        head("Content-Length: 3", "Transfer-Encoding: chunked", "Content-Length: 3") + CHUNKED,
    )
    yield bad(
        "an unknown encoding and a length",
        head("Transfer-Encoding: x", "Content-Length: 3") + b"abc",
        statuses=(400, 501),
    )
    hidden = b"0\r\n\r\nGET /hidden HTTP/1.1\r\nHost: x\r\n\r\n"
    yield bad(
        "a request hidden by CL.TE", head(f"Content-Length: {len(hidden)}", "Transfer-Encoding: chunked") + hidden
    )
    yield bad(
        "a request hidden by TE.CL", head("Transfer-Encoding: chunked", "Content-Length: 3") + b"1\r\nZ\r\n0\r\n\r\n"
    )
    for name, line in {
        "a space": "Transfer-Encoding : chunked", "a tab": "Transfer-Encoding\t: chunked", "a CR": "Transfer-Encoding\r: chunked",
        "NUL": "Transfer-Encoding\0: chunked", "a fold": "X: y\r\n Transfer-Encoding: chunked", "a bare LF": "X: y\nTransfer-Encoding: chunked",
        "a bare CR": "X: y\rTransfer-Encoding: chunked", "VT": "Transfer-Encoding:\x0bchunked",
    }.items():  # fmt: skip
        yield bad(f"an encoding hidden by {name}", head("Content-Length: 13", line) + CHUNKED, statuses=(400, 501))


def hosts() -> Iterator[Case]:
    """HTTP/1.1 needs one Host."""
    yield bad("no Host", b"GET /a HTTP/1.1\r\n\r\n")
    yield bad("two Hosts", b"GET /a HTTP/1.1\r\nHost: x\r\nHost: y\r\n\r\n")
    yield bad("the same Host twice", b"GET /a HTTP/1.1\r\nHost: x\r\nHost: x\r\n\r\n")
    yield bad("Host with a space before the colon", b"GET /a HTTP/1.1\r\nHost : x\r\n\r\n")
    yield good("an empty Host", b"GET /a HTTP/1.1\r\nHost:\r\n\r\n", ("GET", "/a", b""))


def names_and_values() -> Iterator[Case]:
    """Names are tokens, values hold no control characters."""
    for name, line in {
        "no colon": "X", "no name": ": y", "a space in the name": "X Y: z", "a space before the colon": "X : y", "a slash": "X/Y: z",
        "an at sign": "X@Y: z", "brackets": "X(Y): z", "quotes": '"X": y', "an equals sign": "X=Y: z", "a comma": "X,Y: z",
        "a semicolon": "X;Y: z", "a question mark": "X?: y", "square brackets": "X[0]: y", "braces": "{X}: y", "a backslash": "X\\Y: z",
        "less than": "<X>: y", "not of ASCII": "X\xe4: y", "a colon first": ":X: y", "nothing but a colon": ":", "DEL": "X\x7f: y",
    }.items():  # fmt: skip
        yield bad(f"a header with {name}", head(line, method="GET"))
    for name, line in {
        "no value": "X:", "spaces for a value": "X:   ", "a colon in the value": "X: y:z", "not of ASCII in the value": "X: \xe4",
        "all that a token may hold": "!#$%&'*+-.^_`|~09azAZ: y", "quotes in the value": 'X: "y, z"', "a tab in the value": "X: y\tz",
        "the same twice": "X: y\r\nX: z",
    }.items():  # fmt: skip
        yield good(f"a header with {name}", head(line, method="GET"), ("GET", "/a", b""))


def control_characters() -> Iterator[Case]:
    """Each of them, in the method, the target, the version, a name and a value."""
    for code in [*range(32), 127]:
        character = bytes([code])
        places = {
            "method": b"G" + character + b"T /a HTTP/1.1\r\nHost: x\r\n\r\n",
            "target": b"GET /a" + character + b"b HTTP/1.1\r\nHost: x\r\n\r\n",
            "version": b"GET /a HTTP/1.1" + character + b"x\r\nHost: x\r\n\r\n",
            "name": b"GET /a HTTP/1.1\r\nHost: x\r\nX" + character + b"Y: z\r\n\r\n",
        }
        if code != 9:
            places["value"] = b"GET /a HTTP/1.1\r\nHost: x\r\nX: y" + character + b"z\r\n\r\n"
        for place, sent in places.items():
            yield bad(f"{code:#04x} in the {place}", sent, statuses=(400, 505))


def pipelines() -> Iterator[Case]:
    """Several requests at once are as many decisions, in their order; after one that is refused there is none."""
    get, post = head(method="GET"), head("Content-Length: 3") + b"abc"
    chunked = head("Transfer-Encoding: chunked") + CHUNKED
    a_get, a_post = ("GET", "/a", b""), ("POST", "/a", b"abc")
    yield good("two", get * 2, a_get, a_get)
    yield good("ten", get * 10, *[a_get] * 10)
    yield good("with bodies", post + chunked + get + post, a_post, a_post, a_get, a_post)
    yield good(
        "a body that is a request",
        head("Content-Length: 48") + get.ljust(48, b" "),
        ("POST", "/a", get.ljust(48, b" ")),
    )
    yield good("a length too small would be a request", head("Content-Length: 0", method="GET") + post, a_get, a_post)
    yield bad("a good and a bad one", get + head("Content-Length: x") + b"abc", a_get)
    yield bad("a good one and rubbish", post + b"rubbish\r\n\r\n", a_post)
    yield bad("a good one and bare LF", get + get.replace(b"\r\n", b"\n"), a_get)
    yield bad("a good one and a fold", get + head("X: y", " z"), a_get)
    yield bad(
        "a good one and both framings",
        chunked + head("Transfer-Encoding: chunked", "Content-Length: 3") + CHUNKED,
        a_post,
    )
    yield bad("a body longer than its length", post + b"d" + get, a_post, statuses=(400, 501))
    yield bad("a body longer than its length, in capitals", post + b"D" + get, a_post, statuses=(400, 501))
    yield bad("a line too many after a body", post + b"\r\n" + get, a_post)
    yield bad("a line too many after chunks", chunked + b"\r\n" + get, a_post)


def other_protocols() -> Iterator[Case]:
    """What is not HTTP/1.x, and offers to speak something else: these are not taken up."""
    yield bad("HTTP/2 by prior knowledge", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes(9), statuses=(400, 505))
    yield bad("a ClientHello of TLS", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(40))
    yield bad("SSH", b"SSH-2.0-OpenSSH_9.2\r\n\r\n")
    yield bad("SMTP", b"EHLO x\r\n\r\n")
    yield bad("Redis", b"*1\r\n$4\r\nPING\r\n\r\n")
    yield bad("memcached", b"get a\r\n\r\n")
    yield bad("the PROXY protocol", b"PROXY TCP4 10.0.0.1 10.0.0.2 1 2\r\n" + head(method="GET"))
    yield bad("the PROXY protocol, version 2", b"\r\n\r\n\0\r\nQUIT\n!\x11\0\x0c" + bytes(12) + head(method="GET"))
    yield bad("nothing but NUL", bytes(64))
    yield bad("nothing but lines", b"\r\n" * 32)
    upgrade = ("Connection: Upgrade, HTTP2-Settings", "HTTP2-Settings: AAMAAABkAAQCAAAAAAIAAAAA")
    for protocol in ("h2c", "H2C", "h2", "websocket", "TLS/1.3", "IRC/6.9", "h2c, websocket"):
        sent = head(f"Upgrade: {protocol}", *upgrade, method="GET")
        yield good(f"an offer of {protocol}", sent, ("GET", "/a", b""))
    yield good(
        "an offer of h2c with a body",
        head("Upgrade: h2c", *upgrade, "Content-Length: 3") + b"abc",
        ("POST", "/a", b"abc"),
    )
