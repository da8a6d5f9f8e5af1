"""Where everything lies in an entity's record, as tables that kernels read: the one place that both sides of a layout share.

A hot record: header, one word pair a ring, scalars, sketches, tiles. A cold record: header, the same scalars, and the last few
events as they came. Both begin with the sequence word of `memory`. All offsets are bytes from the record's start.

header   0 sequence u32 | 4 check u32 | 8 key hash u64 | 16 newest event i64 (us)
ring     newest tile u32 | which of its tiles are alive, a bit each, u64
tile     count u32 [sum f64] [m2 f64] [min f64] [max f64] [first time i64, first value f64]
event    time i64 | bits u32 (a column has a value; a filter is true) | its columns
"""

from __future__ import annotations

from typing import Final

CHECK, KEY, NEWEST, HEADER_BYTES = 4, 8, 16, 24
RING_BYTES: Final = 12
PLACE_BYTES: Final = 8
EVENT_BITS, EVENT_COLUMNS = 8, 12
FREE_CHECK: Final = 0xFFFFFFFF
"""The `check` of a record that is nobody's; its key is then the slot + 1 of the next such."""

ETERNAL_S: Final = (1 << 32) - 1
ETERNAL_US: Final = ETERNAL_S * 1_000_000
"""The tile of what has no window: one tile holds all time."""

# Columns of RINGS: tile length in seconds, tiles, the ring's words, its bundles `first` to `end` - 1, its sketches of values.
# `BY_TILE_S` and `BY_TILES`: 2**63 / tile length and / tiles, rounded up, by which to divide without dividing.
(
    RING_TILE_S, RING_TILES, RING_AT, RING_BUNDLE, RING_BUNDLE_END, RING_TOP, RING_TOP_END, RING_BY_TILE_S, RING_BY_TILES,
) = range(0, 72, 8)  # fmt: skip

# Columns of BUNDLES: all moments of one column under one filter. `AT`: the first tile (or, eternal, the only one).
# Offsets of a field within a tile are 0 where it is not kept. `WHOLE`: it keeps sum, m2, min and max of a number, at TILE_*.
(
    B_COLUMN, B_MASK, B_AT, B_STRIDE, B_SUM, B_M2, B_MIN, B_MAX, B_FIRST, B_RING, B_NEED, B_KIND, B_VALUE_AT, B_WHOLE,
) = range(0, 112, 8)  # fmt: skip
TILE_SUM, TILE_M2, TILE_MIN, TILE_MAX, TILE_FIRST, TILE_END = 4, 12, 20, 28, 36, 36

# Columns of LASTS: time i64 and, unless `VALUE` is 0, a value of 8 bytes at `AT` + 8; an i64 if `CODE`.
L_COLUMN, L_MASK, L_AT, L_VALUE, L_FIRST, L_CODE, L_NEED, L_VALUE_AT = range(0, 64, 8)

# Columns of DECAYS (the half-life is an f64), one f64 at `AT`, as of the newest event.
D_COLUMN, D_MASK, D_AT, D_HALF_LIFE, D_NEED, D_KIND, D_VALUE_AT = range(0, 56, 8)

# Columns of DISTINCTS: 1 << `LOG2` words u32 at `AT`, each the second + 1 in which a value of that slot was last seen.
X_COLUMN, X_MASK, X_AT, X_LOG2, X_NEED, X_VALUE_AT = range(0, 48, 8)

# Columns of TOPS: `SLOTS` of value i64, alive u64, counts u32 [tiles of the ring].
T_COLUMN, T_MASK, T_AT, T_SLOTS, T_STRIDE, T_RING, T_NEED, T_VALUE_AT = range(0, 64, 8)

# Columns of COLUMNS.
C_KIND, C_AT = range(0, 16, 8)
NUMBER, HASH, CODE, NO_VALUE = range(4)
"""f64, the upper half of a u64 hash, i64: 8, 4 and 8 bytes of an event; where there is no column, nothing."""

# In any table, `NEED`: the bits of an event that counts (its column has a value, its filter is true); `KIND` and `VALUE_AT`: what
# its column is and where in an event.

NONE: Final = -1
"""No column, no filter, no ring."""


ROW_BYTES: Final = 128
"""Of every table."""

SIZES_BYTES: Final = 128
"""A plan is one block of int64 words: sizes, then address and rows of each table, then the tables."""

RINGS, BUNDLES, ETERNALS, LASTS, DECAYS, DISTINCTS, TOPS, COLUMNS, KEEPS, TABLES_END = range(
    SIZES_BYTES, SIZES_BYTES + 16 * 10, 16
)
"""Where a plan tells of a table. KEEPS: (tile length, tiles) of every window, after which a cold event may go; ETERNALS: as
BUNDLES, of what has no window."""

WINDOWS, AGGREGATES, FEATURES, READS_END = range(SIZES_BYTES, SIZES_BYTES + 16 * 4, 16)
"""Where a plan of reads, which is such a block too, tells of its tables."""

K_TILE_US, K_TILES = range(0, 16, 8)

(
    S_HOT_BYTES, S_COLD_BYTES, S_COLD_EVENTS, S_COLD_COUNT_AT, S_EVENTS_AT, S_EVENT_BYTES, S_SCALARS_AT_HOT,
    S_SCALARS_AT_COLD, S_SCALARS_BYTES, S_TTL_US, S_LATENESS_US, S_FUTURE_US, S_KEEP_ALL, S_MASKS,
) = range(0, 8 * 14, 8)  # fmt: skip
"""Sizes in a plan. `SCALARS_AT_*`: offsets of scalars are from these. `KEEP_ALL`: a cold event is never let go of."""

S_MAX_AGE_US: Final = 0
"""The one size in a plan of reads."""

# Words of a state's control block.
(
    M_HOT_USED, M_HOT_FREE, M_COLD_USED, M_COLD_FREE, M_ENTITIES, M_INDEXED, M_IDS, M_GENERATION, M_ENTITIES_MAX,
    M_HOT_LIVE,
) = range(0, 8 * 10, 8)  # fmt: skip
CONTROL_WORDS: Final = 16

# Words of the block that says where a state is: addresses, and how many words the index and the set of event ids have. An index
# word has a tag in its upper half, in the lower the slot + 1 and, bit 31, whether hot; an id of 0 is none.
(
    MEMORY_INDEX, MEMORY_INDEX_WORDS, MEMORY_CONTROL, MEMORY_HOT, MEMORY_COLD, MEMORY_IDS, MEMORY_ID_TIMES, MEMORY_ID_WORDS,
) = range(0, 8 * 8, 8)  # fmt: skip

# Rows of what tells of a batch of events: (address, type, validity bitmap's address or 0, first element).
SOURCE_TIME, SOURCE_KEY, SOURCE_CHECK, SOURCE_ID, SOURCE_ARRIVAL, SOURCE_WHERE, SOURCE_COLUMNS = range(7)
P_ADDRESS, P_TYPE, P_VALID, P_FIRST = range(0, 32, 8)
SOURCE_BYTES: Final = 32
F64, F32, I64, I32, I16, I8, U64, U32, U16, U8, BITS = range(11)
"""What `P_TYPE` may be; BITS: a bitmap."""

# What became of an event.
APPLIED, DUPLICATE, FILTERED, NO_KEY, NO_TIME, NO_ID, FUTURE, LATE, OUT_OF_TIME = range(9)

TIME_MAX_US: Final = (1 << 32) * 1_000_000 - 2_000_000
"""Seconds are kept in 32 bits: times from 1970 to 2106."""
