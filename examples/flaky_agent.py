"""An agent that never manages: it shows how a failed attempt moves to another agent. `python flaky_agent.py`"""

from typing import Any

from orchestrator.workers import Agent, Retryable, Task

agent = Agent("flaky-1", location="edge-demo")


@agent.handles("analyze_heavy")
async def fail(_task: Task) -> dict[str, Any]:
    raise Retryable("this agent always fails")


if __name__ == "__main__":
    agent.run()
