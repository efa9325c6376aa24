"""The address that `orchestrator serve` says on standard error, among whatever it logs meanwhile."""

import subprocess


def url_said(server: "subprocess.Popen[str]") -> str:
    """Waits for it. Raises AssertionError where the process ends without."""
    assert server.stderr
    logged = list[str]()
    for line in server.stderr:
        if line.startswith("serving on "):
            return line.split()[-1]
        logged.append(line)
    raise AssertionError("".join(logged))
