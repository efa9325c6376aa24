"""The actors: each owns one thing, speaks only `messages`, and may crash alone."""
