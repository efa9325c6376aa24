"""Cryptography: the one place that imports it. Keys come in as text, and never go out."""
