"""All benchmarks, in the order in which they run."""

from orchestrator.bench import acceptance, endtoend

BENCHMARKS = (*acceptance.BENCHMARKS, *endtoend.BENCHMARKS)
