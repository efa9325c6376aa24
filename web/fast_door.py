"""Connections of Hypercorn, taken over by our own class. Checked with Hypercorn 0.18."""

from typing import Any, cast

from orchestrator.web.door import Door, early_bytes
from orchestrator.web.fast_http import Connection
from orchestrator.web.server_config import ServerConfig


class FastDoor(Door):
    """A connection that is taken over from Hypercorn's streams."""

    async def speak(self) -> None:
        transport: Any = self.writer.transport
        # Hypercorn hands every connection the configuration that the server was started with.
        config = cast("ServerConfig", self.config)
        connection = Connection(config.app, config, self.state, self.loop)
        transport.set_protocol(connection)
        connection.begin(transport, self.certificate, self.refusal)
        if early := early_bytes(self.reader):
            connection.data_received(early)
        if self.reader.at_eof():
            transport.close()
        await connection.serve()
