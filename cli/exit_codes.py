"""What a command's exit code says (sysexits(3)); docs/operations.md says what to do about each."""

INTERRUPTED = 128 + 2
"""After Ctrl-C, as shells have it."""

EXIT_CODES: dict[int, str] = {
    0: "well",
    1: "no: a task that failed, a chain that does not hold, a refusal",
    2: "settings or usage",
    65: "the database is damaged, or of a newer version",
    69: "something needed is not there",
    70: "the actors gave up",
    74: "the end of a commit is unknown",
    75: "the database belongs to another process",
    INTERRUPTED: "Ctrl-C",
}
"""The same numbers as in `serving.py`, which commands that only ask need not load."""


def epilog() -> str:
    """The table as the help shows it."""
    return "\b\nExit codes:\n" + "\n".join(f"  {code:>3}  {words}" for code, words in EXIT_CODES.items())
