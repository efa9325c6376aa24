"""Where calls go: never beyond the allow-list, however the place is written and whatever a name leads to."""

import asyncio
import socket
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager, suppress

import pytest

from orchestrator.domain.errors import InvalidRequest
from orchestrator.domain.reach import Network, Ports, Reach
from orchestrator.outbound.agents import HttpAgentClient
from orchestrator.outbound.ports import Call, Refused, Succeeded
from orchestrator.outbound.resolving import Lookup, by_the_system
from orchestrator.testing import ScriptedAgent

pytestmark = pytest.mark.anyio

NOT_ALLOWED = Refused("not_allowed")
ALL_PORTS = [Ports("1-65535")]
LOOPBACK = Reach.of([Network("127.0.0.0/8"), Network("::1/128")], [], ALL_PORTS)
ELSEWHERE = Reach.of([Network("10.99.0.0/16")], ["listed.example"], ALL_PORTS)
EVERYTHING = Reach(
    networks=Reach.of([Network("0.0.0.0/0"), Network("::/0")], [], []).networks,
    ports=(range(1, 65_536),),
    plaintext=True,
)


class Names:
    """A name server: each name's answers, one list of addresses after the other, the last for ever."""

    def __init__(self, answers: Mapping[str, list[list[str]]]) -> None:
        self._answers = {name: list(given) for name, given in answers.items()}
        self.asked: list[str] = []

    async def __call__(self, host: str, _port: int) -> list[str]:
        self.asked.append(host)
        answers = self._answers.get(host.lower().removesuffix("."))
        if answers is None:
            raise socket.gaierror(socket.EAI_NONAME, "not known")
        return answers.pop(0) if len(answers) > 1 else answers[0]


@asynccontextmanager
async def a_client(reach: Reach, lookup: Lookup = by_the_system) -> AsyncGenerator[HttpAgentClient]:
    client = HttpAgentClient(reach=reach, max_answer_bytes=65_536, connect_timeout_s=0.5, lookup=lookup)
    try:
        yield client
    finally:
        await client.close()


def a_call(endpoint: str) -> Call:
    return Call(endpoint, "task-" + "0" * 32, "c", "embed", {}, {}, 1, 1e9, f"00-{'0' * 31}1-{'0' * 15}1-01")


class Trap:
    """Listens on every address of this machine, IPv4 and IPv6, and counts who comes."""

    def __init__(self) -> None:
        self.visitors = 0

    async def __aenter__(self) -> "Trap":
        listener = socket.create_server(("::", 0), family=socket.AF_INET6, dualstack_ipv6=True)
        self.port: int = listener.getsockname()[1]
        self._server = await asyncio.start_server(self._count, sock=listener)
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        await self._server.wait_closed()

    async def _count(self, _reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.visitors += 1
        writer.close()
        with suppress(ConnectionError):
            await writer.wait_closed()


HERE = [
    "127.0.0.1", "127.0.0.1.", "127.0.1", "127.1", "127.255.255.254", "2130706433", "2130706434", "017700000001",
    "0177.0.0.1", "0177.0.01", "0177.1", "000000177.1", "0x7f.0.0.1", "0x7F.1", "0x7f000001", "0X7F000001", "127.0x1",
    "127.0.0x0.01", "0x7f.0.1", "[::1]", "[0:0:0:0:0:0:0:1]", "[::0001]", "[0000::1]", "[::0:1]",
    "[::ffff:127.0.0.1]", "[::ffff:7f00:1]", "[::FFFF:127.1.2.3]", "[0:0:0:0:0:ffff:7f00:0001]", "[::127.0.0.1]",
    "[64:ff9b::7f00:1]", "[2002:7f00:1::]", "[::ffff:0:127.0.0.1]", "localhost", "LOCALHOST", "localhost.",
    "LocalHost.", "0", "0.0.0.0", "00", "0x0", "0.0", "[::]", "[::ffff:0.0.0.0]", "[::0]", "[fe80::1]",
    "169.254.169.254", "[::ffff:a9fe:a9fe]", "here.example", "HERE.example", "here.example.", "mapped.example",
    "nowhere.example", "listed.example", "listed.example.", "two.example",
]  # fmt: skip
MORE = [
    "http://user@{0}:{1}", "http://10.99.0.1@{0}:{1}", "http://10.99.0.1:80@{0}:{1}", "http://{0}:{1}/?a=1",
    "http://{0}:{1}/#a", "http://10.99.0.1#@{0}:{1}", "http://10.99.0.1\\@{0}:{1}", "http:\\\\{0}:{1}",
    "http:{0}:{1}", "http:/{0}:{1}", "http:///{0}:{1}", "//{0}:{1}", "{0}:{1}", " http://{0}:{1}", "http://{0}:{1} ",
    "http://{0}\t:{1}", "http://{0}:{1}\r\nHost: x", "http://{0}:{1}\n", "ht\ttp://{0}:{1}", "ftp://{0}:{1}",
    "gopher://{0}:{1}/_x", "file:///etc/x", "http+unix://{0}:{1}", "ws://{0}:{1}", "http://{0}:{1}:{1}",
    "http://{0}:0{1}", "http://{0}:+{1}", "http://{0}:-{1}", "http://{0}%00:{1}", "http://%6cocalhost:{1}",
    "http://127%2e0%2e0%2e1:{1}", "http://\uff11\uff12\uff17.0.0.1:{1}", "http://127\u30020\u30020\u30021:{1}",
    "http://\u2460\u2461\u2466.0.0.1:{1}", "http://loc\u0430lhost:{1}", "http://localho\u017ft:{1}",
    "http://\u24db\u24de\u24d2alhost:{1}", "http://[::1%25lo]:{1}", "http://[::1%lo]:{1}", "http://[127.0.0.1]:{1}",
    "http://[localhost]:{1}", "http://[::1]]:{1}", "http://[[::1]]:{1}", "http://::1:{1}", "http://127.0.0.1.:0{1}",
    "http://127..1:{1}", "http://127.0.0.0.1:{1}", "http://127.0.0.256:{1}", "http://4294967297:{1}",
    "http://0x7g.1:{1}", "http://08.0.0.1:{1}", "http://1_27.0.0.1:{1}", "http://+127.1:{1}", "http://-127.1:{1}",
]  # fmt: skip
TRICKS = [f"http://{host}:{{1}}{path}" for host in HERE for path in ("", "/a")] + MORE
NAMES: Mapping[str, list[list[str]]] = {
    "localhost": [["127.0.0.1", "::1"]],
    "here.example": [["127.0.0.1"]],
    "mapped.example": [["::ffff:127.0.0.1"]],
    "two.example": [["192.0.2.77", "::1"]],
    "listed.example": [["127.0.0.1", "::1", "::ffff:127.0.0.1"]],
}


async def test_url_tricks() -> None:
    """No notation, name or trick leads to a server of this machine where the list does not hold it."""
    assert len(set(TRICKS)) >= 150
    names = Names(NAMES)
    async with Trap() as trap, a_client(ELSEWHERE, names) as client:
        for trick in TRICKS:
            url = trick.replace("{0}", "127.0.0.1").replace("{1}", str(trap.port))
            ending = await client.call(a_call(url), 2)
            assert ending == NOT_ALLOWED or (ending == Refused() and "nowhere" in url), (url, ending)
        assert trap.visitors == 0
        # It does work where it may: otherwise all this would show nothing.
        async with a_client(LOOPBACK, names) as other:
            await other.call(a_call(f"http://127.1:{trap.port}"), 2)
        assert trap.visitors == 1


async def test_url_tricks_at_the_door() -> None:
    """Each of them is refused when it is registered, in words that do not quote it."""
    async with a_client(ELSEWHERE, Names(NAMES)) as client:
        for trick in TRICKS:
            url = trick.replace("{0}", "127.0.0.1").replace("{1}", "4711")
            if "nowhere" in url:
                await client.check(url)  # Where it leads is not known yet, and counts when it is called.
                continue
            with pytest.raises(InvalidRequest) as refusal:
                await client.check(url)
            assert "4711" not in refusal.value.detail


async def test_a_name_that_leads_elsewhere_later() -> None:
    """DNS rebinding: what counts is where the name leads when it is connected to, not when it was checked."""
    async with Trap() as trap, ScriptedAgent("a") as agent:
        port = agent.endpoint.rpartition(":")[2]
        reach = Reach.of([Network("127.0.0.1/32")], [], ALL_PORTS)
        answers = ["127.0.0.1", "127.0.0.1", "127.0.0.2", "::1", "::", "127.0.0.1"]
        names = Names({"agent.example": [[address] for address in answers]})
        async with a_client(reach, names) as client:
            await client.check(f"http://agent.example:{port}")
            assert await client.call(a_call(f"http://agent.example:{port}"), 5) == Succeeded({"done": True})
            for _ in range(3):
                assert await client.call(a_call(f"http://agent.example:{trap.port}"), 5) == NOT_ALLOWED
            # The connection that is open stays with the address that was checked: nobody is asked again.
            asked = len(names.asked)
            assert await client.call(a_call(f"http://agent.example:{port}"), 5) == Succeeded({"done": True})
            assert len(names.asked) == asked
        assert trap.visitors == 0


async def test_a_name_with_several_addresses() -> None:
    """Is called at those that are allowed."""
    async with ScriptedAgent("a") as agent:
        port = agent.endpoint.rpartition(":")[2]
        names = Names({"agent.example": [["169.254.169.254", "192.0.2.1", "127.0.0.1"]]})
        async with a_client(LOOPBACK, names) as client:
            assert await client.call(a_call(f"http://agent.example:{port}"), 0.4) == Succeeded({"done": True})


async def test_a_name_server_that_does_not_answer() -> None:
    """Costs no more than a connection may; the agent has not seen the task, and may be registered all the same."""

    async def silent(_host: str, _port: int) -> list[str]:
        return await asyncio.get_running_loop().create_future()

    async with a_client(LOOPBACK, silent) as client:
        assert await client.call(a_call("http://agent.example:9"), 30) == Refused()
        await client.check("http://agent.example:9")


async def test_our_own_addresses() -> None:
    """The orchestrator's port is closed on each address of this machine, listed or not."""
    async with Trap() as trap:
        reach = Reach(EVERYTHING.networks, EVERYTHING.ports, own_ports=frozenset({trap.port}), plaintext=True)
        names = Names({"me.example": [["127.0.0.1"]]})
        async with a_client(reach, names) as client:
            for host in ["127.0.0.1", "[::1]", "me.example", *own_addresses()]:
                assert await client.call(a_call(f"http://{host}:{trap.port}"), 5) == NOT_ALLOWED, host
        assert trap.visitors == 0


def own_addresses() -> list[str]:
    """This machine's address on its network, where it has one."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.254", 9))  # Sends nothing; only a route is chosen.
        except OSError:
            return []
        return [probe.getsockname()[0]]
