"""The orchestrator inside somebody else's program."""

import gc
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import anyio
import pytest
import structlog
from msgspec.structs import replace

import orchestrator
from orchestrator import Orchestrator, TaskRequest, create_app, load_settings
from orchestrator.actors.messages import Answer
from orchestrator.domain.errors import ConsentRequired
from orchestrator.settings import Settings
from orchestrator.storage.opening import UnsupportedURL
from orchestrator.storage.ports import LedgerLocked
from orchestrator.telemetry import logger
from orchestrator.testing import Service

pytestmark = pytest.mark.anyio


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return load_settings(environ={"DATABASE_URL": f"sqlite:///{tmp_path}/ledger.db"})


NOTE = TaskRequest(case_id="case-1", task_type="audit_log", payload={"note": "hello"})


async def test_a_task_is_routed_in_the_hosts_own_loop(settings: Settings) -> None:
    """`route` returns when the task is stored; a refusal is an exception with a code."""
    async with Orchestrator(settings) as running:
        routed = await running.route(NOTE)
        assert routed.answer is Answer.QUEUED
        with pytest.raises(ConsentRequired):
            await running.route(TaskRequest(case_id="c", task_type="embed", payload={"image": "x"}))
    async with Orchestrator(settings) as running:
        assert (await running.gateway.task(routed.record.task.task_id)).task.case_id == "case-1"


async def test_a_host_that_has_configured_no_logs(settings: Settings, capsys: pytest.CaptureFixture[str]) -> None:
    """Finds nothing of ours on its standard output, and what is wrong alone on its standard error."""
    structlog.reset_defaults()
    async with Orchestrator(settings) as running:
        await running.route(NOTE)
        logger().warning("consent_overridden", task_id="task-1", payload="canary")
    said = capsys.readouterr()
    assert said.out == ""
    (line,) = said.err.splitlines()
    assert json.loads(line).keys() == {"task_id", "event", "level", "timestamp"}


async def test_the_hosts_error_is_the_hosts(settings: Settings) -> None:
    """What the body raises comes out as it is, and everything is let go of."""
    with pytest.raises(ZeroDivisionError):
        async with Orchestrator(settings):
            raise ZeroDivisionError
    async with Orchestrator(settings):
        pass


async def test_the_host_is_cancelled(settings: Settings) -> None:
    """A cancelled host ends the actors, and the ledger is free again."""
    with anyio.move_on_after(0.2):
        async with Orchestrator(settings):
            await anyio.sleep_forever()
    async with Orchestrator(settings):
        pass


async def test_a_setting_that_is_found_wrong_late(settings: Settings) -> None:
    """The start is refused, and the ledger is free again."""
    wrong = replace(settings, tracing=replace(settings.tracing, otlp_endpoint="collector:4318"))
    with pytest.raises(UnsupportedURL):
        async with Orchestrator(wrong):
            pass
    async with Orchestrator(settings):
        pass


async def test_two_on_one_database(settings: Settings) -> None:
    """The second is refused, the first goes on."""
    async with Orchestrator(settings) as running:
        with pytest.raises(LedgerLocked):
            async with Orchestrator(settings):
                pass
        assert (await running.route(NOTE)).answer is Answer.QUEUED


async def test_a_service_that_does_not_start(tmp_path: Path) -> None:
    """Nobody listens on the port that it took."""
    async with Service(tmp_path / "ledger.db"):
        second = Service(tmp_path / "ledger.db")
        with pytest.raises(LedgerLocked):
            async with second:
                pass
    with pytest.raises(OSError, match="connect"):
        await anyio.connect_tcp("127.0.0.1", second.port)


async def test_a_redis_that_cannot_be() -> None:
    """An address that leads nowhere is refused at the start."""
    settings = load_settings(environ={"DATABASE_URL": "memory://", "REDIS_URL": "http://localhost"})
    with pytest.raises(UnsupportedURL):
        async with Orchestrator(settings):
            pass


async def test_a_redis_that_is_away() -> None:
    """It is no reason not to start, nor not to take work."""
    # Nobody listens on the port that is for discarding.
    settings = load_settings(environ={"DATABASE_URL": "memory://", "REDIS_URL": "redis://127.0.0.1:9/0"})
    async with Orchestrator(settings) as running:
        assert (await running.route(NOTE)).answer is Answer.QUEUED


def test_before_it_runs_there_is_nothing_to_ask(settings: Settings) -> None:
    """Using it without entering it is a clear error."""
    with pytest.raises(RuntimeError, match="not running"):
        _ = Orchestrator(settings).gateway


def test_what_embedders_import_is_offered_at_the_root() -> None:
    """Each name that the package offers is there; others are AttributeErrors."""
    for name in orchestrator._OFFERED:
        assert getattr(orchestrator, name) is not None
    with pytest.raises(AttributeError):
        _ = orchestrator.nonsense


class Host:
    """A minimal ASGI server: the lifespan, and one request at a time."""

    def __init__(self, app: Any) -> None:
        self.app = app
        self.sent: list[dict[str, Any]] = []
        self.told = anyio.Event()
        self.to_app, self._receive = anyio.create_memory_object_stream[dict[str, Any]](8)

    async def lifespan(self) -> None:
        async with self._receive:
            await self.app({"type": "lifespan", "asgi": {"version": "3.0"}}, self._receive.receive, self._keep)

    async def _keep(self, message: dict[str, Any]) -> None:
        self.sent.append(message)
        self.told.set()

    async def get(self, path: str) -> int:
        statuses: list[int] = []
        messages = [{"type": "http.request", "body": b"", "more_body": False}]
        answered = anyio.Event()

        async def receive() -> dict[str, Any]:
            if messages:
                return messages.pop()
            # As the specification has it: whoever asks for more after its answer hears that the client has gone.
            await answered.wait()
            return {"type": "http.disconnect"}

        async def send(message: dict[str, Any]) -> None:
            if message["type"] == "http.response.start":
                statuses.append(message["status"])
            elif not message.get("more_body", False):
                answered.set()

        scope = {
            "type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "method": "GET", "scheme": "http",
            "path": path, "raw_path": path.encode(), "query_string": b"", "root_path": "", "headers": [],
            "server": ("127.0.0.1", 80), "client": ("127.0.0.1", 1),
        }  # fmt: skip
        await self.app(scope, receive, send)
        return statuses[0]


USUAL = (700, 10, 10)


@pytest.fixture
def thresholds() -> Iterator[tuple[int, int, int]]:
    """Those of the collector of cycles, as Python has them; what they were before they are again afterwards."""
    before = gc.get_threshold()
    gc.set_threshold(*USUAL)
    yield USUAL
    gc.set_threshold(*before)


async def test_any_asgi_server_runs_it(settings: Settings, thresholds: tuple[int, int, int]) -> None:
    """The lifespan starts and stops the actors; in between requests are answered, and the collector looks seldom."""
    host = Host(create_app(settings))
    async with host.to_app, anyio.create_task_group() as group:
        group.start_soon(host.lifespan)
        await host.to_app.send({"type": "lifespan.startup"})
        with anyio.fail_after(10):
            await host.told.wait()
        assert await host.get("/ready") == 200
        assert gc.get_threshold() > thresholds
        await host.to_app.send({"type": "lifespan.shutdown"})
    assert [message["type"] for message in host.sent] == ["lifespan.startup.complete", "lifespan.shutdown.complete"]


async def test_a_start_that_fails_is_told_to_the_server(tmp_path: Path) -> None:
    """The server hears the kind of error, and no more."""
    (tmp_path / "broken.db").write_bytes(b"this is no database" * 100)
    host = Host(create_app(load_settings(environ={"DATABASE_URL": f"sqlite:///{tmp_path}/broken.db"})))
    async with host.to_app:
        await host.to_app.send({"type": "lifespan.startup"})
        await host.lifespan()
    assert host.sent == [{"type": "lifespan.startup.failed", "message": "LedgerCorrupt"}]
