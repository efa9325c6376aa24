"""All benchmarks, in the order in which they run."""

from orchestrator.bench import acceptance, endtoend, footprint, growth, latency, stores, urgent

BENCHMARKS = (
    *acceptance.BENCHMARKS,
    *endtoend.BENCHMARKS,
    *latency.BENCHMARKS,
    *urgent.BENCHMARKS,
    *footprint.BENCHMARKS,
    *stores.BENCHMARKS,
    *growth.BENCHMARKS,
)
