"""The shared ledger: one PostgreSQL database, a writing connection for each replica, readers beside it."""
