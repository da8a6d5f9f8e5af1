"""What the cores of this process allow."""

from __future__ import annotations

import os

from engine.limits import INLINE_ALONE_US_MAX, INLINE_COMPUTE_US_MAX


def usable_cores() -> int:
    """Cores this process may run on: so many batches of a model in this process run at once unless told otherwise."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def short_us_max() -> int:
    """Of what computes and waits for nothing: batches expected to be shorter run on the thread that brought them."""
    return INLINE_COMPUTE_US_MAX if usable_cores() > 1 else INLINE_ALONE_US_MAX
