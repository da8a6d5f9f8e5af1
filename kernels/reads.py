"""What a lookup computes, as tables that kernels read; and which tiles a window is made of."""

from __future__ import annotations

import numpy as np

from kernels.compiled import kernel
from kernels.memory import load_u32
from kernels.record import S_COLD_BYTES, S_COLD_COUNT_AT, S_EVENT_BYTES, S_EVENTS_AT
from kernels.tables import size

# Window kinds.
SAWTOOTH, SLIDING, TUMBLING, ETERNAL = range(4)

# Columns of WINDOWS: moments of one bundle (of ETERNALS where the kind is ETERNAL) in one window.
W_BUNDLE, W_KIND, W_LENGTH_US, W_TILE_US = range(0, 32, 8)

# Columns of AGGREGATES: operation, what of (a window, or an entry of the plan's table), and for those the plan keeps
# outside of tiles, their window.
A_OPERATION, A_OF, A_KIND, A_LENGTH_US, A_TILE_US = range(0, 40, 8)

# Columns of FEATURES: operation, up to three aggregates, and the rank of a most frequent value.
F_OPERATION, F_FIRST, F_SECOND, F_THIRD, F_RANK = range(0, 40, 8)

COUNT, SUM, MEAN, MIN, MAX, VARIANCE, STDDEV, FIRST, LAST, SINCE, SINCE_ANY, DECAYED, DISTINCT, TOP = range(14)
TAKEN, RATIO, Z_SCORE, RANKED, ELSEWHERE = range(5)
"""Of features; ELSEWHERE: not computed here."""


@kernel()
def tile_span(kind: int, length_us: int, tile_us: int, as_of_us: int) -> tuple[int, int]:
    """First and last tile of a window, both included. See `engine.features.window`."""
    if kind == ETERNAL:
        return 0, 0
    head = as_of_us // tile_us
    if kind == TUMBLING:
        return head, head
    if kind == SLIDING:
        return head - length_us // tile_us, head - 1
    return (as_of_us - length_us) // tile_us, head


@kernel(inline="always")
def cold_count(plan: int, record: int) -> int:
    """Events of a cold record; bounded, because a record that is being written may say anything."""
    room = (size(plan, S_COLD_BYTES) - size(plan, S_EVENTS_AT)) // size(plan, S_EVENT_BYTES)
    return min(np.int64(load_u32(record + size(plan, S_COLD_COUNT_AT))), room)
