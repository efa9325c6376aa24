"""Whether the result of a task may be handed out. Asked each time, since consent may end after the task did."""

from orchestrator.domain.task import Task


def withheld(task: Task, now: float, *, revoked: bool) -> str | None:
    """Why nobody may be given the result of `task` at `now` (seconds since the epoch); None when it may be given.

    What was done without raw media needs no consent, and so stays when one that was given has expired; but not when it
    was `revoked`: then the patient has said no to all of it.
    """
    if revoked:
        return "consent_revoked"
    if task.raw_media and not task.consent.holds(now):
        return "consent_expired"
    return None
