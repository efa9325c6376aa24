"""Those who could not show who they are: counted each time, told of in the log now and then."""

from orchestrator.actors.events import AuthenticationFailed
from orchestrator.kernel.monotonic import monotonic
from orchestrator.telemetry import Telemetry

TELL_EVERY_S = 10.0


class Strangers:
    """A flood of them must not become a flood of the log."""

    def __init__(self, telemetry: Telemetry) -> None:
        self._telemetry, self._quiet_until = telemetry, 0.0

    def seen(self) -> None:
        """One more."""
        now = monotonic()
        tell = now >= self._quiet_until
        if tell:
            self._quiet_until = now + TELL_EVERY_S
        self._telemetry.emit(AuthenticationFailed(tell))
