"""How long to wait before another attempt."""


def backoff(failures: int, base_s: float, cap_s: float, chance: float) -> float:
    """Seconds to wait after the `failures`-th failure: exponential with full jitter.

    `chance` is uniform in [0, 1). Source: M. Brooker, "Exponential Backoff And Jitter", AWS Architecture Blog, 2015.
    """
    return chance * min(cap_s, base_s * 2 ** min(max(failures - 1, 0), 30))
