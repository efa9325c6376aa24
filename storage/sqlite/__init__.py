"""The embedded ledger: one SQLite file, one writer, readers beside it."""
