"""The HTTP surface: translates between JSON and the domain, and commits nothing itself."""
