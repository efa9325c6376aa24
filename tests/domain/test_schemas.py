"""The published schemas are those of the types."""

import json
import runpy
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
DOCUMENTS: dict[str, str] = runpy.run_path(str(ROOT / "scripts" / "make_schemas.py"))["documents"]()


@pytest.mark.parametrize("name", DOCUMENTS)
def test_a_published_schema(name):
    """Is what the script makes of the types as they are now; where not, run scripts/make_schemas.py."""
    assert (ROOT / "schemas" / name).read_text("utf-8") == DOCUMENTS[name]


def test_which_there_are():
    """One for tasks and one for agents, and none that nobody keeps current."""
    assert sorted(path.name for path in (ROOT / "schemas").iterdir()) == ["agent_schema.json", "task_schema.json"]
    assert sorted(DOCUMENTS) == ["agent_schema.json", "task_schema.json"]


def objects(schema: Any) -> list[dict[str, Any]]:
    """Every schema within the schema that lists its properties."""
    if isinstance(schema, list):
        return [found for item in schema for found in objects(item)]
    if not isinstance(schema, dict):
        return []
    return [schema] * ("properties" in schema) + [found for value in schema.values() for found in objects(value)]


@pytest.mark.parametrize("name", DOCUMENTS)
def test_what_may_be_sent(name):
    """Only what is listed: no field of ours, such as a state or an attempt, can be slipped in (threats, S4)."""
    found = objects(json.loads(DOCUMENTS[name]))
    assert found
    assert all(schema["additionalProperties"] is False for schema in found)
