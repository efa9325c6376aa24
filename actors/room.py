"""How many tasks the agents could take at a moment, where several tasks are taken from the queue together."""

from collections import Counter
from collections.abc import Callable, Sequence

from orchestrator.domain.agent import AgentView
from orchestrator.domain.task import Priority
from orchestrator.storage.ports import Ticket

Able = Callable[[Ticket], Sequence[AgentView] | None]
"""Who may do the tasks of a ticket's lane now, best first; None where they go on without an agent."""


class Room:
    """Of one moment: asks `able` once for each line, and counts what was taken since."""

    def __init__(self, able: Able) -> None:
        self._able = able
        self._agents: dict[tuple[Priority, str], Sequence[AgentView] | None] = {}
        self._taken: Counter[str] = Counter()

    def has(self, ticket: Ticket) -> bool:
        """Whether there is a slot for the ticket beside those that were taken."""
        agents = self._who(ticket)
        return agents is None or any(self._free(view, ticket) > 0 for view in agents)

    def take(self, ticket: Ticket) -> None:
        """Counts a slot of the best agent that has one."""
        for view in self._who(ticket) or ():
            if self._free(view, ticket) > 0:
                self._taken[view.agent.agent_id] += 1
                return

    def _free(self, view: AgentView, ticket: Ticket) -> int:
        return view.free(urgent=ticket.priority is Priority.URGENT) - self._taken[view.agent.agent_id]

    def _who(self, ticket: Ticket) -> Sequence[AgentView] | None:
        line = (ticket.priority, ticket.lane)
        if line not in self._agents:
            self._agents[line] = self._able(ticket)
        return self._agents[line]
