"""Who owns a ledger's file: one process at a time."""

import fcntl
import os
from typing import IO

from orchestrator.storage.ports import LedgerLocked


def own(path: str) -> IO[bytes]:
    """Locks a file beside the database while this process lives; the kernel lets go of it even after kill -9."""
    lock = open(f"{path}.lock", "ab", opener=private)  # noqa: SIM115 - kept open: closing it lets go
    try:
        give_to_owner_of_folder(lock.name)
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        lock.close()
        raise LedgerLocked("another process uses this ledger") from None
    except BaseException:
        lock.close()
        raise
    return lock


def private(path: str, flags: int) -> int:
    """Opens a file that only its owner may read."""
    return os.open(path, flags, 0o600)


def give_to_owner_of_folder(path: str) -> None:
    """What root made goes to the folder's owner: a service must be able to use what its operator restored."""
    if os.geteuid() == 0:
        folder = os.stat(os.path.dirname(path) or ".")
        os.chown(path, folder.st_uid, folder.st_gid)
