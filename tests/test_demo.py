"""What a newcomer sees first."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from orchestrator.demo import fits

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


def test_ctrl_c_ends_everything_in_order(tmp_path: Path) -> None:
    """It reaches the processes in front. We end with 0 and in silence, and each agent drains and signs off."""
    environ = {name: value for name, value in os.environ.items() if name != "DATABASE_URL"}
    with subprocess.Popen(
        [sys.executable, "-m", "orchestrator", "demo", "--port", "0"],
        env=environ, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True,
    ) as shown:  # fmt: skip
        try:
            assert shown.stdout is not None
            assert any("Ctrl-C ends it" in line for line in shown.stdout)
            os.killpg(shown.pid, signal.SIGINT)
            _, said = shown.communicate(timeout=PATIENCE_S)
        finally:
            shown.kill()
    assert (shown.returncode, said) == (0, "")
    for name in ("embedder-1", "modelreasoner-1", "flaky-1"):
        assert (tmp_path / "var" / f"{name}.log").read_text().endswith(f"{name} ended\n")


def test_a_demo_that_is_killed(tmp_path: Path) -> None:
    """Leaves no agent behind: each ends, drained, once nobody holds its input any more."""
    environ = {name: value for name, value in os.environ.items() if name != "DATABASE_URL"}
    with subprocess.Popen(
        [sys.executable, "-m", "orchestrator", "demo", "--port", "0"],
        env=environ, cwd=tmp_path, stdout=subprocess.PIPE, text=True,
    ) as shown:  # fmt: skip
        assert shown.stdout is not None
        assert any("Ctrl-C ends it" in line for line in shown.stdout)
        shown.kill()
    logs = [tmp_path / "var" / f"{name}.log" for name in ("embedder-1", "modelreasoner-1", "flaky-1")]
    until = time.monotonic() + PATIENCE_S
    while not all(log.read_text().endswith(" ended\n") for log in logs):
        assert time.monotonic() < until, [log.read_text()[-500:] for log in logs]
        time.sleep(0.05)


@pytest.mark.parametrize(
    ("expected", "fit"),
    [
        ({}, True), ({"a": 1}, True), ({"a": 2}, False), ({"c": None}, False), ({"b": [{"x": 1}]}, True),
        ({"b": [{"x": 2}]}, False), ({"b": [{"x": 1}, {}, {}]}, False), ({"b": {}}, False), ([], False),
    ],
)  # fmt: skip
def test_what_is_expected_of_a_case(expected: object, fit: bool) -> None:
    """It says the least that must come of it; one word otherwise, and the case is unexpected."""
    assert fits(expected, {"a": 1, "b": [{"x": 1, "y": 2}, {}]}) is fit
