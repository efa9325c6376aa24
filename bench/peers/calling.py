"""What the task of every peer does: the call that the orchestrator makes, to the same agent."""

import os
from typing import Any

ENDPOINT = os.environ.get("AGENT", "") + "/call"
BROKER = os.environ.get("BROKER", "")
PAYLOAD = {
    "text": "a payload of about so many bytes, as they come from a device that measures something and writes it down",
    "kind": "height",
    "value": 87.1,
}


def body(number: int) -> dict[str, Any]:
    """Of the call for that task."""
    return {
        "request_id": f"task-{number:032x}",
        "case_id": f"case-{number}",
        "task_type": "embed",
        "payload": PAYLOAD,
        "meta": {"site": "clinic-1"},
    }
