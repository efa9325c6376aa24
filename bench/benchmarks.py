"""All benchmarks, in the order in which they run."""

from orchestrator.bench import acceptance, endtoend, footprint, latency, urgent

BENCHMARKS = (
    *acceptance.BENCHMARKS,
    *endtoend.BENCHMARKS,
    *latency.BENCHMARKS,
    *urgent.BENCHMARKS,
    *footprint.BENCHMARKS,
)
