"""The kit for writing an agent, and the two reference agents (`embedder_worker`, `modelreasoner_worker`)."""

from orchestrator.workers.agent import Agent
from orchestrator.workers.options import Options, agent_parser
from orchestrator.workers.task import AgentError, Permanent, Retryable, Task

__all__ = ["Agent", "AgentError", "Options", "Permanent", "Retryable", "Task", "agent_parser"]
