"""Faults of ours on the way to an answer: the log is told of each, and of nothing that it says."""

from orchestrator.telemetry import logger


def log_fault(error: BaseException) -> None:
    """One line with the kind of error: its message could quote what was sent."""
    logger().error("request_failed", error=type(error).__name__)
