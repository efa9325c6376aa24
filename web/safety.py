"""What is unsafe about a configuration, for those who start it and for those who use it."""

from ipaddress import ip_address, ip_network

from orchestrator.settings import Settings

HEADER = "X-Orchestrator-Insecure"
_LOOPBACK = (ip_network("127.0.0.0/8"), ip_network("::1/128"))


class Unsafe(Exception):
    """It would serve in a way that has to be asked for."""

    def __init__(self, dangers: list[str]) -> None:
        super().__init__(f"it would serve with {' and '.join(dangers)}; web.insecure (--insecure) allows that")


def dangers(settings: Settings) -> list[str]:
    """What is open to the network that should not be, in a few words each; usually nothing."""
    found: list[str] = []
    web = settings.web
    beyond = not is_local(web.host) or (web.watch_port != 0 and not is_local(web.watch_address))
    if beyond and not settings.auth.configured:
        found.append("no authentication beyond this machine")
    agents = settings.agents
    called = bool(agents.allowed_hosts) or not all(_is_loopback(network) for network in agents.allowed_networks)
    if agents.allow_plaintext and called:
        found.append("plaintext agents beyond this machine")
    return found


def on_every_answer(dangers: list[str]) -> dict[str, str]:
    """The headers of every answer."""
    said = {HEADER: "; ".join(dangers)} if dangers else {}
    return {**said, "X-Content-Type-Options": "nosniff", "Cache-Control": "no-store"}


def check(settings: Settings) -> None:
    """Raises Unsafe for a configuration with dangers that nobody has asked for."""
    found = dangers(settings)
    if found and not settings.web.insecure:
        raise Unsafe(found)


def is_local(host: str) -> bool:
    """Whether only this machine can reach what listens there. A name other than localhost could lead anywhere."""
    if host == "localhost":
        return True
    try:
        return ip_address(host.partition("%")[0]).is_loopback
    except ValueError:
        return False


def _is_loopback(network: str) -> bool:
    own = ip_network(network)
    return any(own.version == loop.version and own.subnet_of(loop) for loop in _LOOPBACK)  # pyright: ignore[reportArgumentType]
