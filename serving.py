"""A process that serves: its signals, its end, and the exit code that tells what ended it."""

import importlib.util
import os
import resource
import signal
import sys
from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Any

import anyio

from orchestrator.actors.audit_writer import LedgerDamaged, RecoveryNeeded
from orchestrator.embedding import Orchestrator, settle_collector
from orchestrator.kernel.errors import KernelError, root_cause
from orchestrator.listening import Listeners, listening_on, serve_on, url_of
from orchestrator.service_manager import ServiceManager
from orchestrator.settings import Settings, SettingsError
from orchestrator.storage.opening import UnsupportedURL
from orchestrator.storage.ports import LedgerCorrupt, LedgerError, LedgerLocked, SchemaTooNew
from orchestrator.web.safety import Unsafe, check

HARD_STOP_MARGIN_S = 30.0
FEEDS = 3
"""Signs of life within the time of the watchdog, so that a late one is no death."""

EXIT_SETTINGS = 2
EXIT_CORRUPT = 65
EXIT_UNAVAILABLE = 69
EXIT_GAVE_UP = 70
EXIT_RECOVER = 74
EXIT_LOCKED = 75

EXIT_CODES: dict[type[BaseException], int] = {
    UnsupportedURL: EXIT_SETTINGS,
    Unsafe: EXIT_SETTINGS,
    SettingsError: EXIT_SETTINGS,
    LedgerCorrupt: EXIT_CORRUPT,
    LedgerDamaged: EXIT_CORRUPT,
    SchemaTooNew: EXIT_CORRUPT,
    RecoveryNeeded: EXIT_RECOVER,
    LedgerLocked: EXIT_LOCKED,
    LedgerError: EXIT_UNAVAILABLE,
    KernelError: EXIT_GAVE_UP,
    OSError: EXIT_UNAVAILABLE,
}
"""What ended the process, by sysexits(3); the first that fits counts."""

EXPLAINED = (Unsafe, UnsupportedURL, SettingsError, LedgerError, KernelError, FileNotFoundError)
"""Errors whose words are ours, or name a file: they may be printed."""

Beside = Callable[[Orchestrator], Coroutine[Any, Any, None]]


def exit_code(error: Exception) -> int:
    """The exit code for what ended the process."""
    cause = root_cause(error)
    return next((code for kind, code in EXIT_CODES.items() if isinstance(cause, kind)), EXIT_GAVE_UP)


def run(settings: Settings, listeners: Listeners, manager: ServiceManager, beside: Beside | None = None) -> None:
    """Serves on `listeners` until SIGTERM, SIGINT or SIGHUP, then drains. A second signal ends the process at once.

    `manager` is told of readiness, life and the end. `beside` runs in the same loop once everything is up. Raises what
    ended the system otherwise.
    """
    settings = listening_on(listeners, settings)
    check(settings)
    leave_no_image()
    uvloop = importlib.util.find_spec("uvloop") is not None
    anyio.run(_serve, settings, listeners, manager, beside, backend_options={"use_uvloop": uvloop})


def leave_no_image() -> None:
    """Whatever ends the process leaves no image of its memory behind (core(5)): payloads and keys are in it."""
    _, hard = resource.getrlimit(resource.RLIMIT_CORE)
    resource.setrlimit(resource.RLIMIT_CORE, (0, hard))


async def _serve(settings: Settings, listeners: Listeners, manager: ServiceManager, beside: Beside | None) -> None:
    # The terminal that is closed ends service like the other two, unless we were started to outlive it (nohup).
    hangup = (signal.SIGHUP,) if signal.getsignal(signal.SIGHUP) is signal.SIG_DFL else ()
    with anyio.open_signal_receiver(signal.SIGTERM, signal.SIGINT, *hangup) as signals:
        async with anyio.create_task_group() as group:
            servers = serve_on(listeners, settings)
            async with Orchestrator(settings, servers=servers) as orchestrator, anyio.create_task_group() as served:
                settle_collector()
                manager.ready(f"serving on {url_of(listeners.web, settings)}")
                group.start_soon(_keep_alive, manager, orchestrator)
                if beside is not None:
                    served.start_soon(beside, orchestrator)
                await anext(signals)
                manager.stopping()
                group.start_soon(_end_at_once, signals, settings.dispatch.drain_s + HARD_STOP_MARGIN_S)
                orchestrator.drain()
                # The servers have copies of their own. With the end of these who connects is refused and does not hang.
                listeners.close()
                served.cancel_scope.cancel()
            group.cancel_scope.cancel()


async def _keep_alive(manager: ServiceManager, orchestrator: Orchestrator) -> None:
    """Signs of life as long as there is life: this loop turns, and the supervisor finds every actor well."""
    while manager.watchdog_s:
        if orchestrator.well():
            manager.alive()
        await anyio.sleep(manager.watchdog_s / FEEDS)


async def _end_at_once(signals: AsyncIterator[signal.Signals], within: float) -> None:
    """The last resort: on a second signal, or when the drain did not end. The ledger stands a kill at any moment."""
    number = signal.SIGALRM
    with anyio.move_on_after(within):
        number = await anext(signals)
    sys.stderr.flush()
    os._exit(128 + number)
