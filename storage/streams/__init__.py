"""Streams between processes: Redis, and the queue that they feed."""
