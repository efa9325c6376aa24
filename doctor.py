"""Whether everything that the orchestrator needs is as it should be, asked from outside: it may run or not."""

import os
import shutil
import tempfile
from collections.abc import AsyncIterator
from enum import StrEnum
from pathlib import Path
from statistics import median
from time import perf_counter
from urllib.parse import urlsplit

import anyio
from anyio.to_thread import run_sync
from msgspec import Struct

from orchestrator import auditing
from orchestrator.crypto.certificates import expires_at
from orchestrator.domain.agent import Agent
from orchestrator.domain.audit import rfc3339
from orchestrator.embedding import streams_of
from orchestrator.kernel.environment import Environment
from orchestrator.settings import Settings, SettingsError
from orchestrator.storage.opening import UnsupportedURL, is_postgres, open_reader, sqlite_path
from orchestrator.storage.ports import AuditQuery, LedgerError, LedgerReader
from orchestrator.web.safety import dangers
from orchestrator.web.securing import tls_of

WITHIN_S = 2.0
SLOW_SYNC_S, STUCK_SYNC_S = 0.05, 0.5
AHEAD_S = 5.0
TIMESYNC = "/run/systemd/timesync"
"""Where systemd-timesyncd says whether it has reached a time server."""
DAY_S, ENDS_SOON_DAYS = 86_400, 14
PROBLEMS = (LedgerError, UnsupportedURL, OSError, ValueError)
"""What reading a database can end with."""


class Level(StrEnum):
    """How much it matters."""

    OK = "ok"
    WARNING = "warning"
    FAILURE = "failure"


class Finding(Struct, frozen=True):
    """One line: what was looked at, what was found, and what to do about it."""

    name: str
    level: Level
    found: str
    advice: str = ""


async def examine(settings: Settings) -> AsyncIterator[Finding]:
    """Each finding as soon as it is there."""
    yield _settings(settings)
    url = settings.storage.database_url
    if not is_postgres(url):
        for finding in await run_sync(_disk, settings):
            yield finding
    async for finding in _ledger(url):
        yield finding
    yield await _redis(settings)
    yield await run_sync(_tls, settings)


def unusable(error: SettingsError) -> Finding:
    """What is to be said of settings that cannot be read: nothing else can be looked at then."""
    return Finding("settings", Level.FAILURE, str(error), "mend it where it came from: without that it does not start")


def _settings(settings: Settings) -> Finding:
    found = dangers(settings)
    if not found:
        return Finding("settings", Level.OK, "every value is one that can be, and nothing is open that should not be")
    level = Level.WARNING if settings.web.insecure else Level.FAILURE
    advice = "set [auth] and [agents] as docs/security.md says; without web.insecure it does not start"
    return Finding("settings", level, f"it serves with {' and '.join(found)}", advice)


async def _ledger(url: str) -> AsyncIterator[Finding]:
    reader = None
    try:
        reader = await open_reader(url)
        agents = await reader.agents()
        yield Finding("database", Level.OK, f"readable, {len(agents)} agents known")
        yield await _clock(reader)
        yield await _reached(agents)
        yield await _chain(url)
    except FileNotFoundError:
        advice = "the first start makes it, or `orchestrator tables`"
        yield Finding("database", Level.WARNING, "there is none yet", advice)
    except Exception as error:  # noqa: BLE001 - whatever its driver says: it cannot be read as it is
        advice = "mend storage.database_url, start the version that wrote it once, or restore a backup"
        yield Finding("database", Level.FAILURE, _words(error), advice)
    finally:
        if reader is not None:
            await reader.close()


def _disk(settings: Settings) -> list[Finding]:
    try:
        folder = Path(sqlite_path(settings.storage.database_url)).absolute().parent
    except UnsupportedURL:
        return []  # The look at the database says so.
    if not folder.is_dir():
        return [Finding("disk", Level.WARNING, f"{folder} is not there yet", "the first start makes it")]
    free, least = shutil.disk_usage(folder).free, settings.storage.min_free_bytes
    level = Level.FAILURE if free < least else Level.WARNING if free < 10 * least else Level.OK
    needed = f"{least // 2**20} MiB, with what is unused in the file"
    advice = "" if level is Level.OK else f"make room: below {needed}, no work is accepted"
    return [Finding("disk space", level, f"{free // 2**20} MiB free", advice), _sync(folder)]


def _sync(folder: Path) -> Finding:
    """How long the disk takes to hold what it is given: each acceptance waits for that."""
    seconds: list[float] = []
    try:
        with tempfile.TemporaryFile(dir=folder, buffering=0) as file:
            for _ in range(15):
                file.write(b"x" * 4096)
                began = perf_counter()
                os.fsync(file.fileno())
                seconds.append(perf_counter() - began)
    except OSError as error:
        return Finding(
            "disk writes", Level.FAILURE, f"{folder}: {error.strerror}", "give the user the right to write there"
        )
    took = median(seconds)
    level = Level.FAILURE if took > STUCK_SYNC_S else Level.WARNING if took > SLOW_SYNC_S else Level.OK
    advice = "" if level is Level.OK else "put the database on a faster disk: every acceptance waits so long"
    return Finding("disk writes", level, f"{1000 * took:.2f} ms for an fsync", advice)


async def _clock(reader: LedgerReader) -> Finding:
    now = Environment.real().now()
    ahead = await reader.audit(AuditQuery(since=rfc3339(now + AHEAD_S), limit=1))
    if ahead.entries:
        found = f"the audit has an entry of {ahead.entries[0].created_at}, which is to come"
        return Finding("clock", Level.FAILURE, found, "set the clock: consent and deadlines are judged by it")
    timesync = anyio.Path(TIMESYNC)
    if await timesync.is_dir() and not await (timesync / "synchronized").exists():
        return Finding("clock", Level.WARNING, "not synchronised yet", "let systemd-timesyncd reach a time server")
    return Finding("clock", Level.OK, f"{rfc3339(now)}, later than every entry")


async def _reached(agents: list[Agent]) -> Finding:
    called = {agent.agent_id: agent.endpoint for agent in agents if agent.endpoint}
    if not agents:
        return Finding("agents", Level.WARNING, "none is registered", "start one: nothing is done without")
    held = [agent.agent_id for agent in agents if agent.quarantined]
    away: list[str] = []

    async def knock(agent_id: str, endpoint: str) -> None:
        parts = urlsplit(endpoint)
        port = parts.port or (443 if parts.scheme == "https" else 80)
        try:
            with anyio.fail_after(WITHIN_S):
                async with await anyio.connect_tcp(parts.hostname or "", port):
                    return
        except (OSError, TimeoutError):
            away.append(agent_id)

    async with anyio.create_task_group() as group:
        for agent_id, endpoint in called.items():
            group.start_soon(knock, agent_id, endpoint)
    if not away and not held:
        return Finding(
            "agents", Level.OK, f"{len(called)} called and reached, {len(agents) - len(called)} ask by themselves"
        )
    level = Level.FAILURE if len(away) == len(agents) else Level.WARNING
    wrong = [("not reached", away, "start or remove them"), ("in quarantine", held, "orchestrator agents allow ID")]
    found = [f"{len(names)} of {len(agents)} {how}: {_few(names)}" for how, names, _ in wrong if names]
    return Finding("agents", level, "; ".join(found), "; ".join(advice for _, names, advice in wrong if names))


def _few(names: list[str]) -> str:
    return ", ".join(sorted(names)[:10]) + (", …" if len(names) > 10 else "")


async def _chain(url: str) -> Finding:
    try:
        report = await auditing.verify(url)
    except PROBLEMS as error:
        return Finding("audit", Level.FAILURE, _words(error), "run `orchestrator audit verify`")
    if report.flaws:
        flaw = report.flaws[0]
        found = f"{flaw.audit_id or flaw.writer}: {flaw.what}"
        return Finding("audit", Level.FAILURE, found, "keep the file as it is, and compare it with your backups")
    return Finding("audit", Level.OK, f"the chain holds, {sum(head.seq for head in report.heads)} entries")


async def _redis(settings: Settings) -> Finding:
    streams = None
    try:
        streams = streams_of(settings, "doctor")
        if streams is None:
            return Finding("redis", Level.OK, "not used: the queue is in this process")
        with anyio.fail_after(3 * WITHIN_S):
            policy = await streams.evicts()
    except Exception as error:  # noqa: BLE001 - whatever its driver says: it cannot be used as it is
        return Finding("redis", Level.FAILURE, type(error).__name__, "start it, or mend storage.redis_url")
    finally:
        if streams is not None:
            await streams.close()
    if policy is None:
        return Finding("redis", Level.OK, "it answers, and throws nothing away")
    return Finding("redis", Level.WARNING, f"maxmemory-policy is {policy}", "set it to noeviction")


def _tls(settings: Settings) -> Finding:
    """The certificate that we serve with; how soon it ends, and whether those of clients open anything."""
    auth, file = settings.auth, settings.web.tls_certificate_file
    try:
        if tls_of(settings) is None:
            return Finding("tls", Level.OK, "not used: plain http")
        days = (expires_at(Path(file).read_bytes()) - Environment.real().now()) / DAY_S
    except (SettingsError, OSError, ValueError) as error:
        return Finding("tls", Level.FAILURE, str(error), "mend the files: without them it does not start")
    found = "the certificate has ended" if days <= 0 else f"the certificate holds for {days:.0f} days"
    if days < ENDS_SOON_DAYS:
        return Finding("tls", Level.FAILURE if days <= 0 else Level.WARNING, found, "renew it: its files are followed")
    if auth.certificate_ca_file and not auth.certificate_scopes and not auth.certificates:
        advice = "list callers in auth.certificates, or what all may do in auth.certificate_scopes"
        return Finding("tls", Level.WARNING, f"{found}; those of clients open nothing", advice)
    return Finding("tls", Level.OK, found)


def _words(error: BaseException) -> str:
    """Its kind, and its words where they are ours."""
    return (
        f"{type(error).__name__}: {error}" if isinstance(error, LedgerError | UnsupportedURL) else type(error).__name__
    )
