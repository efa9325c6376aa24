"""The server's end of a connection, before HTTP: whether there is room for it, its TLS, and who it is with.

It takes the place of Hypercorn's TCPServer. Checked with Hypercorn 0.18.
"""

from typing import Any

from hypercorn.asyncio.tcp_server import TCPServer

from orchestrator.web.identity.certificates import Certificate, certificate_of

HANDSHAKE_S = 10.0
"""How long a client may take over its handshake."""


class Door(TCPServer):
    """One connection. It is counted from its first moment: handshakes that are never finished are bounded, too."""

    refusal: int | None = None
    """The status by which the one too many is turned away."""
    certificate: Certificate | None = None

    async def run(self) -> None:
        # Hypercorn hands every connection the configuration that the server was started with.
        config: Any = self.config
        self.refusal = config.connections.enter(self.writer.transport)
        if config.tls is not None:
            # Before its handshake a client understands no answer.
            if self.refusal is not None or not await self._secured(config.tls):
                self.writer.transport.abort()
                return
            self.certificate = certificate_of(self.writer.get_extra_info("peercert"))
        await super().run()

    async def _secured(self, tls: Any) -> bool:
        try:
            await self.writer.start_tls(tls, ssl_handshake_timeout=HANDSHAKE_S)
        except OSError:
            # A certificate that does not hold, an old version, or no TLS at all. ssl.SSLError is one of them.
            return False
        return True
