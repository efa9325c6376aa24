"""What streams and their group are called."""

from collections.abc import Mapping

from msgspec import Struct

from orchestrator.domain.task import Priority


class StreamNames(Struct, frozen=True):
    """The stream of each class, that of the dead letters, and the consumer group of the replicas."""

    streams: Mapping[Priority, str]
    dead_letters: str
    group: str = "workers"

    @property
    def voucher(self) -> str:
        """The key that says which server process has been told everything."""
        return f"{self.streams[Priority.URGENT]}:vouched"
