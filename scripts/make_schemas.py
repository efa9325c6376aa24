"""Writes schemas/*.json: JSON Schemas of what clients and agents send, from the types that requests become.

Run it with the interpreter of `.venv` after a change to `domain/task.py` or `domain/agent.py`; a test says when.
"""

import inspect
import json
from pathlib import Path
from typing import Any, cast

import msgspec

from orchestrator.domain.agent import Registration
from orchestrator.domain.task import TaskRequest

FOLDER = Path(__file__).resolve().parent.parent / "schemas"
TYPES: dict[str, type[msgspec.Struct]] = {"task_schema.json": TaskRequest, "agent_schema.json": Registration}


def documents() -> dict[str, str]:
    """The text of each schema by the name of its file; the same for the same types."""
    return {name: _document(kind) for name, kind in TYPES.items()}


def _document(kind: type[msgspec.Struct]) -> str:
    """The type itself at the top of the schema, which any validator can do with, and what it refers to below it."""
    schema = msgspec.json.schema(kind)
    definitions: dict[str, Any] = schema.pop("$defs")
    top = {"$schema": "https://json-schema.org/draft/2020-12/schema", **definitions.pop(kind.__name__)}
    if definitions:
        top["$defs"] = dict(sorted(definitions.items()))
    return json.dumps(_tidied(top), indent=2, ensure_ascii=False) + "\n"


def _tidied(value: Any) -> Any:
    """Descriptions are docstrings: without the indentation of the source."""
    if isinstance(value, list):
        return [_tidied(item) for item in cast("list[Any]", value)]
    if not isinstance(value, dict):
        return value
    members = cast("dict[str, Any]", value)
    return {name: inspect.cleandoc(it) if name == "description" else _tidied(it) for name, it in members.items()}


def main() -> None:
    for name, text in documents().items():
        (FOLDER / name).write_text(text, "utf-8")
        print(f"schemas/{name}")


if __name__ == "__main__":
    main()
