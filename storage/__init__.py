"""Where things are kept: the ledger and the queue, as ports, and their implementations."""
