"""When each request of an open loop is due. Pure: a seed in, instants out."""

import numpy as np
from numpy.typing import NDArray

NS_PER_S = 1_000_000_000


def poisson_offsets_ns(*, rate_per_s: float, duration_s: float, seed: int) -> NDArray[np.int64]:
    """Ascending arrival instants in ns after the start, all below `duration_s`; the same seed gives the same instants.

    The gaps are exponential with mean 1 / `rate_per_s`, so arrivals form a Poisson process. Raises ValueError unless
    both rate and duration are above zero.
    """
    if rate_per_s <= 0 or duration_s <= 0:
        raise ValueError(f"rate and duration must be above zero, not {rate_per_s} per s and {duration_s} s")
    random = np.random.default_rng(seed)
    mean = rate_per_s * duration_s
    block = int(mean + 6 * mean**0.5 + 16)
    arrivals_s = np.cumsum(random.exponential(1 / rate_per_s, block))
    while arrivals_s[-1] < duration_s:
        more = arrivals_s[-1] + np.cumsum(random.exponential(1 / rate_per_s, block))
        arrivals_s = np.concatenate([arrivals_s, more])
    kept = arrivals_s[arrivals_s < duration_s]
    return (kept * NS_PER_S).astype(np.int64)
