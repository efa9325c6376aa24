"""The page of threats and defences: each names tests, and each of these is there."""

import re
from pathlib import Path

import pytest

TESTS = Path(__file__).parent
PAGE = (TESTS.parent / "docs" / "security.md").read_text("utf-8")
HEADING = "| threat | defence | test |"


def rows() -> list[list[str]]:
    """The cells of each line of the table."""
    lines = PAGE.split(HEADING)[1].split("\n\n")[0].splitlines()[2:]
    return [[cell.strip() for cell in line.strip("| ").split(" | ")] for line in lines]


ROWS = rows()


def test_there_is_a_table() -> None:
    """One for all, and no line of it is broken."""
    assert PAGE.count(HEADING) == 1
    assert len(ROWS) > 40
    assert [row for row in ROWS if len(row) != 3] == []


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row[0][:60])
def test_defence_and_its_tests(row: list[str]) -> None:
    """Each threat has a defence, and tests that exist and test something; or it says why there can be none."""
    _, defence, tests = row
    assert defence
    named = re.findall(r"`([\w/]+\.py)`", tests)
    assert named or tests.startswith("no test: "), tests
    for name in named:
        text = (TESTS / name).read_text("utf-8")
        assert "def test_" in text or not Path(name).name.startswith(("test_", "conformance")), name
