"""Typed actors on anyio: mailboxes, requests with replies, supervision. Knows nothing of what the actors do."""
