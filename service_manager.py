"""What a service manager hands to the process, and what the process tells it: sd_notify(3) and sd_listen_fds(3).

Without a manager nothing is handed over, and what is told goes nowhere.
"""

import contextlib
import os
import socket
from collections.abc import MutableMapping
from socket import AF_UNIX, SO_ACCEPTCONN, SO_TYPE, SOCK_DGRAM, SOCK_STREAM, SOL_SOCKET

FIRST_FD = 3
"""SD_LISTEN_FDS_START."""


class BadSocket(ValueError):
    """What the manager handed over is not one listening stream socket."""


class ServiceManager:
    """Takes the manager's variables out of `environ`: they are for this process and not for its children."""

    def __init__(self, environ: MutableMapping[str, str]) -> None:
        address = environ.pop("NOTIFY_SOCKET", "")
        # A name in the abstract namespace is written with @ and begins with a zero byte (unix(7)).
        self._address = f"\0{address[1:]}" if address.startswith("@") else address
        me = str(os.getpid())
        for_us = environ.pop("LISTEN_PID", "") == me
        self._sockets = _number(environ, "LISTEN_FDS") if for_us else 0
        environ.pop("LISTEN_FDNAMES", None)
        watched = environ.pop("WATCHDOG_PID", me) == me
        self.watchdog_s = _number(environ, "WATCHDOG_USEC") / 1e6 if watched else 0.0
        """Within how many seconds it wants a sign of life, again and again; 0: it does not ask for one."""

    def listener(self) -> socket.socket | None:
        """The socket that is ours to serve on, if one was handed over. Raises BadSocket."""
        if not self._sockets:
            return None
        if self._sockets > 1:
            raise BadSocket("the service manager handed over more than one socket")
        try:
            given = socket.socket(fileno=FIRST_FD)
            listening = given.getsockopt(SOL_SOCKET, SO_ACCEPTCONN)
        except OSError:
            raise BadSocket("the service manager handed over what is no socket") from None
        if not listening or given.getsockopt(SOL_SOCKET, SO_TYPE) != SOCK_STREAM:
            raise BadSocket("the service manager handed over a socket that does not listen for connections")
        given.set_inheritable(False)
        given.setblocking(False)
        return given

    def ready(self, status: str) -> None:
        """Everything is up; `status` is a line for people."""
        self._tell(f"READY=1\nSTATUS={status}")

    def stopping(self) -> None:
        """The end was asked for and has begun."""
        self._tell("STOPPING=1\nSTATUS=draining")

    def alive(self) -> None:
        """A sign of life."""
        self._tell("WATCHDOG=1")

    def _tell(self, state: str) -> None:
        if not self._address:
            return
        # A manager that does not listen must not hold up the event loop; it acts on what it did not hear.
        with contextlib.suppress(OSError), socket.socket(AF_UNIX, SOCK_DGRAM) as sender:
            sender.setblocking(False)
            sender.sendto(state.encode(), self._address)


def _number(environ: MutableMapping[str, str], name: str) -> int:
    """What is no number counts as 0: then the manager asks for nothing."""
    text = environ.pop(name, "")
    return int(text) if text.isdecimal() else 0
