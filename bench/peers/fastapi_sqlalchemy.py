"""What a user would write instead: FastAPI, SQLAlchemy on SQLite for audit and keys, a Redis stream for the work.

It promises less: the queue is not durable, the audit is no chain, and nothing is decided.
"""

import json
import os
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any

from fastapi import FastAPI, HTTPException
from fastapi_storing_nothing import Queued, Task
from redis.asyncio import Redis
from sqlalchemy import String, event
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker, create_async_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

engine = create_async_engine("sqlite+aiosqlite:///user.db", connect_args={"timeout": 30})
sessions = async_sessionmaker(engine, expire_on_commit=False)
redis = Redis.from_url(os.environ["REDIS_URL"])


class Base(DeclarativeBase):
    """Tables."""


class IdempotencyKey(Base):
    """Which task a key belongs to."""

    __tablename__ = "idempotency_keys"
    key: Mapped[str] = mapped_column(String(255), primary_key=True)
    task_id: Mapped[str]


class AuditEntry(Base):
    """What was accepted."""

    __tablename__ = "audit_entries"
    id: Mapped[int] = mapped_column(primary_key=True)
    task_id: Mapped[str] = mapped_column(index=True)
    case_id: Mapped[str] = mapped_column(index=True)
    decision: Mapped[str]
    created_at: Mapped[datetime]


@event.listens_for(engine.sync_engine, "connect")
def durable(connection: Any, _: Any) -> None:
    """A write-ahead log that is on the disk at each commit."""
    cursor = connection.cursor()
    cursor.execute("PRAGMA journal_mode = WAL")
    cursor.execute("PRAGMA synchronous = FULL")
    cursor.close()


@asynccontextmanager
async def lifespan(_: FastAPI) -> AsyncIterator[None]:
    """Makes the tables."""
    async with engine.begin() as connection:
        await connection.run_sync(Base.metadata.create_all)
    yield


app = FastAPI(lifespan=lifespan)


@app.post("/route_task", status_code=202)
async def route_task(task: Task) -> Queued:
    """Stores key and audit, then queues."""
    task_id = f"task-{uuid.uuid4().hex}"
    session: AsyncSession
    async with sessions() as session:
        if task.idempotency_key:
            session.add(IdempotencyKey(key=task.idempotency_key, task_id=task_id))
        decision = json.dumps({"queue": task.priority})
        session.add(AuditEntry(task_id=task_id, case_id=task.case_id, decision=decision, created_at=datetime.now(UTC)))
        try:
            await session.commit()
        except IntegrityError:
            raise HTTPException(409, "duplicate") from None
    await redis.xadd(f"tasks:{task.priority}", {"task_id": task_id, "data": task.model_dump_json()})
    return Queued(task_id=task_id, status="queued", queue=f"tasks:{task.priority}")
