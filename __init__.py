"""Takes work for AI agents, checks consent, decides who does it, gets it done, and proves what it decided."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from orchestrator.domain.agent import Agent as Agent
    from orchestrator.domain.task import Consent as Consent
    from orchestrator.domain.task import Priority as Priority
    from orchestrator.domain.task import TaskRequest as TaskRequest
    from orchestrator.embedding import Orchestrator as Orchestrator
    from orchestrator.embedding import create_app as create_app
    from orchestrator.embedding import load_settings as load_settings
    from orchestrator.web.on_uvicorn import HttpProtocol as HttpProtocol

__version__ = "0.1.0"

_OFFERED = {
    "Agent": "orchestrator.domain.agent",
    "Consent": "orchestrator.domain.task",
    "HttpProtocol": "orchestrator.web.on_uvicorn",
    "Orchestrator": "orchestrator.embedding",
    "Priority": "orchestrator.domain.task",
    "TaskRequest": "orchestrator.domain.task",
    "create_app": "orchestrator.embedding",
    "load_settings": "orchestrator.embedding",
}
"""What embedders import from here, and where it lives. Loaded when asked for, so that importing this costs nothing."""


def __getattr__(name: str) -> object:
    if name not in _OFFERED:
        raise AttributeError(name)
    from importlib import import_module

    return getattr(import_module(_OFFERED[name]), name)
