"""What a newcomer sees first."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

PATIENCE_S = 100


@pytest.mark.timeout(2 * PATIENCE_S + 20)
def test_every_sample_case_comes_out_as_expected_the_first_and_the_second_time(tmp_path: Path) -> None:
    """`orchestrator demo --once` routes them to the reference agents; a second run on the same database does too."""
    environ = {name: value for name, value in os.environ.items() if name != "DATABASE_URL"}
    for _ in range(2):
        shown = subprocess.run(
            [sys.executable, "-m", "orchestrator", "demo", "--once", "--port", "0"],
            env=environ, cwd=tmp_path, capture_output=True, text=True, timeout=PATIENCE_S, check=False,
        )  # fmt: skip
        assert shown.returncode == 0, shown.stdout + shown.stderr
        assert "18 of 18 cases came out as expected." in shown.stdout
        assert "case-0003" in shown.stdout, "the refused case is in the table"
        assert "Traceback" not in shown.stderr
