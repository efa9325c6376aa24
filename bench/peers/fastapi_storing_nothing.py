"""The baseline of acceptance on uvicorn: a FastAPI route, written as usual, that stores nothing."""

import uuid
from typing import Any, Literal

from fastapi import FastAPI
from pydantic import BaseModel

app = FastAPI()


class Task(BaseModel):
    """What comes in."""

    case_id: str
    task_type: str
    payload: dict[str, Any]
    priority: Literal["urgent", "high", "normal", "low"] = "normal"
    idempotency_key: str | None = None
    meta: dict[str, Any] = {}


class Queued(BaseModel):
    """What goes out."""

    task_id: str
    status: str
    queue: str


@app.post("/route_task", status_code=202)
async def route_task(task: Task) -> Queued:
    """Takes JSON, gives JSON."""
    return Queued(task_id=f"task-{uuid.uuid4().hex}", status="queued", queue=f"tasks:{task.priority}")
