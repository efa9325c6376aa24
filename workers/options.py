"""The command-line options that all agents share."""

import logging
import os
from argparse import ArgumentParser, Namespace
from dataclasses import dataclass, replace


@dataclass(frozen=True, slots=True)
class Options:
    """Where an agent runs and whom it serves. None keeps what the agent's code says; port 0 is any free port."""

    orchestrator: str = "http://127.0.0.1:8080"
    host: str = "127.0.0.1"
    port: int = 0
    announce: str | None = None
    agent_id: str | None = None
    location: str | None = None
    heartbeat_every: float = 30.0
    drain_deadline: float = 25.0
    pull: bool = False
    redis: str | None = None
    until_eof: bool = False
    log_level: str = "INFO"

    @classmethod
    def of(cls, args: Namespace) -> "Options":
        """The shared options among `args`, which `agent_parser` parsed."""
        options = cls(**{name: getattr(args, name) for name in cls.__slots__})
        return replace(options, pull=options.pull or options.redis is not None)

    def endpoint(self, port: int) -> str:
        """The address the orchestrator is told, for the port that is really listened on."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return (self.announce or f"http://{host}:{port}").rstrip("/")


def agent_parser(description: str = "An agent of the Routing Orchestrator.") -> ArgumentParser:
    """A parser with the shared options; an agent adds its own and reads both from one namespace."""
    parser = ArgumentParser(description=description)
    default = Options(orchestrator=os.environ.get("ORCHESTRATOR_URL", Options().orchestrator))
    add = parser.add_argument
    add("--orchestrator", metavar="URL", default=default.orchestrator, help="its address (env ORCHESTRATOR_URL)")
    add("--host", default=default.host, help="address to listen on; loopback unless told (%(default)s)")
    add("--port", type=int, default=default.port, help="port to listen on; 0 is any free one (%(default)s)")
    add("--announce", metavar="URL", help="endpoint to register, if it is not http://HOST:PORT")
    add("--agent-id", help="the agent's name; one per process")
    add("--location", help="where it runs; one that starts with 'edge' is preferred")
    add("--heartbeat-every", metavar="S", type=float, default=default.heartbeat_every, help="seconds (%(default)s)")
    add("--drain-deadline", metavar="S", type=float, default=default.drain_deadline, help="seconds (%(default)s)")
    add("--pull", action="store_true", help="ask for work instead of being called: for agents behind NAT")
    add("--redis", metavar="URL", help="read from the streams in Redis which tasks wait (extra redis); implies --pull")
    add(
        "--until-eof",
        action="store_true",
        help="end as well when standard input does: with whoever holds its other end",
    )
    add("--log-level", default=default.log_level, type=str.upper, choices=list(logging.getLevelNamesMapping()))
    return parser
