"""Ports of the loopback for servers that are told theirs, or where nobody listens."""

from socket import SO_REUSEADDR, SOL_SOCKET, socket


def reserved_port() -> int:
    """Nobody is given it who asks for any port, and no connection leaves from it, until this process ends.

    It stays bound, without a listener. Who asks for it by its number listens there all the same, again and again,
    if it sets SO_REUSEADDR, as servers do. Before that, and in between, connections are refused.
    """
    holder = socket()
    holder.setsockopt(SOL_SOCKET, SO_REUSEADDR, 1)
    holder.bind(("127.0.0.1", 0))
    port: int = holder.getsockname()[1]
    holder.detach()
    return port
