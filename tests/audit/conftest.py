"""Makes this folder's helper importable, since tests are no packages; and no failure can hold up the end of a run."""

import aiosqlite
import pytest

pytest.register_assert_rewrite("signed_trail")


@pytest.fixture(autouse=True)
def threads_end_with_the_process(monkeypatch):
    """A test that fails before it closes its ledger must not keep the whole run from ending."""

    def connect(*args, real=aiosqlite.connect, **options):
        connection = real(*args, **options)
        connection._thread.daemon = True
        return connection

    monkeypatch.setattr(aiosqlite, "connect", connect)
