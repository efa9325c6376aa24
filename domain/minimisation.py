"""What of a task an agent is handed: as little as it needs."""

from typing import Any

from orchestrator.domain.agent import Agent
from orchestrator.domain.policy import Policy
from orchestrator.domain.raw_media import without_raw_media
from orchestrator.domain.task import Task


def handed_to(agent: Agent, task: Task, now: float, policy: Policy) -> tuple[dict[str, Any], dict[str, Any]]:
    """Payload and meta as `agent` may see them at `now` (seconds since the epoch).

    Raw media is taken out of both for an agent that is not one for raw media, unless the task's type needs it; for one
    that has no right to it; and for every agent, without consent.
    """
    if not task.raw_media:
        return task.payload, task.meta
    meant_for_it = not policy.raw_media_capabilities.isdisjoint(agent.capabilities)
    needed = meant_for_it or policy.task_types[task.task_type].raw_media
    if task.consent.holds(now) and needed and not agent.without_raw_media:
        return task.payload, task.meta
    keys = policy.raw_media_keys
    return without_raw_media(task.payload, keys), without_raw_media(task.meta, keys)
