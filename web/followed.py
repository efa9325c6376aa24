"""What is made of files that others replace while the process runs: keys, certificates, lists of those taken back."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Generic, TypeVar

import anyio.to_thread

from orchestrator.telemetry import logger

Made = TypeVar("Made")
_Stamp = tuple[int, int, int] | None


class Followed(Generic[Made]):
    """Gives what `make` makes of the files as they are now. Not for several event loops."""

    def __init__(self, what: str, files: Sequence[str], make: Callable[[], Made]) -> None:
        """`make` reads the files; it raises OSError or ValueError where they cannot be used. So does this, at first.

        `what` is the word for it in the log.
        """
        self._what, self._files, self._make = what, tuple(Path(file) for file in files if file), make
        # Before they are read: what is replaced meanwhile is seen the next time.
        self._stamps = self._now()
        self._made = make()

    async def __call__(self) -> Made:
        """Made anew where a file has changed since; as it was where that fails, with a word in the log.

        Files that belong together are replaced one after the other, so that a failure may be a matter of moments. Who
        asks while it is made anew is given what there was.
        """
        stamps = self._now()
        if stamps != self._stamps:
            self._stamps = stamps
            try:
                self._made = await anyio.to_thread.run_sync(self._make)
            except (OSError, ValueError) as error:
                logger().warning(f"{self._what}_not_taken", error=type(error).__name__)
        return self._made

    def _now(self) -> list[_Stamp]:
        return [_stamp(file) for file in self._files]


def _stamp(file: Path) -> _Stamp:
    """What differs once a file was written or replaced; it costs some microseconds. None where there is none."""
    try:
        found = file.stat()
    except OSError:
        return None
    return found.st_ino, found.st_mtime_ns, found.st_size
