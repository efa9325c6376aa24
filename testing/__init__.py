"""For tests, ours and those of embedders: a world without surprises, and stress for what starts and stops."""

from orchestrator.testing.history import check_history, trail
from orchestrator.testing.service import PATIENCE_S, SUCCESS, Reply, Script, ScriptedAgent, Seen, Service, a_task
from orchestrator.testing.stress import stress_start_stop
from orchestrator.testing.world import Part, ScriptedAgents, a_request, an_agent, embedded, virtual_environment

__all__ = [
    "PATIENCE_S",
    "SUCCESS",
    "Part",
    "Reply",
    "Script",
    "ScriptedAgent",
    "ScriptedAgents",
    "Seen",
    "Service",
    "a_request",
    "a_task",
    "an_agent",
    "check_history",
    "embedded",
    "stress_start_stop",
    "trail",
    "virtual_environment",
]
