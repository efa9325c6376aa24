"""What the tests of deploy/ share: where it is."""

from pathlib import Path

import pytest


@pytest.fixture
def deploy() -> Path:
    return Path(__file__).resolve().parents[2] / "deploy"
