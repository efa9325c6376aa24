"""Large ledgers, made from a few tasks that really were accepted and done: their rows, again and again.

Ids begin with the time, as those of real tasks do, and keys stand at random: a new task finds its place in each index
where it would after a million others.
"""

import atexit
import os
import shutil
import sqlite3
import tempfile
import time
from collections.abc import Sequence
from contextlib import closing
from functools import cache
from pathlib import Path

from orchestrator.bench.acceptance import ENVIRON
from orchestrator.bench.agent import agent
from orchestrator.bench.endtoend import CALL, get, post, register
from orchestrator.bench.processes import serving
from orchestrator.storage.rows import RESULT_COLUMNS
from orchestrator.storage.sqlite import parts
from orchestrator.storage.sqlite.keys import KnownKeys

NAME = "bench.db"
_TASK = {key: CALL[key] for key in ("case_id", "task_type", "payload", "meta")}


@cache
def grown(finished: int, queued: int) -> Path:
    """The folder of such a ledger, which goes when this process ends."""
    folder = Path(tempfile.mkdtemp(prefix="bench-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    done, waiting = _seeds(folder)
    with closing(sqlite3.connect(folder / NAME, isolation_level=None)) as connection:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = OFF")
        connection.execute("BEGIN")
        for seed, count in ((done, finished), (waiting, queued)):
            _multiply(connection, seed, count)
        connection.execute("COMMIT")
        parts.catch_up(connection)
        # As it is where all but the newest have been entered.
        KnownKeys(connection)
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    # Else the system would write gigabytes while others are measured.
    os.sync()
    return folder


def _seeds(folder: Path) -> tuple[str, str]:
    """A task that is done, and one that nobody does."""
    with agent() as endpoint, serving("-m", "orchestrator", "serve", environ=ENVIRON, folder=folder) as port:
        register(port, endpoint)
        done: str = post(port, "/route_task", {**_TASK, "idempotency_key": "done"})["task_id"]
        waiting: str = post(port, "/route_task", {**_TASK, "task_type": "indexing", "idempotency_key": "w"})["task_id"]
        while get(port, f"/task/{done}?wait=5")["status"] != "succeeded":
            time.sleep(0.01)
    return done, waiting


def _multiply(connection: sqlite3.Connection, seed: str, count: int) -> None:
    """All that the ledger holds of the task, `count` times."""
    connection.execute("CREATE TEMP TABLE IF NOT EXISTS copies (n INTEGER PRIMARY KEY, id TEXT NOT NULL)")
    connection.execute("DELETE FROM copies")
    connection.execute(
        "WITH RECURSIVE numbers (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM numbers WHERE n < ?)"
        " INSERT INTO copies SELECT n, printf('task-%012x%s', ? + n, lower(hex(randomblob(10)))) FROM numbers",
        (count, int(time.time() * 1000) - count),
    )
    first = {
        "tasks": _next(connection, "tasks", "seq"),
        "audit_entries": _next(connection, "audit_entries", "position"),
    }
    _copy(connection, "tasks", seed, {"seq": f"n + {first['tasks']}", "case_id": "'case-' || n"})
    connection.execute(
        "INSERT INTO results (seq, "
        + RESULT_COLUMNS
        + ") SELECT n + ?, "
        + RESULT_COLUMNS
        + " FROM copies, results WHERE seq = (SELECT seq FROM tasks WHERE task_id = ?) ORDER BY n",
        (first["tasks"], seed),
    )
    connection.execute(
        "INSERT INTO idempotency_keys (seq, digest, fingerprint, expires_at)"
        " SELECT n + ?, randomblob(16), fingerprint, expires_at"
        " FROM copies, idempotency_keys JOIN tasks USING (seq) WHERE task_id = ? ORDER BY n",
        (first["tasks"], seed),
    )
    # A chain of its own, since it is none: what starts reads the end of ours.
    positions = f"n * 8 + row.seq + {first['audit_entries']}"
    _copy(
        connection,
        "audit_entries",
        seed,
        {"position": positions, "seq": positions, "writer": "'earlier'", "case_id": "'case-' || n"},
    )


def _copy(connection: sqlite3.Connection, table: str, seed: str, others: dict[str, str]) -> None:
    columns = [str(row[1]) for row in connection.execute(f"PRAGMA table_info({table})")]
    values = [others.get(name, "id" if name == "task_id" else f"row.{name}") for name in columns]
    connection.execute(
        f"INSERT INTO {table} ({', '.join(columns)}) SELECT {', '.join(values)}"
        f" FROM copies, {table} AS row WHERE row.task_id = ? ORDER BY n",
        (seed,),
    )


def _next(connection: sqlite3.Connection, table: str, column: str) -> int:
    found: Sequence[int] = connection.execute(f"SELECT coalesce(max({column}), 0) FROM {table}").fetchone()
    return found[0]
