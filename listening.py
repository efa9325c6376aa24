"""The sockets that a process serves on, and the actors that serve there: one for all calls, one to watch over it."""

from socket import AF_UNIX, socket

from msgspec import Struct
from msgspec.structs import replace

from orchestrator.actors.gateway import Gateway
from orchestrator.kernel.actor import Actor
from orchestrator.settings import Settings, Web
from orchestrator.supervisor import Servers
from orchestrator.telemetry import Telemetry


class CannotListen(Exception):
    """An address cannot be had."""


class Listeners(Struct, frozen=True):
    """Sockets that listen. With `watch`, what watches over the box is answered there as well."""

    web: socket
    watch: socket | None = None

    def close(self) -> None:
        """Closes them. The servers have copies of their own. Twice is safe."""
        self.web.close()
        if self.watch is not None:
            self.watch.close()


def open_listeners(web: Web, handed: socket | None = None) -> Listeners:
    """Sockets at the addresses of the settings; `handed` stands for the first of them. Raises CannotListen."""
    first = _listen(web.host, web.port) if handed is None else handed
    try:
        return Listeners(first, _listen(web.watch_address, web.watch_port) if web.watch_port else None)
    except BaseException:
        first.close()
        raise


def _listen(host: str, port: int) -> socket:
    from orchestrator.web.server import listen

    try:
        return listen(host, port)
    except OSError as error:
        raise CannotListen(f"cannot listen on {host}:{port}: {error.strerror}") from None


def url_of(listener: socket, settings: Settings) -> str:
    """Where clients find what serves on that socket."""
    address = listener.getsockname()
    if listener.family == AF_UNIX:
        return f"unix:{address}"
    host, port = address[:2]
    return url_at(host, port, settings)


def url_at(host: str, port: int, settings: Settings) -> str:
    """Where clients find what serves at that address."""
    scheme = "https" if settings.web.tls_certificate_file else "http"
    return f"{scheme}://[{host}]:{port}" if ":" in host else f"{scheme}://{host}:{port}"


def listening_on(listeners: Listeners, settings: Settings) -> Settings:
    """The settings with the addresses that were really bound: no agent may be there, and they say who can reach us."""
    web = settings.web
    if listeners.web.family == AF_UNIX:
        web = replace(web, host="localhost")
    else:
        host, port = listeners.web.getsockname()[:2]
        web = replace(web, host=host, port=port)
    if listeners.watch is not None:
        host, port = listeners.watch.getsockname()[:2]
        web = replace(web, watch_host=host, watch_port=port)
    return replace(settings, web=web)


def serve_on(listeners: Listeners, settings: Settings) -> Servers:
    """The actors that serve on these sockets. Raises SettingsError for keys and files that cannot be used."""
    from orchestrator.web.identity.opening import verifier_of
    from orchestrator.web.securing import tls_of

    tokens, tls = verifier_of(settings.auth), tls_of(settings)

    def web(gateway: Gateway, telemetry: Telemetry) -> Actor[object]:
        from orchestrator.web.app import build_app
        from orchestrator.web.server import WebServer

        return WebServer(build_app(gateway, telemetry, settings, tokens).asgi_app, listeners.web, settings.limits, tls)

    watcher = listeners.watch
    if watcher is None:
        return {"web": web}

    def watch(gateway: Gateway, telemetry: Telemetry) -> Actor[object]:
        from orchestrator.web.server import WebServer
        from orchestrator.web.watch import build_watch, few

        return WebServer(build_watch(gateway, telemetry, settings), watcher, few(settings.limits), tls)

    # The last to start is restarted alone when it fails: what watches must never harm what is watched.
    return {"web": web, "watch": watch}
