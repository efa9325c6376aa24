"""The baseline of acceptance over HTTP: a Quart route on Hypercorn, written as usual, that stores nothing."""

import asyncio
import os
import uuid

from hypercorn.asyncio import serve  # pyright: ignore[reportUnknownVariableType]
from hypercorn.config import Config
from quart import Quart, request

app = Quart(__name__)


@app.post("/route_task")
async def route_task() -> tuple[dict[str, str], int]:
    """Takes JSON, gives JSON."""
    await request.get_json()
    return {"task_id": f"task-{uuid.uuid4().hex}", "status": "queued", "queue": "tasks:normal"}, 202


if __name__ == "__main__":
    config = Config()
    config.bind = [f"127.0.0.1:{os.environ['PORT']}"]
    asyncio.run(serve(app, config))  # pyright: ignore[reportArgumentType]
