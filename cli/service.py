"""The commands that serve: as a process, or as a demonstration."""

import os
import sys
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import click

from orchestrator.cli.console import fail, file_option, settings_of
from orchestrator.settings import Settings


@click.command()
@click.option("--host", help="Address to listen on.")
@click.option("--port", type=int, help="Port to listen on.")
@click.option("--insecure", is_flag=True, help="Serve though it is not safe, and say so on every answer.")
@file_option
def serve(host: str | None, port: int | None, insecure: bool, file: Path | None) -> None:
    """Serve until SIGTERM or Ctrl-C."""
    from orchestrator import serving

    settings = settings_of(file, host, port, insecure=insecure)
    _run_server(settings, None, serving.exit_code)


@click.command()
@click.option("--port", type=int, help="Port to listen on.")
@click.option("--once", is_flag=True, help="Stop after the sample cases; exit code 1 if one came out otherwise.")
@file_option
def demo(port: int | None, once: bool, file: Path | None) -> None:
    """Serve here, with the reference agents, and send them the sample cases."""
    from orchestrator import serving

    folder = Path("var")
    own = {"STORAGE_DATABASE_URL": f"sqlite:///./{folder}/demo.db", "LOG_LEVEL": "WARNING", "LOG_FORMAT": "console"}
    settings = settings_of(file, None, port, {f"ORCHESTRATOR_{name}": value for name, value in own.items()})
    _run_server(settings, (folder, once), serving.exit_code)


def _run_server(settings: Settings, demonstrate: tuple[Path, bool] | None, code: Callable[[Exception], int]) -> None:
    from orchestrator import serving
    from orchestrator.listening import CannotListen, open_listeners, url_of
    from orchestrator.service_manager import BadSocket, ServiceManager
    from orchestrator.telemetry import configure_logging, tell_faults

    configure_logging(settings.log.level, settings.log.format)
    tell_faults()
    manager = ServiceManager(os.environ)
    try:
        listeners = open_listeners(settings.web, manager.listener())
    except BadSocket as error:
        fail(serving.EXIT_SETTINGS, str(error))
    except CannotListen as error:
        fail(serving.EXIT_UNAVAILABLE, str(error))
    url = url_of(listeners.web, settings)
    watch = None if listeners.watch is None else url_of(listeners.watch, settings)
    verdict: list[bool] = []
    beside = _announce(url, watch) if demonstrate is None else _demonstrate(url, *demonstrate, verdict)
    try:
        serving.run(settings, listeners, manager, beside)
    except Exception as error:  # noqa: BLE001 - the last resort of the process: one line and an exit code
        cause = serving.root_cause(error)
        words = f": {cause}" if isinstance(cause, serving.EXPLAINED) else ""
        fail(code(error), f"{type(cause).__name__}{words}")
    finally:
        listeners.close()
    sys.exit(0 if all(verdict) else 1)


def _announce(url: str, watch: str | None) -> Callable[[Any], Coroutine[Any, Any, None]]:
    async def announce(_orchestrator: Any) -> None:
        click.echo(f"serving on {url}", err=True)
        if watch is not None:
            click.echo(f"watched on {watch}", err=True)

    return announce


def _demonstrate(url: str, folder: Path, once: bool, verdict: list[bool]) -> Callable[[Any], Coroutine[Any, Any, None]]:
    async def demonstrate(orchestrator: Any) -> None:
        from orchestrator import demo as demonstration

        verdict.append(await demonstration.show(orchestrator, url, folder, once=once))
        os.kill(os.getpid(), 15)

    return demonstrate
